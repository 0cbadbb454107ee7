"""Emotion over time: overlapping windows over a recording of any length, and segments made from them.

1. Windows: every `hop_seconds` the model hears `window_seconds`. Blocks of the recording come in and go, so memory is
   flat but for the answers themselves (some hundred bytes a second).
2. Voice activity: a detector finds the stretches with speech; gaps shorter than a breath are closed.
3. Smoothing: the most probable sequence of labels, where every change of label has a cost (Viterbi 1967). Overlapping
   windows hear the same samples again, so each counts for its hop alone.
4. Segments: stretches of speech, cut where the sequence changes its label.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affekt.audio.voice_activity import detector, regions
from affekt.errors import AudioError, ConfigError, Fault
from affekt.recognition.card import ModelCard
from affekt.recognition.prediction import Model, Prediction, to_frame

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

ENVELOPE_SECONDS = 0.05
"""Length of the pieces whose peaks draw the waveform."""
BATCH_WINDOWS = 4
SMALLEST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class TimelineConfig:
    """How a timeline is made.

    Attributes:
        window_seconds: what the model hears at a time; None: 3 s, or the whole clip for a model that fills recordings
            with silence.
        hop_seconds: from one window to the next; None: a third of the window.
        activity: voice activity detector, a name in `affekt.audio.voice_activity.DETECTORS`.
        change_cost: of a change of label, in nats: how much more probable the new label must be, summed over its
            duration in windows, for a change and the change back.
        shortest_seconds: shorter bursts of activity are dropped.
        longest_gap_seconds: shorter pauses belong to the speech around them.
    """

    window_seconds: float | None = None
    hop_seconds: float | None = None
    activity: str = "energy"
    change_cost: float = 1.0
    shortest_seconds: float = 0.2
    longest_gap_seconds: float = 0.5

    def resolved(self, card: ModelCard) -> TimelineConfig:
        """With window and hop filled in for a model.

        Raises:
            ConfigError: values out of range, all at once.
        """
        window = self.window_seconds or (min(3.0, card.clip_seconds) if card.masked else card.clip_seconds)
        hop = self.hop_seconds or window / 3
        rules = (
            ("window", window, 0.1 <= window <= card.clip_seconds, f"0.1 to {card.clip_seconds:g} s"),
            ("hop", hop, 0.02 <= hop <= window, "0.02 s to the window's length"),
            ("change cost", self.change_cost, self.change_cost >= 0, "0 or more"),
            ("shortest speech", self.shortest_seconds, self.shortest_seconds >= 0, "0 s or more"),
            ("longest gap", self.longest_gap_seconds, self.longest_gap_seconds >= 0, "0 s or more"),
        )
        faults = [
            Fault(f"timeline: {name}", f"{value:g}", expected) for name, value, valid, expected in rules if not valid
        ]
        if faults:
            raise ConfigError.of(faults)
        values = asdict(self) | {"window_seconds": window, "hop_seconds": hop}
        return TimelineConfig(**values)


@dataclass(frozen=True)
class Timeline:
    """Windows and segments of one recording.

    Attributes:
        source: the recording.
        duration_seconds: its length.
        labels: class names.
        config: how it was made.
        starts_seconds: where each window starts, [windows]; those without any speech are left out.
        probabilities: of each window, [windows, classes].
        segments: stretches of speech with one label each, in order; their probabilities are means over windows.
        envelope: peak of every :data:`ENVELOPE_SECONDS` of the waveform, [pieces].
    """

    source: str
    duration_seconds: float
    labels: tuple[str, ...]
    config: TimelineConfig
    starts_seconds: NDArray[np.float64]
    probabilities: Floats
    segments: tuple[Prediction, ...]
    envelope: Floats

    @property
    def window_ends_seconds(self) -> NDArray[np.float64]:
        assert self.config.window_seconds is not None
        return np.minimum(self.starts_seconds + self.config.window_seconds, self.duration_seconds)

    @property
    def seconds(self) -> dict[str, float]:
        """How long each label lasts, over all segments."""
        totals = dict.fromkeys(self.labels, 0.0)
        for segment in self.segments:
            totals[segment.label] += segment.end_seconds - segment.start_seconds
        return totals

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        windows = zip(self.starts_seconds.tolist(), self.window_ends_seconds.tolist(), self.probabilities, strict=True)
        return {
            "source": self.source,
            "duration_seconds": self.duration_seconds,
            "labels": list(self.labels),
            "config": asdict(self.config),
            "seconds": self.seconds,
            "segments": [segment.to_dict() for segment in self.segments],
            "windows": [
                {"start_seconds": start, "end_seconds": end, "probabilities": self._named(values)}
                for start, end, values in windows
            ],
        }

    def to_frame(self) -> pd.DataFrame:
        """The segments as a pandas table; pandas is in the training extra."""
        return to_frame(self.segments)

    def __str__(self) -> str:
        """A line a segment."""
        lines = [
            f"{segment.start_seconds:9.2f} {segment.end_seconds:9.2f}  {segment.label:<12}{segment.confidence:>5.0%}"
            + ("  unsure" if segment.unsure else "")
            for segment in self.segments
        ]
        spoken = sum(self.seconds.values())
        return "\n".join([f"{self.source}: {spoken:.1f} s of speech in {self.duration_seconds:.1f} s", *lines])

    def _named(self, values: Floats) -> dict[str, float]:
        return dict(zip(self.labels, values.tolist(), strict=True))


def make_timeline(
    model: Model, blocks: Iterable[Floats], source: str, unsure_below: float, config: TimelineConfig | None = None
) -> Timeline:
    """The timeline of a recording that comes in blocks at the model's rate.

    Raises:
        AudioError: the blocks hold no sample.
        ConfigError: windows that the model cannot take.
    """
    rate = model.card.sample_rate_hz
    config = (config or TimelineConfig()).resolved(model.card)
    recording = _Recording(blocks, rate, config)
    answers = _Growing(np.float32)
    for answer in model.map_windows(recording.batches()):
        answers.append(answer.probabilities)
    if not recording.samples:
        raise AudioError(source, got="no samples", expected="audio")
    timeline = Timeline(
        source=source,
        duration_seconds=recording.samples / rate,
        labels=model.labels,
        config=config,
        starts_seconds=recording.starts.values() / rate,
        probabilities=answers.values().reshape(-1, len(model.labels)),
        segments=(),
        envelope=recording.envelope(),
    )
    segments = _segments(timeline, recording.speech_seconds(), unsure_below)
    return replace(timeline, segments=tuple(segments))


class _Growing:
    """Numbers that come a few at a time, for hours, in one buffer.

    Thousands of small arrays instead would keep the memory between them from being used again.

    >>> numbers = _Growing(np.int64)
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


