"""The report as one self-contained web page: no script, no network, light or dark as the reader's system is."""

from __future__ import annotations

from html import escape
from pathlib import Path

from affekt.report import plots
from affekt.report.document import Block, Code, Document, Facts, Figure, Heading, Listing, Notice, Paragraph, Table
from affekt.runtime.atomic_files import write_bytes

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1f2328; --soft: #59636e; --paper: #ffffff; --raised: #f6f8fa; --line: #d1d9e0;
  --accent: #1f6fc4; --warn-ink: #6f4400; --warn: #fff4d6; --warn-line: #e0b252;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6edf3; --soft: #9da7b1; --paper: #0f141a; --raised: #171d25; --line: #313a45;
    --accent: #6cb0f5; --warn-ink: #f5d48b; --warn: #2f2510; --warn-line: #7d6126;
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
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .6rem; }
table { border-collapse: collapse; width: 100%; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .65rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
thead th { color: var(--soft); font-weight: 600; background: var(--raised); border-bottom: 1px solid var(--line); }
thead th:first-child { background: var(--raised); }
tbody th { font-weight: 600; }
tbody tr + tr > * { border-top: 1px solid var(--line); }
.quoted { color: var(--soft); font-style: italic; }
td.quoted, th.quoted { background: var(--raised); }
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
@media print { body { max-width: none; padding: 0; } .scroll { border: 0; } figure { break-inside: avoid; } }
"""


def write(document: Document, folder: Path) -> Path:
    """Write the document's .html."""
    path = folder / f"{document.name}.html"
    write_bytes(path, render(document).encode())
    return path


def render(document: Document) -> str:
    """The text of a page that needs nothing but itself."""
    title, line = escape(document.title), escape(document.protocol_line)
    body = "\n".join(map(_block, document.blocks))
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
{body}
</main>
</body>
</html>
"""


def _block(block: Block) -> str:
    match block:
        case Heading(text):
            return f"<h2>{escape(text)}</h2>"
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


def _facts(facts: Facts) -> str:
    cards = (
        f'<div><dt>{escape(item.label)}</dt><dd class="value">{escape(item.value)}</dd>'
        f'<dd class="note">{escape(item.note)}</dd></div>'
        for item in facts.items
    )
    return f'<dl class="facts">{"".join(cards)}</dl>'


def _table(table: Table) -> str:
    head = "".join(
        f'<th scope="col"{_quoted(table, index)}>{escape(name)}</th>' for index, name in enumerate(table.columns)
    )
    rows = "\n".join(_row(table, row) for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f"<figure><figcaption>{escape(table.caption)}</figcaption>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>{note}</figure>'
    )


def _row(table: Table, cells: tuple[str, ...]) -> str:
    first, *rest = cells
    others = "".join(f"<td{_quoted(table, index)}>{escape(cell)}</td>" for index, cell in enumerate(rest, start=1))
    return f'<tr><th scope="row">{escape(first)}</th>{others}</tr>'


def _quoted(table: Table, column: int) -> str:
    return ' class="quoted"' if column in table.quoted else ""


def _figure(figure: Figure) -> str:
    images = "\n".join(
        f'<div role="img" aria-label="{escape(panel.title)}">{plots.inline(panel.svg)}</div>' for panel in figure.panels
    )
    return f'<figure><div class="plots">{images}</div><figcaption>{escape(figure.caption)}</figcaption></figure>'
