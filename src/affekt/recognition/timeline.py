"""Emotion over time: overlapping windows over a recording of any length, segments, and an overall answer.

1. Windows: every `hop_seconds` the model hears `window_seconds`. The recording is read in blocks, so memory is flat but
   for the answers themselves (some hundred bytes a second).
2. Voice activity: a detector finds the stretches with speech; gaps shorter than a breath are closed.
3. Smoothing: the most probable sequence of labels, where every change of label has a cost (Viterbi 1967). Overlapping
   windows hear the same samples again, so each counts for its hop alone.
4. Segments: stretches of speech, cut where the sequence changes its label.
5. The overall answer, which `predict`, the server and the page give too: a recording no longer than the model's clip is
   one run of the model; of a longer one, the mean over the segments, each weighted by its length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from affekt.errors import AudioError, ConfigError, Fault
from affekt.recognition.card import ModelCard
from affekt.recognition.prediction import SILENCE, Model, Prediction, to_frame, without_speech
from affekt.recognition.segmentation import (
    Answers,
    Part,
    WindowPlaces,
    mean_of,
    parts_of,
    prediction_of,
    segment_of,
)
from affekt.recognition.sources import SHORTEST_SECONDS, is_silent
from affekt.recognition.windows import SpeechWindows

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class TimelineConfig:
    """Settings of a timeline.

    Attributes:
        window_seconds: what the model hears at a time; None: 3 s, or the whole clip for a model that fills recordings
            with silence.
        hop_seconds: from one window to the next; None: a third of the window.
        activity: voice activity detector, a name in `affekt.audio.voice_activity.DETECTORS`.
        change_cost: of a change of label, in nats: how much more probable the new label must be, summed over its
            duration in windows, for a change and the change back.
        shortest_seconds: shorter bursts of activity are dropped.
        longest_gap_seconds: shorter pauses belong to the speech around them.
        pause_seconds: windows do not cross pauses at least this long, and a change of label there costs nothing.
    """

    window_seconds: float | None = None
    hop_seconds: float | None = None
    activity: str = "energy"
    change_cost: float = 1.0
    shortest_seconds: float = 0.2
    longest_gap_seconds: float = 0.5
    pause_seconds: float = 0.15

    def resolved(self, card: ModelCard) -> TimelineConfig:
        """Fill in the window and hop for a model.

        Raises:
            ConfigError: values out of range, all at once.
        """
        usual = min(3.0, card.clip_seconds) if card.masked else card.clip_seconds
        window = usual if self.window_seconds is None else self.window_seconds
        hop = window / 3 if self.hop_seconds is None else self.hop_seconds
        rules = (
            ("window", window, 0.1 <= window <= card.clip_seconds, f"0.1 to {card.clip_seconds:g} s"),
            ("hop", hop, 0.02 <= hop <= window or self.hop_seconds is None, "0.02 s to the window's length"),
            ("change cost", self.change_cost, self.change_cost >= 0, "0 or more"),
            ("shortest speech", self.shortest_seconds, self.shortest_seconds >= 0, "0 s or more"),
            ("longest gap", self.longest_gap_seconds, self.longest_gap_seconds >= 0, "0 s or more"),
            ("pause", self.pause_seconds, self.pause_seconds >= 0, "0 s or more"),
        )
        faults = [
            Fault(f"timeline: {name}", f"{value:g}", expected) for name, value, valid, expected in rules if not valid
        ]
        if faults:
            raise ConfigError.of(faults)
        values = asdict(self) | {"window_seconds": window, "hop_seconds": hop}
        return TimelineConfig(**values)


@dataclass(frozen=True, repr=False)
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
        overall: the answer for the whole recording.
        channel: `left` or `right`, or the channel's number from 1; None: the mean of all channels.
        ends_seconds: where each window ends, [windows]; None: a window's length after its start.
    """

    source: str
    duration_seconds: float
    labels: tuple[str, ...]
    config: TimelineConfig
    starts_seconds: NDArray[np.float64]
    probabilities: Floats
    segments: tuple[Prediction, ...]
    envelope: Floats
    overall: Prediction
    channel: str | None = None
    ends_seconds: NDArray[np.float64] | None = None

    @property
    def window_ends_seconds(self) -> NDArray[np.float64]:
        """End of each window, [windows]."""
        if self.ends_seconds is not None:
            return self.ends_seconds
        assert self.config.window_seconds is not None
        return np.minimum(self.starts_seconds + self.config.window_seconds, self.duration_seconds)

    @property
    def seconds(self) -> dict[str, float]:
        """Duration of each label, over all segments."""
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
            "overall": self.overall.to_dict(),
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

    def __repr__(self) -> str:
        whole = self.overall
        answer = whole.label if not any(whole.probabilities.values()) else f"{whole.label} {whole.confidence:.2f}"
        length, count = f"{self.duration_seconds:.1f} s", len(self.segments)
        return f"<Timeline {self.source!r}, {length}, {count} segment{'s' * (count != 1)}, overall {answer}>"

    def _repr_html_(self) -> str:
        """The timeline in a notebook, with the recording to play."""
        from affekt.recognition.notebook_html import timeline_html

        return timeline_html(self)

    def __str__(self) -> str:
        """One line per segment."""
        lines = [
            f"{segment.start_seconds:9.2f} {segment.end_seconds:9.2f}  {segment.label:<12}{segment.confidence:>5.0%}"
            + ("  unsure" if segment.unsure else "")
            for segment in self.segments
        ]
        spoken = sum(self.seconds.values())
        head = f"{self.source}: {spoken:.1f} s of speech in {self.duration_seconds:.1f} s"
        return "\n".join([head + f" ({SILENCE})" * self.overall.silent, *lines])

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
    recording = SpeechWindows(blocks, rate, config, model.card.clip_samples)
    answers = Answers(len(model.labels))
    for answer in model.map_windows(recording.batches()):
        answers.append(answer)
    if not recording.samples:
        raise AudioError(source, got="no samples", expected="audio")
    duration, envelope = recording.samples / rate, recording.envelope()
    silent = is_silent(envelope)
    timeline = Timeline(
        source=source,
        duration_seconds=duration,
        labels=model.labels,
        config=config,
        starts_seconds=recording.starts.values() / rate,
        probabilities=answers.columns("probabilities"),
        segments=(),
        envelope=envelope,
        overall=without_speech(model, source, 0.0, duration, silent),
        ends_seconds=recording.ends.values() / rate,
    )
    parts = [] if silent else _parts(timeline, answers, recording, model.card.speech_below)
    segments = tuple(segment_of(part, model, unsure_below, source) for part in parts)
    return replace(timeline, segments=segments, overall=_overall(timeline, parts, recording, model, unsure_below))


