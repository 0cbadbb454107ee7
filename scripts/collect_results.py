"""Copy the results of a run, without its weights, into results/.

python scripts/collect_results.py runs/emodb-random results/emodb-random

The predictions, histories and results of all jobs are packed; the geometry of the deep features is copied as a table,
with the hashes of the features. `affekt report results/RUN -o FOLDER` writes the report of a copy, and
`affekt experiment` resumes it. Of a run that was only planned (`affekt experiment --plan`), the plan and the costs are
copied.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from affekt.results import Results, RunDirectory, summarize, write_geometry
from affekt.results.published_copy import copy_published
from affekt.results.run_directory import GEOMETRY
from affekt.runtime.atomic_files import write_bytes


def collect(run: Path, target: Path) -> None:
    """Copy the small files of a run, and write its summary.

    Plots of deep features that an earlier copy has are kept, since the features are not published.
    """
    directory = RunDirectory(run)
    results = Results.read(run) if directory.has_results else None
    drawn = {path.name: path.read_bytes() for path in target.glob("figures/projection-*.svg")}
    copy_published(run, target)
    for name, content in drawn.items():
        write_bytes(target / "figures" / name, content)
    if results is None:
        return
    write_geometry(results, target / GEOMETRY)
    RunDirectory(target).write_summary(summarize(results))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    collect(arguments.run, arguments.target)
