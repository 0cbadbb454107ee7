"""Copy what a run measured, but not its weights, into results/: small files that a reader can check.

python scripts/collect_results.py runs/emodb-random results/emodb-random

The geometry of the deep features goes along as a table, with the hashes of the features that it was computed from. Of a
run that was only planned (`affekt experiment --plan`) the plan and the costs are copied.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from affekt.experiments.experiment import STATE
from affekt.report import write_report
from affekt.results import Results, summarize, write_geometry, write_summary
from affekt.runtime.atomic_files import write_bytes

LEFT_BEHIND = shutil.ignore_patterns("*.safetensors", "*.npy", STATE, ".*", "corpus", "cache", "figures", "report.*")


def collect(run: Path, target: Path) -> None:
    """Copy a run's small files, and write its summary and its report in Markdown beside them.

    Drawings of deep features that an earlier copy has and this run has no more are kept.
    """
    begun = any(run.glob("*/fold-*/seed-*/result.json"))
    results = Results.read(run) if begun else None
    drawn = {path.name: path.read_bytes() for path in target.glob("figures/projection-*.svg")}
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(run, target, ignore=LEFT_BEHIND)
    if results is None:
        return
    write_geometry(results, target / "geometry.csv")
    write_summary(summarize(results), target / "summary.json")
    write_report(results, target, ("markdown",))
    for name, content in drawn.items():
        if not (target / "figures" / name).exists():
            write_bytes(target / "figures" / name, content)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    collect(arguments.run, arguments.target)
