"""`affekt fuse`: finished systems of a run vote."""

from __future__ import annotations

from pathlib import Path

from affekt.report import print_table, write_report
from affekt.results import fuse as fuse_systems
from affekt.results import summarize, write_summary


def fuse(run: Path, /, *, systems: str, name: str = "fused") -> int:
    """Let trained systems of a run vote: a fused system, in the run's own tables and tests.

    Its posterior is the mean of its members' calibrated posteriors. Nothing is trained, and no weight is chosen.

    Args:
        run: run directory, as `affekt experiment -o` makes it; the fused system's results are written into it.
        systems: the members' names, separated by commas.
        name: of the fused system.
    """
    results = fuse_systems(run, [member.strip() for member in systems.split(",")], name)
    summary = summarize(results)
    write_summary(summary, run / "summary.json")
    written = write_report(results, run, summary=summary)
    print_table(summary)
    for path in written:
        print(path)
    return 0
