"""Times as people and programs write them, in seconds.

One parser serves every door: the start and end columns of manifests and tables, segment files, and Python arguments.
It imports neither pandas nor NumPy, so that the core installation can use it.
"""

from __future__ import annotations

import math
import numbers
import re
from datetime import time, timedelta
from typing import Any

EXPECTED = "seconds (1.5), mm:ss, hh:mm:ss, a Timedelta, or empty"
"""The accepted forms, for messages."""

_EMPTY = frozenset({"", "nat", "nan", "none", "null", "na", "n/a", "<na>"})
_NUMBER = r"\d+(?:[.,]\d*)?|[.,]\d+"
_PLAIN = re.compile(rf"[+-]?(?:{_NUMBER})(?:e[+-]?\d+)?", re.ASCII)
_CLOCK = re.compile(rf"(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>{_NUMBER})", re.ASCII)
_DAYS = re.compile(r"(?P<days>[+-]?\d+) days?,?(?: \+?(?P<clock>.+))?", re.ASCII)
_QUANTITY = re.compile(rf"({_NUMBER})\s*([a-zµ]+)\s*", re.ASCII)
_UNITS = {
    unit: seconds
    for seconds, units in (
        (86_400.0, ("d", "day", "days")),
        (3_600.0, ("h", "hr", "hrs", "hour", "hours")),
        (60.0, ("m", "min", "mins", "minute", "minutes")),
        (1.0, ("s", "sec", "secs", "second", "seconds")),
        (1e-3, ("ms", "msec", "millisecond", "milliseconds")),
        (1e-6, ("us", "µs", "microsecond", "microseconds")),
        (1e-9, ("ns", "nanosecond", "nanoseconds")),
    )
    for unit in units
}


def parse_seconds(value: object) -> float | None:
    """A time in seconds; None for an empty one.

    Args:
        value: a number of seconds, a ``timedelta`` (pandas' and NumPy's included), a ``datetime.time``, or text:
            ``1.5``, ``1,5``, ``0.5s``, ``500 ms``, ``1m 2.5s``, ``1:02.5`` (minutes and seconds), ``00:01:02.5``,
            ``0 days 00:00:01.5``. Empty text, None, NaN and NaT are empty.

    Returns:
        Seconds. They may be negative: whether that makes sense is for the caller to say.

    Raises:
        ValueError: anything else, infinity and truth values included. The message is :data:`EXPECTED`.

    >>> [parse_seconds(text) for text in ("1.5", "0,5", "0.5s", "1:02.5", "01:00:00", "0 days 00:00:01.250000")]
    [1.5, 0.5, 0.5, 62.5, 3600.0, 1.25]
    >>> parse_seconds("NaT") is None, parse_seconds(timedelta(milliseconds=20))
    (True, 0.02)
    >>> parse_seconds("1:75")
    Traceback (most recent call last):
    ValueError: seconds (1.5), mm:ss, hh:mm:ss, a Timedelta, or empty
    """
    seconds = _from_text(value) if isinstance(value, str) else _from_object(value)
    if seconds is not None and not math.isfinite(seconds):
        raise ValueError(EXPECTED)
    return seconds


def _from_object(value: Any) -> float | None:
    kind = type(value).__name__
    if value is None or kind in ("NaTType", "NAType"):
        return None
    if isinstance(value, timedelta):
        return value.total_seconds()
    if kind == "timedelta64":
        nanoseconds = value.astype("timedelta64[ns]")
        return None if str(nanoseconds) == "NaT" else int(nanoseconds.astype("int64")) / 1e9
    if isinstance(value, time):
        return value.hour * 3_600 + value.minute * 60 + value.second + value.microsecond / 1e6
    if isinstance(value, bool) or kind in ("bool_", "bool") or not isinstance(value, numbers.Real):
        raise ValueError(EXPECTED)
    return None if math.isnan(value) else float(value)


def _from_text(text: str) -> float | None:
    text = text.strip().lower()
    if text in _EMPTY:
        return None
    if _PLAIN.fullmatch(text):
        return _number(text)
    if clock := _CLOCK.fullmatch(text):
        return _clock(clock)
    if (days := _DAYS.fullmatch(text)) and (days["clock"] is None or _CLOCK.fullmatch(days["clock"])):
        rest = _clock(_CLOCK.fullmatch(days["clock"])) if days["clock"] else 0.0
        return int(days["days"]) * 86_400 + rest
    return _quantities(text)


def _number(text: str) -> float:
    return float(text.replace(",", "."))


def _clock(match: re.Match[str] | None) -> float:
    """Hours, minutes and seconds; only the first of them may exceed 59."""
    if match is None:
        raise ValueError(EXPECTED)
    hours, minutes, seconds = match["hours"], int(match["minutes"]), _number(match["seconds"])
    if seconds >= 60 or (hours is not None and minutes >= 60):
        raise ValueError(EXPECTED)
    return int(hours or 0) * 3_600 + minutes * 60 + seconds


def _quantities(text: str) -> float:
    """Numbers with units, each unit at most once and smaller than the one before it: ``1h 2m 3.5s``."""
    total, before, place = 0.0, math.inf, 0
    sign, body = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    while place < len(body):
        match = _QUANTITY.match(body, place)
        unit = _UNITS.get(match[2], math.inf) if match else math.inf
        if match is None or unit >= before:
            raise ValueError(EXPECTED)
        total += _number(match[1]) * unit
        before, place = unit, match.end()
    if place == 0:
        raise ValueError(EXPECTED)
    return sign * total
