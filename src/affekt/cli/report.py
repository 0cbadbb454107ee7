"""`affekt report`: run directories as tables, tests and plots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from affekt.cli.framework.arguments import Option
from affekt.errors import ConfigError
from affekt.report import FORMATS, Format, Projection, print_table, write_report, write_study
from affekt.report.tracking import TRACKERS, Tracker
from affekt.results import Results, summarize, write_summary


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
    """Tables, paired tests and plots of an experiment, finished or not; several together as a study.

    Every file of a run is checked against its hash first; a damaged job is named, and nothing is reported.

    Args:
        run: run directory, as `affekt experiment -o` makes it.
        runs: more of them, e.g. under another protocol: the report is then a study, which compares them.
        out: where the report goes; by default into the run directory. A study needs one.
        formats: html (one page that needs no network), markdown, latex; several by repeating the option.
        baseline: the system that all others are compared with; by default the one called baseline, else the first.
        projection: how deep features are shown on the plane: pca or tsne.
        track: tensorboard or mlflow: hand the histories of all jobs to these tools, too; both by repeating the option.
    """
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
    for path in write_study(study, out, formats):
        print(path)
    return 0
