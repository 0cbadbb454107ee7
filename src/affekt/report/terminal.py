"""The results table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from affekt.report import numbers

SYNTHETIC = "SYNTHETIC AUDIO: says nothing about real speech"


def print_table(summary: Mapping[str, Any], console: Console | None = None) -> None:
    """Print UA, WA, their intervals and the paired tests of each system, under the protocol line.

    Args:
        summary: from :func:`affekt.results.summarize`.
        console: where to; by default standard output.
    """
    jobs, bootstrap = summary["jobs"], summary["bootstrap"]
    lines = [Text(summary["protocol_line"], style="bold")]
    if summary["synthetic"]:
        lines.append(Text(SYNTHETIC, style="bold yellow"))
    if jobs["missing"]:
        lines.append(Text(f"{jobs['finished']} of {jobs['expected']} jobs; the rest is not finished", style="yellow"))
    note = (
        f"UA, WA in %: mean ± SD over jobs, [{100 * bootstrap['level']:.0f} % interval, drawing {bootstrap['unit']}]. "
        f"Δ: UA above {summary['baseline']}, in points. "
        "p, Holm-corrected: t over folds, perm over speakers."
    )
    (console or Console()).print(Group(*lines, "", _table(summary), "", Text(note, style="dim")))


def _table(summary: Mapping[str, Any]) -> Table:
    """Figures above their intervals, so that fourteen systems with long names fit 80 columns."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("system", no_wrap=True)
    for name in ("UA", "WA", "Δ UA", "p (t)", "p (perm)"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, system in summary["systems"].items():
        table.add_row(name, _recognition(system, "ua"), _recognition(system, "wa"), *_gain(system["comparison"]))
    return table


def _recognition(system: Mapping[str, Any], measure: str) -> str:
    figures, pooled = system[measure], system["pooled"][measure]
    return f"{numbers.spread(figures['mean'], figures['sd_jobs'])}\n{numbers.interval(pooled['low'], pooled['high'])}"


def _gain(comparison: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if comparison is None:
        return "", "", ""
    ua = comparison["ua"]
    gain = f"{numbers.points(ua['difference'])}\n{numbers.interval(ua['low'], ua['high'], signed=True)}"
    return gain, numbers.p_value(ua.get("t_p_holm")), numbers.p_value(ua.get("permutation_p_holm"))
