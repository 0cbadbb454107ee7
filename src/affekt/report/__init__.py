"""Reports: a summary and its run shown as Markdown, LaTeX, one self-contained web page, or a table in the terminal.

Nothing is measured here: every figure comes from :func:`affekt.results.summarise`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from affekt.errors import ConfigError
from affekt.report.terminal import print_table

if TYPE_CHECKING:
    from affekt.results import Results

Format = Literal["html", "markdown", "latex"]
Projection = Literal["pca", "tsne"]
FORMATS: tuple[Format, ...] = get_args(Format)

__all__ = ["FORMATS", "Format", "Projection", "print_table", "write_report"]


def write_report(
    results: Results,
    folder: str | Path,
    formats: Sequence[Format] = FORMATS,
    *,
    summary: Mapping[str, Any] | None = None,
    projection: Projection = "pca",
) -> list[Path]:
    """Write report.html, report.md and report.tex, the latter two with their plots in `figures/`.

    Args:
        results: the run to show.
        folder: where to; made if missing, and equal names in it are replaced.
        formats: any of :data:`FORMATS`.
        summary: of the run, if it is already there; else it is computed with its defaults.
        projection: of the deep features onto the plane.

    Returns:
        The files, in the order of the formats; plots are not among them.

    Raises:
        ConfigError: an unknown format.
    """
    if unknown := sorted(set(formats) - set(FORMATS)):
        raise ConfigError("report format", got=", ".join(map(repr, unknown)), expected=f"some of {', '.join(FORMATS)}")
    # Plots need matplotlib, which takes a second to import: whoever only prints a table does not wait for it.
    from affekt.report import html, latex, markdown
    from affekt.report.content import describe
    from affekt.results import summarise

    document = describe(results, summary or summarise(results), projection)
    writers = {"html": html.write, "markdown": markdown.write, "latex": latex.write}
    return [writers[name](document, Path(folder)) for name in formats]
