"""What a report is made of, before it becomes Markdown, LaTeX or a web page. Texts are plain; writers escape them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from matplotlib.figure import Figure as Drawing

from affekt.report import plots


@dataclass(frozen=True, slots=True)
class Heading:
    """Starts a section."""

    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True, slots=True)
class Code:
    """Lines to be typed as they stand."""

    text: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning that no reader may miss."""

    text: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A figure that stands for itself, e.g. the best system's UA."""

    label: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class Facts:
    """A few figures to begin with."""

    items: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column names the row.

    Attributes:
        caption: what it shows.
        columns: their headings.
        rows: as many cells each.
        quoted: positions of columns that were not measured but quoted; writers set them apart.
        note: how to read it.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    quoted: frozenset[int] = frozenset()
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """One plot.

    Attributes:
        name: unique in the document; a file name without its ending.
        title: what it shows, for those who cannot see it as well.
    """

    name: str
    title: str
    drawing: Drawing

    @cached_property
    def svg(self) -> str:
        """The drawing as SVG, which two of the formats show."""
        return plots.svg(self.drawing, self.name)


@dataclass(frozen=True, slots=True)
class Figure:
    """Plots under one caption."""

    caption: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """Names, one a line, that may be many."""

    caption: str
    items: tuple[str, ...]


Block = Heading | Paragraph | Code | Notice | Facts | Table | Figure | Listing


@dataclass(frozen=True, slots=True)
class Document:
    """A report.

    Attributes:
        title: of the document.
        protocol_line: which corpus, split, seeds, and what training and test share.
        blocks: in reading order.
        name: of its file, without the ending.
    """

    title: str
    protocol_line: str
    blocks: tuple[Block, ...]
    name: str = "report"
