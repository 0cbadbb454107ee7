"""One parser for every time that a table, a segment file or a caller gives."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from affekt.data.times import EXPECTED, parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("1.5", 1.5),
        (" 1.5 ", 1.5),
        ("1.", 1.0),
        (".5", 0.5),
        ("1e-3", 0.001),
        ("0,1", 0.1),
        ("-0.5", -0.5),
        ("0.5s", 0.5),
        ("0.5 sec", 0.5),
        ("500ms", 0.5),
        ("2 min", 120.0),
        ("1m30s", 90.0),
        ("1h 2m 3.5s", 3723.5),
        ("1:02.5", 62.5),
        ("90:00", 5400.0),
        ("00:00:01", 1.0),
        ("00:00:01,500", 1.5),
        ("100:00:00", 360000.0),
        ("0 days 00:00:00.100000", 0.1),
        ("0 days 00:00:01.200000001", 1.200000001),
        ("1 day, 0:00:01", 86401.0),
        ("2 days", 172800.0),
        ("-1 days +23:59:59", -1.0),
    ],
)
def test_text(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds, abs=1e-12)


@pytest.mark.parametrize("value", ["", "  ", "NaT", "nan", "None", "<NA>", None, float("nan"), np.nan, pd.NaT, pd.NA])
def test_empty(value: object) -> None:
    assert parse_seconds(value) is None


@pytest.mark.parametrize(
    "value",
    [
        pd.Timedelta(seconds=1.5),
        np.timedelta64(1500, "ms"),
        datetime.timedelta(seconds=1.5),
        datetime.time(0, 0, 1, 500_000),
        1.5,
        np.float32(1.5),
        np.float64(1.5),
    ],
)
def test_objects(value: object) -> None:
    assert parse_seconds(value) == 1.5


def test_a_timedelta_of_numpy_may_be_empty() -> None:
    assert parse_seconds(np.timedelta64("NaT")) is None
    assert parse_seconds(np.int64(2)) == 2.0


@pytest.mark.parametrize(
    "value",
    [
        *("abc", "1:75", "1:60:00", "1:2:3:4", "1.2.3", "1,234.5", "inf", "-inf", "1_000", "5 parsecs", "1s 2m", "s"),
        *("-", "1 s 1 s", "0 days x", "\u0663", True, np.True_, float("inf"), [1.0], b"1", object()),
    ],
)
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="seconds"):
        parse_seconds(value)


def test_pandas_text_is_read_back() -> None:
    """What pandas writes for any Timedelta is read as that many seconds."""
    rng = np.random.default_rng(0)
    for nanoseconds in rng.integers(0, 10**14, 200):
        moment = pd.Timedelta(int(nanoseconds), "ns")
        assert parse_seconds(str(moment)) == pytest.approx(nanoseconds / 1e9, rel=1e-12)
    assert "Timedelta" in EXPECTED
