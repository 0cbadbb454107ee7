"""The rows as text, as Markdown and as a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.rows import Row, short

COLUMNS = ("work", "ours", "peer", "ratio", "limit", "share", "target", "")


def cells(row: Row) -> tuple[str, ...]:
    """Cells of a row, one for each of :data:`COLUMNS`."""
    share, met = row.share, row.met
    return (
        row.work,
        str(row.ours) if row.ours else "not measured",
        f"{row.peer}: {row.theirs}" if row.theirs else row.peer,
        str(row.ratio) if row.ratio else "",
        f"{row.limit}: {short(row.limit_value)}" if row.limit_value else row.limit,
        "" if share is None else f"{share:.0%}",
        str(row.target or ""),
        "" if met is None else "met" if met else "unmet",
    )


def text(rows: Sequence[Row]) -> str:
    """The table in aligned columns, with notes below."""
    lines = [COLUMNS, *map(cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    table = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*table, "", *_notes(rows)])


def markdown(rows: Sequence[Row], facts: Mapping[str, Any], title: str) -> str:
    """The table as a Markdown page, with machine and notes."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *map(cells, rows)]
    table = ["| " + " | ".join(word.replace("|", "/") for word in line) + " |" for line in lines]
    known = [f"* {name}: {value}" for name, value in facts.items()]
    notes = [f"* {note}" for note in _notes(rows)]
    return "\n".join([f"# {title}", "", *known, "", *table, "", *notes, ""])


def plot(rows: Sequence[Row], path: Path) -> None:
    """Plot seconds and memory by size, one column per row with points, on logarithmic axes."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    grown = [row for row in rows if row.points]
    figure, axes = pyplot.subplots(2, len(grown), figsize=(4 * len(grown), 6), squeeze=False, layout="constrained")
    for (above, below), row in zip(axes.T, grown, strict=True):
        sizes, seconds, megabytes = zip(*sorted(row.points), strict=True)
        above.loglog(sizes, seconds, "o-")
        below.semilogx(sizes, megabytes, "o-")
        below.set_ylim(0, 1.2 * max(megabytes))
        above.set_title(row.work, fontsize=9, wrap=True)
    axes[0, 0].set_ylabel("seconds")
    axes[1, 0].set_ylabel("largest memory, MB")
    path.parent.mkdir(parents=True, exist_ok=True)
    with pyplot.rc_context({"svg.hashsalt": "affekt"}):
        figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)


def _notes(rows: Sequence[Row]) -> list[str]:
    return [f"{row.work}: {row.note}" for row in rows if row.note]
