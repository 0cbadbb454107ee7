"""A run in a notebook: one row per system, without the time that intervals and tests take."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from affekt.measures.statistics import spread

if TYPE_CHECKING:
    from affekt.results.run_results import Results

CELL = "font: 14px/1.5 system-ui, sans-serif; color: #222; background: #fff; padding: .75rem"
MEASURES = {"ua": "UA (%)", "wa": "WA (%)", "macro_f1": "Macro-F1 (%)"}


def results_html(results: Results) -> str:
    """Recognition of every system as mean and standard deviation over its finished jobs.

    Intervals, tests and plots are in the report: :func:`affekt.results.summarize`, :func:`affekt.report.write_report`.
    """
    right = 'style="text-align: right; padding: 0 0 0 1.5rem"'
    head = "".join(f"<th {right}>{name}</th>" for name in (*MEASURES.values(), "Jobs"))
    rows = []
    for name in results.systems:
        own = results.jobs[results.jobs["system"] == name]
        cells = [_percent(own[measure].tolist()) for measure in MEASURES]
        cells.append(f"{len(own)} of {len(results.folds) * len(results.seeds)}")
        values = "".join(f"<td {right}>{cell}</td>" for cell in cells)
        label = f'<th scope="row" style="text-align: left">{html.escape(name)}</th>'
        rows.append(f'<tr style="background: #fff">{label}{values}</tr>')
    line = html.escape(results.protocol_line)
    note = "Mean ± standard deviation over jobs."
    if results.synthetic:
        note += " SYNTHETIC AUDIO: says nothing about real speech."
    return (
        f'<div style="{CELL}"><p style="margin: 0 0 .5rem"><b>{line}</b></p>'
        f'<table style="border-collapse: collapse; margin: 0; color: #222"><thead><tr><th></th>{head}</tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table><p style="margin: .5rem 0 0; color: #666">{note}</p></div>'
    )


def _percent(values: list[float]) -> str:
    if not values:
        return "–"
    mean, deviation = spread(values)
    return f"{100 * mean:.1f}" if deviation is None else f"{100 * mean:.1f} ± {100 * deviation:.1f}"
