"""`affekt report`: run directories as tables, tests and plots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from affekt.cli.framework.arguments import Option
from affekt.errors import ConfigError
from affekt.report import FORMATS, Format, Projection, Tracker, write_report, write_study


def report(
    run: Path,
    /,
    *runs: Path,
    out: Annotated[Path | None, Option("-o")] = None,
    formats: tuple[Format, ...] = FORMATS,
    baseline: str | None = None,
    projection: Projection = "pca",
    track: tuple[Tracker, ...] = (),
) -> int:
    """Write tables, paired tests and plots of an experiment, finished or not; of several, as a study.

    Every file of a run is checked against its hash first. If a job is damaged, it is named and no report is written.

    Args:
        run: run directory of `affekt experiment`.
        runs: further run directories, e.g. under another protocol; the report is then a study that compares them.
        out: folder for the report; by default the run directory. Required for a study.
        formats: html (one self-contained page), markdown, latex; repeat the option for several.
        baseline: system that the others are compared with; by default `baseline`, else the first.
        projection: projection of the deep features for their plot: pca or tsne.
        track: also log the histories of all jobs to tensorboard or mlflow; repeat the option for both.
    """
    from affekt.report.terminal import print_table
    from affekt.report.tracking import TRACKERS
    from affekt.results import Results, summarize, write_summary

    if runs:
        return _study((run, *runs), out, formats)
    results = Results.read(run)
    summary = summarize(results, baseline)
    folder = out or run
    write_summary(summary, folder / "summary.json")
    written = write_report(results, folder, formats, summary=summary, projection=projection)
    print_table(summary)
    for path in written:
        print(path)
    for name in track:
        print(TRACKERS[name](results, folder))
    return 0


def _study(runs: tuple[Path, ...], out: Path | None, formats: tuple[Format, ...]) -> int:
    from affekt.results.study import Study

    if out is None:
        raise ConfigError("-o", got="nothing", expected="a folder for the report on several runs")
    study = Study.read(runs)
    for path in write_study(study, out, formats, plan=False):
        print(path)
    return 0