class _Recording:
    """One pass over a recording: windows for the model, and meanwhile voice activity and the waveform's envelope."""

    def __init__(self, blocks: Iterable[Floats], sample_rate_hz: int, config: TimelineConfig) -> None:
        assert config.window_seconds is not None
        assert config.hop_seconds is not None
        self.samples = 0
        self.starts = _Growing(np.int64)  # first sample of each window that was heard
        self._blocks = blocks
        self._rate = sample_rate_hz
        self._config = config
        self._window = round(config.window_seconds * sample_rate_hz)
        self._hop = round(config.hop_seconds * sample_rate_hz)
        self._detector = detector(config.activity, sample_rate_hz)
        self._activity = _Growing(np.bool_)
        self._frames = 0
        self._recent = np.empty(0, np.int64)  # active frames that windows to come may hold
        self._peaks = _Growing(np.float32)
        self._piece = round(ENVELOPE_SECONDS * sample_rate_hz)
        self._unpeaked = np.empty(0, np.float32)

    def batches(self) -> Iterator[list[Floats]]:
        """All windows that hold some speech; the last one may be shorter."""
        batch: list[Floats] = []
        for start, window in self._windows():
            if not self._has_speech(start, len(window)):
                continue
            self.starts.append([start])
            batch.append(window)
            if len(batch) == BATCH_WINDOWS:
                yield batch
                batch = []
        if batch:
            yield batch

    def envelope(self) -> Floats:
        """Peaks of all pieces."""
        if len(self._unpeaked):
            self._peaks.append([np.abs(self._unpeaked).max()])
        return self._peaks.values()

    def speech_seconds(self) -> list[tuple[float, float]]:
        """Start and end of each stretch of speech."""
        frame_seconds = self._detector.frame_samples / self._rate
        shortest = round(self._config.shortest_seconds / frame_seconds)
        longest_gap = round(self._config.longest_gap_seconds / frame_seconds)
        end_seconds = self.samples / self._rate
        return [
            (start * frame_seconds, min(end * frame_seconds, end_seconds))
            for start, end in regions(self._activity.values(), shortest, longest_gap)
        ]

    def _windows(self) -> Iterator[tuple[int, Floats]]:
        held, start = np.empty(0, np.float32), 0
        for block in self._blocks:
            self._note(block)
            held = np.concatenate([held, block])
            while len(held) > self._window:  # one that ends with the recording is left for the end
                yield start, held[: self._window]
                held, start = held[self._hop :], start + self._hop
        overlap = self._window - self._hop if start else 0
        if len(held) > overlap:
            yield start, held

    def _note(self, block: Floats) -> None:
        self.samples += len(block)
        active = self._detector.feed(block)
        self._activity.append(active)
        self._recent = np.concatenate([self._recent, np.flatnonzero(active) + self._frames])
        self._frames += len(active)
        joined = np.concatenate([self._unpeaked, block])
        whole = len(joined) - len(joined) % self._piece
        self._peaks.append(np.abs(joined[:whole]).reshape(-1, self._piece).max(1))
        self._unpeaked = joined[whole:]

    def _has_speech(self, start: int, samples: int) -> bool:
        frame = self._detector.frame_samples
        self._recent = self._recent[np.searchsorted(self._recent, start // frame) :]
        return bool(len(self._recent)) and int(self._recent[0]) * frame < start + samples


def viterbi(log_likelihood: NDArray[np.float64], change_cost: float) -> Integers:
    """The path through [steps, states] with the largest sum of log-likelihoods minus `change_cost` per change.

    >>> log_likelihood = np.log([[0.9, 0.1], [0.4, 0.6], [0.9, 0.1]])
    >>> viterbi(log_likelihood, change_cost=0.0).tolist(), viterbi(log_likelihood, change_cost=1.0).tolist()
    ([0, 1, 0], [0, 0, 0])
    """
    steps, states = log_likelihood.shape
    stay = np.arange(states)
    came_from = np.empty((steps, states), np.int64)
    score = log_likelihood[0]
    for step in range(1, steps):
        best = int(score.argmax())
        change = score[best] - change_cost > score
        came_from[step] = np.where(change, best, stay)
        score = np.where(change, score[best] - change_cost, score) + log_likelihood[step]
    path = np.empty(steps, np.int64)
    path[-1] = score.argmax()
    for step in range(steps - 1, 0, -1):
        path[step - 1] = came_from[step, path[step]]
    return path


def _segments(
    timeline: Timeline, speech_seconds: Sequence[tuple[float, float]], unsure_below: float
) -> list[Prediction]:
    """Stretches of speech, cut half-way between the centers of two windows where the label changes."""
    config = timeline.config
    assert config.window_seconds is not None
    assert config.hop_seconds is not None
    own_share = config.hop_seconds / config.window_seconds
    likelihood = np.log(np.maximum(timeline.probabilities.astype(np.float64), SMALLEST_PROBABILITY)) * own_share
    centers = (timeline.starts_seconds + timeline.window_ends_seconds) / 2
    borders = (centers[1:] + centers[:-1]) / 2
    segments: list[Prediction] = []
    for start, end in speech_seconds:
        first, last = np.searchsorted(borders, [start, end]).tolist()  # windows whose neighborhoods touch the speech
        path = viterbi(likelihood[first : last + 1], config.change_cost)
        changes = np.flatnonzero(np.diff(path)) + 1
        edges = [start, *borders[first + changes - 1].tolist(), end]
        runs = np.split(timeline.probabilities[first : last + 1], changes)
        for run, label, (left, right) in zip(runs, path[[0, *changes]], pairwise(edges), strict=True):
            segments.append(_segment(timeline, run.mean(0), int(label), left, right, unsure_below))
    return segments


def _segment(
    timeline: Timeline, probabilities: Floats, label: int, start: float, end: float, unsure_below: float
) -> Prediction:
    """A segment says the label of the smoothed path, with the mean probabilities of its windows."""
    named: Mapping[str, float] = dict(zip(timeline.labels, probabilities.tolist(), strict=True))
    name = timeline.labels[label]
    return Prediction(name, named[name], named, named[name] < unsure_below, timeline.source, start, end)
