"""The report as one self-contained web page: no script, no network, light or dark as the reader's system is.

A table wider than the screen scrolls by itself, under a shadow at the edge that hides cells. Figures never break inside
"62.3 ± 1.2" or "[59.8, 65.1]"; between the two they may.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
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

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1f2328; --soft: #59636e; --paper: #ffffff; --raised: #f6f8fa; --line: #d1d9e0;
  --accent: #1f6fc4; --warn-ink: #6f4400; --warn: #fff4d6; --warn-line: #e0b252; --shade: rgb(31 35 40 / .28);
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6edf3; --soft: #9da7b1; --paper: #0f141a; --raised: #171d25; --line: #313a45;
    --accent: #6cb0f5; --warn-ink: #f5d48b; --warn: #2f2510; --warn-line: #7d6126; --shade: rgb(0 0 0 / .75);
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 80rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; margin: 0 0 .6rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 3rem 0 1rem; padding-bottom: .35rem; border-bottom: 1px solid var(--line); }
p { max-width: 46rem; margin: .8rem 0; }
.protocol {
  display: inline-block; margin: 0 0 1rem; padding: .35rem .8rem; border-radius: 1rem;
  background: var(--raised); border: 1px solid var(--line); color: var(--soft); font-size: .9rem;
}
.notice {
  max-width: none; padding: .8rem 1rem; border-left: .3rem solid var(--warn-line); border-radius: .3rem;
  background: var(--warn); color: var(--warn-ink); font-weight: 600;
}
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: 1rem; margin: 1.5rem 0; }
.facts div { padding: 1rem 1.1rem; border: 1px solid var(--line); border-radius: .6rem; background: var(--raised); }
.facts dt { color: var(--soft); font-size: .85rem; }
.facts dd { margin: 0; }
.facts .value { font-size: 1.6rem; font-weight: 650; font-variant-numeric: tabular-nums; }
.facts .note { color: var(--soft); font-size: .85rem; }
figure { margin: 1.5rem 0 2rem; }
pre { padding: .6rem .8rem; font-size: .85rem; }
.scroll {
  overflow-x: auto; border: 1px solid var(--line); border-radius: .6rem; scrollbar-width: thin;
  /* The covers scroll with the content and hide the shadow at an edge beyond which there is nothing. */
  background:
    linear-gradient(to right, var(--paper) 2rem, transparent) left / 3rem 100% local no-repeat,
    linear-gradient(to left, var(--paper) 2rem, transparent) right / 3rem 100% local no-repeat,
    linear-gradient(to right, var(--shade), transparent) left / .9rem 100% scroll no-repeat,
    linear-gradient(to left, var(--shade), transparent) right / .9rem 100% scroll no-repeat,
    var(--paper);
}
.scroll:focus-visible { outline: 2px solid var(--accent); }
.swipe { display: none; }
table { border-collapse: collapse; width: 100%; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .65rem; text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
th:first-child { min-width: 6rem; }
.keep { white-space: nowrap; }
tbody td.text { text-align: left; min-width: 9rem; }
thead th.text { text-align: left; }
thead th { color: var(--soft); font-weight: 600; border-bottom: 1px solid var(--line); vertical-align: bottom; }
nav { margin: 1.5rem 0; font-size: .92rem; }
nav ol { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: .3rem 0 0; padding: 0; list-style: none; }
nav strong { color: var(--soft); font-weight: 600; }
a { color: var(--accent); }
h2 { scroll-margin-top: 1rem; }
tbody th { font-weight: 600; }
tbody tr + tr > * { border-top: 1px solid var(--line); }
.quoted { color: var(--soft); font-style: italic; }
figcaption { margin: 0 0 .6rem; color: var(--ink); font-size: .92rem; }
.plots + figcaption { margin: .6rem 0 0; color: var(--soft); }
.note { margin: .6rem 0 0; color: var(--soft); font-size: .85rem; max-width: 60rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: 1rem; }
.plots svg { display: block; width: 100%; height: auto; max-width: 42rem; max-height: 34rem; color: var(--ink); }
.plots > :not(:only-child) svg { max-width: 30rem; }
.plots svg text { font-family: system-ui, sans-serif !important; }
details { margin: 1rem 0; }
summary { cursor: pointer; color: var(--accent); }
details ul { columns: 16rem; font-size: .85rem; }
@media (max-width: 45rem) {
  body { padding-top: 1rem; }
  th, td { padding: .45rem .5rem; }
  .wide + .swipe { display: block; margin: .3rem 0 0; color: var(--soft); font-size: .8rem; text-align: right; }
}
@media print { body { max-width: none; padding: 0; } .scroll { border: 0; } figure { break-inside: avoid; } }
"""


