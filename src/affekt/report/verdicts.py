"""Verdicts in words: what the test of a difference allows a reader to conclude."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from affekt.report import numbers
from affekt.results.summary import LEAST_FOLDS, verdict

Figures = Mapping[str, Any]

SHORT = {"larger": "better", "smaller": "worse", "not shown": "no difference shown", "not tested": "not tested"}
"""For a cell of a table of recognition, where more is better."""

SIZES = SHORT | {"larger": "larger", "smaller": "smaller"}
"""For a cell of a table of something that is neither good nor bad in itself."""

UNTESTED = f"not tested: a t-test needs {LEAST_FOLDS} folds"


def interval_over_folds(figures: Figures) -> str:
    """The interval of the t-test over folds, in points; empty where the folds are too few for one.

    >>> interval_over_folds({"t_low": -0.05, "t_high": 0.13}), interval_over_folds({"t_low": None, "t_high": None})
    ('[−5.0, +13.0]', '')
    """
    if figures.get("t_low") is None:
        return ""
    return numbers.interval(figures["t_low"], figures["t_high"], signed=True)


def gain_over_folds(figures: Figures) -> str:
    """A gain in points with the interval of its t-test over folds.

    >>> gain_over_folds({"difference": 0.04, "t_low": -0.05, "t_high": 0.13})
    '+4.0 [−5.0, +13.0]'
    """
    return f"{numbers.points(figures['difference'])} {interval_over_folds(figures)}".strip()


def gain_over_speakers(figures: Figures) -> str:
    """The gain of all test utterances together, in points, with its interval from drawing speakers.

    >>> gain_over_speakers({"pooled_difference": 0.09, "low": 0.02, "high": 0.139})
    '+9.0 [+2.0, +13.9]'
    """
    interval = numbers.interval(figures["low"], figures["high"], signed=True)
    return f"{numbers.points(figures['pooled_difference'])} {interval}"


def sentence(system: str, baseline: str, figures: Figures) -> str:
    """A difference in UA that was shown, as a clause.

    >>> sentence("focal", "baseline", {"difference": 0.04, "t_p_holm": 0.012, "verdict": "larger"})
    'focal is better than baseline by 4.0 points (p = 0.012)'
    """
    points = numbers.points(abs(figures["difference"])).lstrip("+")
    return f"{system} is {SHORT[figures['verdict']]} than {baseline} by {points} points ({probability(figures)})"


def probability(figures: Figures) -> str:
    """The Holm-corrected p-value of the t-test, as an equation.

    >>> probability({"t_p_holm": 0.0001}), probability({"t_p_holm": 0.25})
    ('p < 0.001', 'p = 0.250')
    """
    text = numbers.p_value(figures["t_p_holm"])
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def of_study(row: Figures, words: Mapping[str, str] = SHORT, p: str = "p_holm") -> str:
    """The short verdict on a difference that :func:`affekt.results.study.gain` found.

    >>> of_study({"difference": 0.04, "p_holm": 0.2})
    'no difference shown'
    """
    return words[verdict({"difference": row["difference"], "t_p_holm": row[p]})]
