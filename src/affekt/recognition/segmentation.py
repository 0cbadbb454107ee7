"""From windows to segments: the answers for all windows, the smoothed sequence of labels, and stretches of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affekt.recognition.prediction import LOW_CONFIDENCE, UNLIKE_TRAINING, Model, Prediction, Recognized, judged

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

SMALLEST_PROBABILITY = 1e-6
NOBODY = -1
"""In place of a label's index: a window without speech."""


class Growing:
    """Numbers that come a few at a time, for hours, in one buffer.

    Thousands of small arrays instead would keep the memory between them from being used again.

    >>> numbers = Growing(np.int64)
    >>> numbers.append([1, 2])
    >>> numbers.append([3])
    >>> numbers.values().tolist()
    [1, 2, 3]
    """

    def __init__(self, dtype: type[np.generic]) -> None:
        self._dtype = dtype
        self._bytes = bytearray()

    def append(self, numbers: ArrayLike) -> None:
        """Add numbers at the end."""
        self._bytes += np.asarray(numbers, self._dtype).tobytes()

    def values(self) -> NDArray[Any]:
        """All of them; nothing can be added any more."""
        return np.frombuffer(self._bytes, self._dtype)


class Values(NamedTuple):
    """Means of the model's answers over some windows; speech and outlier are None where the model has neither."""

    probabilities: NDArray[np.float64]
    speech: float | None
    outlier: float | None


class Part(NamedTuple):
    """A stretch of speech with one label: where it is, the label's index, and the mean answers of its windows."""

    start_seconds: float
    end_seconds: float
    label: int
    values: Values


def mean_of(values: Sequence[Values], weights: Sequence[float]) -> Values:
    """Weighted means."""
    probabilities = np.average([value.probabilities for value in values], axis=0, weights=weights)
    scores = []
    for numbers in ([value.speech for value in values], [value.outlier for value in values]):
        known = [number for number in numbers if number is not None]
        scores.append(float(np.average(known, weights=weights)) if len(known) == len(numbers) else None)
    return Values(probabilities, *scores)


def prediction_of(
    values: Values, model: Model, unsure_below: float, source: str, start: float, end: float
) -> Prediction:
    """The prediction of one stretch, from its averaged values."""
    probabilities = values.probabilities.tolist()
    return judged(model, probabilities, unsure_below, source, start, end, values.speech, values.outlier)


class Answers:
    """The model's answers for all windows."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._columns = {name: Growing(np.float32) for name in ("probabilities", "speech", "outlier")}

    def append(self, answer: Recognized) -> None:
        """Add the answers of a batch."""
        for name, column in self._columns.items():
            values = getattr(answer, name)
            if values is not None:
                column.append(values)

    def columns(self, name: str) -> Floats:
        """`probabilities` [windows, classes]; `speech` or `outlier` [windows], or [0] from a model without them."""
        values = self._columns[name].values()
        return values.reshape(-1, self._classes) if name == "probabilities" else values

    def mean(self, windows: slice) -> Values:
        """Means over some windows."""
        speech, outlier = self.columns("speech")[windows], self.columns("outlier")[windows]
        return Values(
            self.columns("probabilities")[windows].mean(0),
            float(speech.mean()) if len(speech) else None,
            float(outlier.mean()) if len(outlier) else None,
        )


def viterbi(log_likelihood: NDArray[np.float64], change_cost: float | NDArray[np.float64]) -> Integers:
    """The path through [steps, states] with the largest sum of log-likelihoods minus `change_cost` per change.

    The cost may differ for each change, [steps - 1].

    >>> log_likelihood = np.log([[0.9, 0.1], [0.4, 0.6], [0.9, 0.1]])
    >>> viterbi(log_likelihood, change_cost=0.0).tolist(), viterbi(log_likelihood, change_cost=1.0).tolist()
    ([0, 1, 0], [0, 0, 0])
    """
    steps, states = log_likelihood.shape
    costs = np.broadcast_to(change_cost, max(0, steps - 1))
    stay = np.arange(states)
    came_from = np.empty((steps, states), np.int64)
    score = log_likelihood[0]
    for step in range(1, steps):
        best = int(score.argmax())
        cost = costs[step - 1]
        change = score[best] - cost > score
        came_from[step] = np.where(change, best, stay)
        score = np.where(change, score[best] - cost, score) + log_likelihood[step]
    path = np.empty(steps, np.int64)
    path[-1] = score.argmax()
    for step in range(steps - 1, 0, -1):
        path[step - 1] = came_from[step, path[step]]
    return path


class WindowPlaces(NamedTuple):
    """Places of windows: their starts and ends in seconds, and the numbers of their stretches of speech, [windows]."""

    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    stretches: Integers

    def borders(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Between each window and the next: where the one's share ends, and where the other's begins, [windows - 1].

        Within a stretch both are half-way between the centers. Between two stretches the pause belongs to neither.
        """
        centers = (self.starts + self.ends) / 2
        middle = (centers[1:] + centers[:-1]) / 2
        pause = self.stretches[1:] != self.stretches[:-1]
        return np.where(pause, self.ends[:-1], middle), np.where(pause, self.starts[1:], middle)


