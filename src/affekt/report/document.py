"""The blocks of a report, independent of the output format. Texts are plain; the writers escape them."""

from __future__ import annotations

import re
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
    """A paragraph of text."""

    text: str


@dataclass(frozen=True, slots=True)
class Code:
    """Commands, verbatim."""

    text: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A prominent warning."""

    text: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A key figure, e.g. the best system's UA."""

    label: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Key figures at the top of a report."""

    items: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column names the row.

    Attributes:
        caption: of the table.
        columns: their headings.
        rows: one cell per column.
        quoted: positions of quoted columns; writers set them apart from measured ones.
        note: explanation below the table.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    quoted: frozenset[int] = frozenset()
    note: str = ""

    def is_text(self, column: int) -> bool:
        """Whether a column holds words, which are aligned at the left and may wrap."""
        return any(re.search(r"[A-Za-z]{3}", row[column]) for row in self.rows)


@dataclass(frozen=True)
class Panel:
    """One plot.

    Attributes:
        name: unique in the document; the file name without its suffix.
        title: alternative text.
    """

    name: str
    title: str
    drawing: Drawing

    @cached_property
    def svg(self) -> str:
        """The drawing as SVG, used by two formats."""
        return plots.svg(self.drawing, self.name)


@dataclass(frozen=True, slots=True)
class Figure:
    """Plots with a common caption."""

    caption: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """A long list of names, one per line."""

    caption: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Links:
    """Other documents.

    Attributes:
        caption: what they are.
        items: text and target of each; a target ends in :data:`SUFFIX` where it is a page in the document's own format.
    """

    caption: str
    items: tuple[tuple[str, str], ...]


SUFFIX = ".*"
"""Suffix of a target that every format replaces by its own."""

Block = Heading | Paragraph | Code | Notice | Facts | Table | Figure | Listing | Links


@dataclass(frozen=True, slots=True)
class Document:
    """A report.

    Attributes:
        title: of the document.
        protocol_line: corpus, split, seeds, and whether training and test share speakers or texts.
        blocks: in reading order.
        name: of its file, without suffix.
    """

    title: str
    protocol_line: str
    blocks: tuple[Block, ...]
    name: str = "report"