MOST_NARROW = 4
"""A table of more columns does not fit the width of a phone."""


def write(document: Document, folder: Path) -> Path:
    """Write the document's .html."""
    path = folder / f"{document.name}.html"
    write_bytes(path, render(document).encode())
    return path


def render(document: Document) -> str:
    """The text of a page that needs nothing but itself."""
    title, line = escape(document.title), escape(document.protocol_line)
    headings = [block for block in document.blocks if isinstance(block, Heading)]
    anchors = {id(heading): f"section-{number}" for number, heading in enumerate(headings, start=1)}
    body = "\n".join(_block(block, anchors.get(id(block), "")) for block in document.blocks)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p class="protocol">{line}</p>
{_contents(headings, anchors.values())}
{body}
</main>
</body>
</html>
"""


def _contents(headings: Iterable[Heading], anchors: Iterable[str]) -> str:
    """The table of contents; nothing for a report of fewer than two sections."""
    links = [
        f'<li><a href="#{anchor}">{escape(heading.text)}</a></li>'
        for heading, anchor in zip(headings, anchors, strict=True)
    ]
    if len(links) < 2:
        return ""
    return f'<nav aria-label="Contents"><strong>Contents</strong><ol>{"".join(links)}</ol></nav>'


def _block(block: Block, anchor: str) -> str:
    match block:
        case Heading(text):
            return f'<h2 id="{anchor}">{escape(text)}</h2>'
        case Paragraph(text):
            return f"<p>{escape(text)}</p>"
        case Code(text):
            return f'<pre class="scroll">{escape(text)}</pre>'
        case Notice(text):
            return f'<p class="notice" role="note">{escape(text)}</p>'
        case Facts():
            return _facts(block)
        case Table():
            return _table(block)
        case Figure():
            return _figure(block)
        case Listing(caption, items):
            rows = "".join(f"<li>{escape(item)}</li>" for item in items)
            return f"<details><summary>{escape(caption)}</summary><ul>{rows}</ul></details>"
        case Links(caption, items):
            links = (
                f'<li><a href="{escape(to.replace(SUFFIX, ".html"))}">{escape(text)}</a></li>' for text, to in items
            )
            return f"<p>{escape(caption)}:</p><ul>{''.join(links)}</ul>"


def _facts(facts: Facts) -> str:
    cards = (
        f'<div><dt>{escape(item.label)}</dt><dd class="value">{escape(item.value)}</dd>'
        f'<dd class="note">{escape(item.note)}</dd></div>'
        for item in facts.items
    )
    return f'<dl class="facts">{"".join(cards)}</dl>'


def _table(table: Table) -> str:
    texts = frozenset(index for index in range(1, len(table.columns)) if table.is_text(index))
    head = "".join(
        f'<th scope="col"{_classes(table, texts, index)}>{escape(name)}</th>'
        for index, name in enumerate(table.columns)
    )
    rows = "\n".join(_row(table, texts, row) for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    wide = " wide" if len(table.columns) > MOST_NARROW else ""
    return (
        f"<figure><figcaption>{escape(table.caption)}</figcaption>"
        f'<div class="scroll{wide}" tabindex="0" role="region" aria-label="{escape(table.caption)}">'
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>"
        f'<p class="swipe" aria-hidden="true">swipe for more columns →</p>{note}</figure>'
    )


def _row(table: Table, texts: frozenset[int], cells: tuple[str, ...]) -> str:
    first, *rest = cells
    others = "".join(
        f"<td{_classes(table, texts, index)}>{escape(cell) if index in texts else _figures(cell)}</td>"
        for index, cell in enumerate(rest, start=1)
    )
    return f'<tr><th scope="row">{escape(first)}</th>{others}</tr>'


def _figures(cell: str) -> str:
    """Figures and their interval, each kept on one line.

    >>> _figures("+9.0 [+2.0, +13.9]")
    '<span class="keep">+9.0</span> <span class="keep">[+2.0, +13.9]</span>'
    >>> _figures("12")
    '12'
    """
    if " " not in cell:
        return escape(cell)
    parts = re.split(r" (?=\[)", cell)
    return " ".join(f'<span class="keep">{escape(part)}</span>' for part in parts)


def _classes(table: Table, texts: frozenset[int], column: int) -> str:
    names = [name for name, columns in (("quoted", table.quoted), ("text", texts)) if column in columns]
    return f' class="{" ".join(names)}"' if names else ""


def _figure(figure: Figure) -> str:
    images = "\n".join(
        f'<div role="img" aria-label="{escape(panel.title)}">{plots.inline(panel.svg)}</div>' for panel in figure.panels
    )
    return f'<figure><div class="plots">{images}</div><figcaption>{escape(figure.caption)}</figcaption></figure>'
