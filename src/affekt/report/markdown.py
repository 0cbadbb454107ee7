"""The report as Markdown, with its plots as SVG files."""

from __future__ import annotations

import re
from pathlib import Path

from affekt.report import plots
from affekt.report.document import (
    SUFFIX,
    Block,
    Code,
    Document,
    Facts,
    Figure,
    Heading,
    Links,
    Listing,
    Notice,
    Paragraph,
    Table,
)
from affekt.runtime.atomic_files import write_bytes

PLOTS = "figures"


def write(document: Document, folder: Path) -> Path:
    """Write the document's .md and figures/*.svg."""
    for block in document.blocks:
        for panel in block.panels if isinstance(block, Figure) else ():
            write_bytes(folder / PLOTS / f"{panel.name}.svg", plots.on_white(panel.svg).encode())
    path = folder / f"{document.name}.md"
    write_bytes(path, render(document).encode())
    return path


def render(document: Document) -> str:
    """A document as Markdown.

    >>> print(render(Document("T", "a | b", (Heading("H"), Table("C", ("x", "y"), (("1", "2"),), frozenset({1}))))))
    # T
    <BLANKLINE>
    **a \\| b**
    <BLANKLINE>
    ## H
    <BLANKLINE>
    C
    <BLANKLINE>
    | x | *y* |
    |---|---:|
    | 1 | *2* |
    <BLANKLINE>
    """
    parts = [f"# {escape(document.title)}", f"**{escape(document.protocol_line)}**", *map(_block, document.blocks)]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    r"""Escape text for Markdown.

    >>> escape("a_b | <c> [4]")
    'a\\_b \\| \\<c\\> \\[4\\]'
    """
    return re.sub(r"([\\`*_|<>\[\]#~])", r"\\\1", text)


def _block(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {escape(text)}"
        case Paragraph(text):
            return escape(text)
        case Code(text):
            return f"```\n{text}\n```"
        case Notice(text):
            return f"> **{escape(text)}**"
        case Facts(items):
            return "\n".join(f"- {escape(item.label)}: **{escape(item.value)}** {escape(item.note)}" for item in items)
        case Table():
            return _table(block)
        case Figure(caption, panels):
            images = "\n".join(f"![{escape(panel.title)}]({PLOTS}/{panel.name}.svg)" for panel in panels)
            return f"{images}\n\n{escape(caption)}"
        case Listing(caption, items):
            return "\n".join([f"{escape(caption)}:", "", *(f"- {escape(item)}" for item in items)])
        case Links(caption, items):
            links = (f"- [{escape(text)}]({target.replace(SUFFIX, '.md')})" for text, target in items)
            return "\n".join([f"{escape(caption)}:", "", *links])


def _table(table: Table) -> str:
    ruler = "|".join("---:" if index and not table.is_text(index) else "---" for index in range(len(table.columns)))
    lines = [_row(table, table.columns), f"|{ruler}|", *(_row(table, row) for row in table.rows)]
    parts = [escape(table.caption), "\n".join(lines)]
    return "\n\n".join([*parts, escape(table.note)] if table.note else parts)


def _row(table: Table, cells: tuple[str, ...]) -> str:
    marked = (
        f"*{escape(cell)}*" if index in table.quoted and cell else escape(cell) for index, cell in enumerate(cells)
    )
    return f"| {' | '.join(marked)} |"
