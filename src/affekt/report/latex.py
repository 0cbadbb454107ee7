"""The report as LaTeX, with its plots as PDF files. Needs the packages booktabs and graphicx."""

from __future__ import annotations

from collections.abc import Iterable
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
PREAMBLE = r"""\documentclass[a4paper]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage[margin=20mm]{geometry}
\usepackage{booktabs,graphicx}
\setlength{\parindent}{0pt}
\setlength{\parskip}{1ex}
"""
SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # a bracket at the start of a row would be an option of the preceding \\
    "\u00a0": "~",
    "−": "$-$",
    "±": r"$\pm$",
    "–": "--",
    "Δ": r"$\Delta$",
    "γ": r"$\gamma$",
    "α": r"$\alpha$",
}


def write(document: Document, folder: Path) -> Path:
    """Write the document's .tex and figures/*.pdf."""
    for block in document.blocks:
        for panel in block.panels if isinstance(block, Figure) else ():
            write_bytes(folder / PLOTS / f"{panel.name}.pdf", plots.pdf(panel.drawing, panel.name))
    path = folder / f"{document.name}.tex"
    write_bytes(path, render(document).encode())
    return path


def render(document: Document) -> str:
    """A document as LaTeX."""
    title = rf"\section*{{{escape(document.title)}}}"
    line = rf"\textbf{{{escape(document.protocol_line)}}}"
    body = "\n\n".join([title, line, *map(_block, document.blocks)])
    return f"{PREAMBLE}\\begin{{document}}\n{body}\n\\end{{document}}\n"


def escape(text: str) -> str:
    r"""Escape text for LaTeX.

    >>> print(escape("50 % of a_b: −1.2 ± 0.3"))
    50 \% of a\_b: $-$1.2 $\pm$ 0.3
    """
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def _block(block: Block) -> str:
    match block:
        case Heading(text):
            return rf"\subsection*{{{escape(text)}}}"
        case Paragraph(text):
            return escape(text)
        case Code(text):
            return "\n".join(rf"\texttt{{{escape(line)}}}\\" for line in text.splitlines())
        case Notice(text):
            return rf"\fbox{{\parbox{{0.97\linewidth}}{{\textbf{{{escape(text)}}}}}}}"
        case Facts(items):
            return _list(
                rf"{escape(item.label)}: \textbf{{{escape(item.value)}}} {escape(item.note)}" for item in items
            )
        case Table():
            return _table(block)
        case Figure():
            return _figure(block)
        case Listing(caption, items):
            return f"{escape(caption)}:\n" + _list(map(escape, items))
        case Links(caption, items):
            return f"{escape(caption)}:\n" + _list(
                rf"{escape(text)}: \texttt{{{escape(target.replace(SUFFIX, '.tex'))}}}" for text, target in items
            )


def _list(items: Iterable[str]) -> str:
    return "\n".join([r"\begin{itemize}", *(rf"\item {item}" for item in items), r"\end{itemize}"])


def _table(table: Table) -> str:
    rows = (_row(table, row) for row in table.rows)
    tabular = [
        rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
        r"\toprule",
        _row(table, table.columns),
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    # A table wider than the line is scaled down to it.
    body = "\n".join(tabular)
    parts = [r"\begin{table}[!htbp]", r"\centering", rf"\caption{{{escape(table.caption)}}}"]
    parts += [r"\sbox0{%", body, r"}\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi"]
    parts += [rf"\par\smallskip\footnotesize {escape(table.note)}"] if table.note else []
    return "\n".join([*parts, r"\end{table}"])


def _row(table: Table, cells: tuple[str, ...]) -> str:
    marked = (
        rf"\textit{{{escape(cell)}}}" if index in table.quoted and cell else escape(cell)
        for index, cell in enumerate(cells)
    )
    return " & ".join(marked) + r" \\"


def _figure(figure: Figure) -> str:
    width = {1: 0.8, 2: 0.48}.get(len(figure.panels), 0.32)
    images = (rf"\includegraphics[width={width}\linewidth]{{{PLOTS}/{panel.name}.pdf}}" for panel in figure.panels)
    caption = rf"\caption{{{escape(figure.caption)}}}"
    return "\n".join([r"\begin{figure}[!htbp]", r"\centering", *images, caption, r"\end{figure}"])
