"""The results table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from affekt.report import numbers

VERDICTS = {"larger": "better", "smaller": "worse", "not shown": "not shown", "not tested": "not tested"}
UNLIMITED = 100_000  # columns
SYNTHETIC = "SYNTHETIC AUDIO: says nothing about real speech"


def print_table(summary: Mapping[str, Any], console: Console | None = None) -> None:
    """Print UA, WA, the gain of each system with its test over folds and the verdict, under the protocol line.

    Args:
        summary: from :func:`affekt.results.summarize`.
        console: by default standard output. Names of systems are cut to the width of a terminal, but not in a pipe.
    """
    jobs, bootstrap = summary["jobs"], summary["bootstrap"]
    lines = [Text(summary["protocol_line"], style="bold")]
    if summary["synthetic"]:
        lines.append(Text(SYNTHETIC, style="bold yellow"))
    if jobs["missing"]:
        lines.append(Text(f"{jobs['finished']} of {jobs['expected']} jobs are finished", style="yellow"))
    level = f"{100 * bootstrap['level']:.0f} % interval"
    note = (
        f"UA, WA in %: mean ± SD over jobs, [{level}, drawing {bootstrap['unit']}]. "
        f"Δ UA: above {summary['baseline']}, in points, mean over folds, [{level} of the corrected t-test]. "
        "p: of the same test, Holm-corrected; not shown: no difference shown."
    )
    console, table = console or Console(), _table(summary)
    if not console.is_terminal:
        unlimited = console.options.update(width=UNLIMITED)
        console.width = max(console.width, console.measure(table, options=unlimited).maximum)
    console.print(Group(*lines, "", table, "", Text(note, style="dim")))


def _table(summary: Mapping[str, Any]) -> Table:
    """Each figure above its interval: fourteen systems with long names fit 80 columns."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("system", no_wrap=True)
    for name in ("UA", "WA", "Δ UA", "p (t)", "verdict"):
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
    gain = numbers.points(ua["difference"])
    if ua["t_low"] is not None:
        gain += f"\n{numbers.interval(ua['t_low'], ua['t_high'], signed=True)}"
    return gain, numbers.p_value(ua.get("t_p_holm")), VERDICTS[ua["verdict"]]
