"""Formatting of numbers: percentages with one digit, a true minus sign, p-values with three digits."""

from __future__ import annotations

NONE = "–"
"""Placeholder of a missing number."""

MINUS = "−"


def percent(value: float | None) -> str:
    """A share as a percentage.

    >>> percent(0.6234), percent(None)
    ('62.3', '–')
    """
    return NONE if value is None else _minus(f"{100 * value:.1f}")


def points(value: float) -> str:
    """A difference of shares in percentage points, with its sign.

    >>> points(0.012), points(-0.004), points(0.0)
    ('+1.2', '−0.4', '0.0')
    """
    text = f"{100 * value:+.1f}"
    return "0.0" if text[1:] == "0.0" else _minus(text)


def spread(mean: float | None, sd: float | None) -> str:
    """Mean and standard deviation in percent.

    >>> spread(0.6234, 0.012), spread(0.6234, None)
    ('62.3 ± 1.2', '62.3')
    """
    return percent(mean) if sd is None else f"{percent(mean)} ± {percent(sd)}"


def interval(low: float, high: float, signed: bool = False) -> str:
    """An interval in percent, or in percentage points with their signs.

    >>> interval(0.598, 0.651), interval(-0.004, 0.02, signed=True)
    ('[59.8, 65.1]', '[−0.4, +2.0]')
    """
    show = points if signed else percent
    return f"[{show(low)}, {show(high)}]"


def p_value(value: float | None) -> str:
    """A p-value to three digits.

    >>> p_value(0.0123), p_value(0.0001), p_value(1.0), p_value(None)
    ('0.012', '<0.001', '1.000', '–')
    """
    if value is None:
        return NONE
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def decimal(value: float | None, digits: int = 3) -> str:
    """A plain number.

    >>> decimal(-0.12345), decimal(None)
    ('−0.123', '–')
    """
    return NONE if value is None else _minus(f"{value:.{digits}f}")


def decimal_spread(figures: dict[str, float | None] | None, digits: int = 3) -> str:
    """Mean and standard deviation of a plain number, as summaries hold them.

    >>> decimal_spread({"mean": 0.5, "sd": 0.25}, digits=2), decimal_spread({"mean": 0.5, "sd": None}, digits=2)
    ('0.50 ± 0.25', '0.50')
    >>> decimal_spread(None)
    '–'
    """
    if figures is None:
        return NONE
    mean = decimal(figures["mean"], digits)
    return mean if figures["sd"] is None else f"{mean} ± {decimal(figures['sd'], digits)}"


def count(value: int | None) -> str:
    """A whole number with thousands separators.

    >>> count(380292)
    '380,292'
    """
    return NONE if value is None else f"{value:,}"


def _minus(text: str) -> str:
    return text.replace("-", MINUS)
