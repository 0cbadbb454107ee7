"""Emotion diarization: how much of the time a timeline has the right label.

The error rate EDER (Wang, Ravanelli & Yacoubi, "Speech emotion diarization: which emotion appears when?", ASRU 2023) is

    EDER = (false alarm + missed + confusion) / duration,

in seconds: false alarms are labeled and hold no speech, misses hold speech and have no label, confusions another label.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

Span = tuple[float, float, str]
"""Start and end in seconds, and a label. The spans of one list do not overlap."""


class DiarizationSeconds(NamedTuple):
    """Seconds of a recording, or of several, by what became of them.

    Attributes:
        right, confused, missed: of the reference's labeled time.
        false_alarm: labeled, outside the reference.
        duration: of the recording.
    """

    right: float
    confused: float
    missed: float
    false_alarm: float
    duration: float

    @property
    def error_rate(self) -> float:
        """EDER, from 0; above 1 is possible only where spans overlap."""
        return (self.false_alarm + self.missed + self.confused) / self.duration

    @property
    def accuracy(self) -> float:
        """Share of the reference's labeled time that has the right label."""
        return self.right / (self.right + self.confused + self.missed)


def diarization_seconds(reference: Sequence[Span], found: Sequence[Span], duration: float) -> DiarizationSeconds:
    """Compare the labels of a timeline with the true ones.

    Args:
        reference: true spans.
        found: spans of the timeline.
        duration: of the recording, in seconds.

    Returns:
        Seconds by what became of them.

    >>> seconds = diarization_seconds([(0, 2, "sad"), (3, 5, "angry")], [(0, 3, "sad"), (3, 4, "sad")], duration=5)
    >>> seconds.right, seconds.confused, seconds.missed, seconds.false_alarm
    (2, 1, 1, 1)
    >>> seconds.error_rate, seconds.accuracy
    (0.6, 0.5)
    """
    edges = sorted({0, duration, *(edge for start, end, _ in (*reference, *found) for edge in (start, end))})
    seconds: dict[str, float] = dict.fromkeys(("right", "confused", "missed", "false_alarm"), 0)
    for start, end in pairwise(edges):
        true, said = _label(reference, start, end), _label(found, start, end)
        if true is None and said is None:
            continue
        kind = "false_alarm" if true is None else "missed" if said is None else "right" if said == true else "confused"
        seconds[kind] += end - start
    return DiarizationSeconds(**seconds, duration=duration)


def total(parts: Iterable[DiarizationSeconds]) -> DiarizationSeconds:
    """The seconds of several recordings together."""
    return DiarizationSeconds(*map(sum, zip(*parts, strict=True)))


def _label(spans: Sequence[Span], start: float, end: float) -> str | None:
    """The label of a stretch that no edge cuts."""
    return next((label for first, last, label in spans if first <= start and end <= last), None)