def _parts(timeline: Timeline, answers: Answers, recording: SpeechWindows, speech_below: float | None) -> list[Part]:
    """Stretches of speech with one label each."""
    config = timeline.config
    assert config.window_seconds is not None
    assert config.hop_seconds is not None
    placed = WindowPlaces(timeline.starts_seconds, timeline.window_ends_seconds, recording.stretches.values())
    share = config.hop_seconds / config.window_seconds
    return list(parts_of(answers, placed, recording.speech_seconds(), share, config.change_cost, speech_below))


def _overall(
    timeline: Timeline, parts: Sequence[Part], recording: SpeechWindows, model: Model, unsure_below: float
) -> Prediction:
    """The answer for a whole recording: one run of the model if it fits, else the mean over its speech."""
    waveform, end = recording.beginning(), timeline.duration_seconds
    if waveform is not None:
        if end < SHORTEST_SECONDS or timeline.overall.silent:
            return timeline.overall
        return model.probabilities([waveform]).prediction(0, model, unsure_below, timeline.source, 0.0, end)
    if not parts:
        return timeline.overall
    seconds = [part.end_seconds - part.start_seconds for part in parts]
    mean = mean_of([part.values for part in parts], seconds)
    return prediction_of(mean, model, unsure_below, timeline.source, 0.0, end)
