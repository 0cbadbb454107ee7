"""`affekt fuse`: late fusion of finished systems of a run."""

from __future__ import annotations

from pathlib import Path


def fuse(run: Path, /, *, systems: str, name: str = "fused") -> int:
    """Add the late fusion of trained systems to a run's tables and tests.

    The fused probabilities are the mean of the members' calibrated probabilities. Nothing is trained or weighted.

    Args:
        run: run directory of `affekt experiment`; the results of the fused system are written into it.
        systems: names of the members, separated by commas.
        name: name of the fused system.
    """
    from affekt.report import write_report
    from affekt.report.terminal import print_table
    from affekt.results import fuse as fuse_systems
    from affekt.results import summarize, write_summary

    results = fuse_systems(run, [member.strip() for member in systems.split(",")], name)
    summary = summarize(results)
    write_summary(summary, run / "summary.json")
    written = write_report(results, run, summary=summary)
    print_table(summary)
    for path in written:
        print(path)
    return 0