def parts_of(
    answers: Answers,
    places: WindowPlaces,
    speech_seconds: Sequence[tuple[float, float]],
    own_share: float,
    change_cost: float,
    speech_below: float | None,
) -> Iterator[Part]:
    """Regions of speech, cut where the label changes or speech ends.

    Args:
        answers: of all windows.
        places: of the windows.
        speech_seconds: start and end of each region of speech.
        own_share: hop / window: how much of each overlapping window no other one hears.
        change_cost: of a change of label within a stretch, in nats.
        speech_below: windows whose speech score is below this end the region; None: none do.
    """
    likelihood = np.log(np.maximum(answers.columns("probabilities").astype(np.float64), SMALLEST_PROBABILITY))
    _, inverse, counts = np.unique(places.stretches, return_inverse=True, return_counts=True)
    likelihood *= np.where(counts[inverse] == 1, 1.0, own_share)[:, None]  # a stretch of one window is heard once
    costs = np.where(places.stretches[1:] != places.stretches[:-1], 0.0, change_cost)
    left_borders, right_borders = places.borders()
    middles = (left_borders + right_borders) / 2
    speech = answers.columns("speech")
    for start, end in speech_seconds if len(likelihood) else ():
        first, last = np.searchsorted(middles, [start, end]).tolist()  # windows whose shares touch the region
        path = viterbi(likelihood[first : last + 1], costs[first:last])
        if speech_below is not None and len(speech):
            path[speech[first : last + 1] < speech_below] = NOBODY
        changes = np.flatnonzero(np.diff(path)) + 1
        lefts = [start, *right_borders[first + changes - 1].tolist()]
        rights = [*left_borders[first + changes - 1].tolist(), end]
        runs = pairwise([first, *(first + changes).tolist(), last + 1])
        for run, label, left, right in zip(runs, path[[0, *changes]].tolist(), lefts, rights, strict=True):
            if label != NOBODY and right > left:
                yield Part(left, right, label, answers.mean(slice(*run)))


def segment_of(part: Part, model: Model, unsure_below: float, source: str) -> Prediction:
    """A segment has the label of the smoothed path and the mean answers of its windows."""
    start, end = part.start_seconds, part.end_seconds
    segment = prediction_of(part.values, model, unsure_below, source, start, end)
    label = model.labels[part.label]
    if segment.label == label:
        return segment
    confidence = segment.probabilities[label]
    unsure = confidence < unsure_below
    reason = segment.reason if segment.reason == UNLIKE_TRAINING else LOW_CONFIDENCE if unsure else None
    return replace(segment, label=label, confidence=confidence, unsure=reason is not None, reason=reason)
