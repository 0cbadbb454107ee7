"""Rows of the table: the measured work, the alternative, the limit and the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter, sleep
from typing import Any, Self

import numpy as np

RATES = ("x real time", "utterances/s", "GFLOP/s", "GB/s", "%")
"""Units of which more is better; of all others less is."""
PAUSE_SECONDS = 0.02
"""Before each call, so that threads which still spin after the one before it disturb nobody."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A quantity measured several times.

    Attributes:
        median, low, high: median and quartiles of the repeats.
        unit: unit of measurement.
        repeats: number of repeats.

    >>> print(Figure.of([3.0, 1.0, 2.0], "ms"))
    2 ms (1.5-2.5)
    """

    median: float
    low: float
    high: float
    unit: str = ""
    repeats: int = 1

    @classmethod
    def of(cls, values: Sequence[float] | float, unit: str = "") -> Self:
        """The figure of several repeats or of a single measurement."""
        low, median, high = np.quantile(np.atleast_1d(values), [0.25, 0.5, 0.75]).tolist()
        return cls(median, low, high, unit, np.size(values))

    @property
    def more_is_better(self) -> bool:
        return self.unit in RATES

    def __str__(self) -> str:
        spread = f" ({short(self.low)}-{short(self.high)})" if self.repeats > 1 else ""
        return f"{short(self.median)}{' ' * bool(self.unit)}{self.unit}{spread}"


@dataclass(frozen=True, slots=True)
class Target:
    """A target for the ratio or for affekt's own figure.

    >>> print(Target("ratio", at_least=4.5), Target("ours", at_most=250), sep="; ")
    ratio >= 4.5; <= 250
    """

    of: str
    at_least: float | None = None
    at_most: float | None = None

    def met(self, value: float) -> bool:
        """Whether a value meets the target."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        bound = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"
        return f"ratio {bound}" if self.of == "ratio" else bound


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        work: what was done.
        ours: how fast we did it; None where it was not measured, and `note` says why.
        peer, theirs: who else did it, and how fast.
        ratio: how many times better ours is than theirs.
        limit, limit_value: what bounds it, and where, in ours' unit.
        target: what was to be reached.
        note: what else must be said.
        points: a growth: (size, seconds, megabytes) of each size, for the plots.
    """

    work: str
    ours: Figure | None = None
    peer: str = ""
    theirs: Figure | None = None
    ratio: Figure | None = None
    limit: str = ""
    limit_value: float | None = None
    target: Target | None = None
    note: str = ""
    points: tuple[tuple[float, float, float], ...] = ()

    @property
    def share(self) -> float | None:
        """The achieved share of the limit.

        >>> Row("copying", Figure.of(40.0, "GB/s"), limit="memory", limit_value=50.0).share
        0.8
        """
        if self.ours is None or not self.limit_value or not self.ours.median:
            return None
        share = self.ours.median / self.limit_value
        return share if self.ours.more_is_better else 1 / share

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target or its value."""
        figure = self.ratio if self.target and self.target.of == "ratio" else self.ours
        return None if self.target is None or figure is None else self.target.met(figure.median)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        figures = {name: data[name] and Figure(**data[name]) for name in ("ours", "theirs", "ratio")}
        target = data["target"] and Target(**data["target"])
        return cls(**{**data, **figures, "target": target, "points": tuple(map(tuple, data["points"]))})


def compared(work: str, ours: Sequence[float], peer: str, theirs: Sequence[float], unit: str, **rest: Any) -> Row:
    """A row with an alternative. The ratio is taken turn by turn, so that slow moments of the machine affect both.

    >>> row = compared("sorting", [1.0, 2.0], "theirs", [4.0, 6.0], "ms")
    >>> row.ratio.median
    3.5
    """
    own, other = Figure.of(ours, unit), Figure.of(theirs, unit)
    pairs = np.array(theirs)[: len(ours)] / np.array(ours)[: len(theirs)]
    return Row(work, own, peer, other, Figure.of(1 / pairs if own.more_is_better else pairs), **rest)


def seconds_in_turns(
    calls: Mapping[str, Callable[[], object]], turns: int, warm_ups: int = 1, pause_seconds: float = PAUSE_SECONDS
) -> dict[str, list[float]]:
    """Seconds of each call, in turns; a call that returns a float has timed itself."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(-warm_ups, turns):
        for name, call in calls.items():
            sleep(pause_seconds)
            start = perf_counter()
            own = call()
            elapsed = own if isinstance(own, float) else perf_counter() - start
            if turn >= 0:
                seconds[name].append(elapsed)
    return seconds


def short(value: float) -> str:
    """Three significant digits, without an exponent.

    >>> [short(value) for value in (0.012345, 3.14159, 1234.5)]
    ['0.0123', '3.14', '1,234']
    """
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
