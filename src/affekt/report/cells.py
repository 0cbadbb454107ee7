"""Cells of tables: figures of a summary as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from affekt.report import numbers


def spread_of(system: Mapping[str, Any], measure: str) -> str:
    """Mean and standard deviation over jobs, in percent."""
    return numbers.spread(system[measure]["mean"], system[measure]["sd_jobs"])


def interval_of(system: Mapping[str, Any], measure: str) -> str:
    """The interval of all test utterances together, from drawing speakers, in percent."""
    pooled = system["pooled"][measure]
    return numbers.interval(pooled["low"], pooled["high"])


def level(summary: Mapping[str, Any]) -> str:
    """The level of the intervals."""
    return f"{100 * summary['bootstrap']['level']:.0f} %"


def unit(summary: Mapping[str, Any]) -> str:
    """The unit that the bootstrap draws, e.g. speakers."""
    return str(summary["bootstrap"]["unit"])
