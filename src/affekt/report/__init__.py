"""Reports of a run as Markdown, LaTeX, one self-contained web page, or a table in the terminal.

Nothing is computed here: every figure comes from :func:`affekt.results.summarize`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from affekt.errors import ConfigError

if TYPE_CHECKING:
    from affekt.report.document import Document
    from affekt.results import Results
    from affekt.results.ablation import Ablation
    from affekt.results.recipe_choice import RecipeChoice
    from affekt.results.study import Study

Format = Literal["html", "markdown", "latex"]
Projection = Literal["pca", "tsne"]
Tracker = Literal["tensorboard", "mlflow"]
FORMATS: tuple[Format, ...] = get_args(Format)

__all__ = ["FORMATS", "Format", "Projection", "Tracker", "write_report", "write_study"]


def write_report(
    results: Results,
    folder: str | Path,
    formats: Sequence[Format] = FORMATS,
    *,
    summary: Mapping[str, Any] | None = None,
    projection: Projection = "pca",
) -> list[Path]:
    """Write report.html, report.md and report.tex; the plots of the latter two are in `figures/`.

    Args:
        results: the run to show.
        folder: output folder; created if missing. Existing reports in it are replaced.
        formats: any of :data:`FORMATS`.
        summary: of the run; None: computed with the defaults of :func:`affekt.results.summarize`.
        projection: of the deep features onto the plane: `pca` or `tsne`.

    Returns:
        Paths of the reports, in the order of the formats; without the plots.

    Raises:
        ConfigError: an unknown format.
    """
    _check(formats)
    # Only plots need matplotlib, which takes a second to import.
    from affekt.report.content import describe
    from affekt.results import summarize

    return _write(describe(results, summary or summarize(results), projection), Path(folder), formats)


def write_study(
    study: Study,
    folder: str | Path,
    formats: Sequence[Format] = FORMATS,
    ablations: Sequence[Ablation] = (),
    choice: RecipeChoice | None = None,
    plan: bool = True,
) -> list[Path]:
    """Write study.html, study.md and study.tex: a report on several runs, with a page for each run in `study/`.

    Args:
        study: the runs.
        folder: output folder; created if missing. Existing reports in it are replaced.
        formats: any of :data:`FORMATS`.
        ablations: of the robust recipe.
        choice: the trainings by which the recipe of the encoder was chosen.
        plan: whether to report on the study plan too.

    Returns:
        Paths of the reports, in the order of the formats, then those of the pages.

    Raises:
        ConfigError: an unknown format.
    """
    _check(formats)
    from affekt.report.study_text import PAGES, describe_study, run_pages

    written = _write(describe_study(study, choice, plan), Path(folder), formats)
    pages = run_pages(study, ablations)
    return [*written, *(path for page in pages for path in _write(page, Path(folder) / PAGES, formats))]


def _check(formats: Sequence[str]) -> None:
    if unknown := sorted(set(formats) - set(FORMATS)):
        raise ConfigError("report format", got=", ".join(map(repr, unknown)), expected=f"some of {', '.join(FORMATS)}")


def _write(document: Document, folder: Path, formats: Sequence[Format]) -> list[Path]:
    from affekt.report import html, latex, markdown

    writers = {"html": html.write, "markdown": markdown.write, "latex": latex.write}
    return [writers[name](document, folder) for name in formats]
