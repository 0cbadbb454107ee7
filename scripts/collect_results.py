"""Copy what a run measured, but not its weights, into results/: small files that a reader can check.

python scripts/collect_results.py runs/emodb-random results/emodb-random
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from affekt.experiment import STATE
from affekt.report import write_report
from affekt.results import Results, summarise, write_summary

LEFT_BEHIND = shutil.ignore_patterns("*.safetensors", "*.npy", STATE, ".*", "corpus", "cache", "figures", "report.*")


def collect(run: Path, target: Path) -> None:
    """Copy a run's small files, and write its summary and its report in Markdown beside them."""
    results = Results.read(run)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(run, target, ignore=LEFT_BEHIND)
    write_summary(summarise(results), target / "summary.json")
    write_report(results, target, ("markdown",))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    collect(arguments.run, arguments.target)
