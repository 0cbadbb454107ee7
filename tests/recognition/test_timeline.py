"""Timelines: the same however a recording is cut; windows are single predictions, segments follow speech and labels."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from affekt.errors import AudioError, ConfigError
from affekt.recognition.card import ModelCard
from affekt.recognition.prediction import Recognized
from affekt.recognition.recognizer import Recognizer
from affekt.recognition.segmentation import viterbi
from affekt.recognition.timeline import TimelineConfig, make_timeline

RATE = 16_000
Babble = Callable[..., Any]


@pytest.fixture(scope="module")
def recognizer(small_model: Path) -> Recognizer:
    return Recognizer.load(small_model, threads=2)


class Listener:
    """A model that hears loudness: quiet is `low`, loud is `high`, with a certainty of 0.9."""

    labels = ("low", "high")
    identity = "listener"
    assumption = ""
    card = ModelCard(labels, RATE, 7.5, True, 1.0, 0.5, "float32", 18, "0")

    def __init__(self, threshold: float = 0.1) -> None:
        self.threshold = threshold
        self.windows: list[int] = []

    def probabilities(self, waveforms: Sequence[Any]) -> Recognized:
        self.windows += [len(waveform) for waveform in waveforms]
        high = np.array([waveform.std() > self.threshold for waveform in waveforms])
        values = np.where(np.stack([~high, high], 1), 0.9, 0.1).astype(np.float32)
        return Recognized(values, np.zeros((len(values), 1), np.float32))

    def map_windows(self, batches: Iterable[Sequence[Any]]) -> Iterator[Recognized]:
        return map(self.probabilities, batches)


def loudness(*parts: tuple[float, float]) -> Any:
    """Noise in syllables, four a second, of (seconds, loudness), one part after the other."""
    rng = np.random.default_rng(0)
    noise = np.concatenate([level * rng.normal(size=round(seconds * RATE)) for seconds, level in parts])
    return (noise * (np.arange(len(noise)) % (RATE // 4) < RATE // 5)).astype(np.float32)


def timeline_of(samples: Any, **options: Any) -> Any:
    return make_timeline(Listener(), [samples], "test", 0.5, TimelineConfig(**options))


def test_windows_are_single_predictions(recognizer: Recognizer, babble: Babble) -> None:
    samples = babble(8.7)
    timeline = recognizer.timeline(samples, RATE, config=TimelineConfig(2.0, 0.5, activity="none"))
    assert timeline.starts_seconds.tolist() == [0.5 * index for index in range(15)]
    assert timeline.window_ends_seconds[-2:] == pytest.approx([8.5, 8.7])
    for start, end, probabilities in zip(
        timeline.starts_seconds, timeline.window_ends_seconds, timeline.probabilities, strict=True
    ):
        single = recognizer.predict(samples[round(start * RATE) : round(end * RATE)], RATE)
        np.testing.assert_allclose(probabilities, list(single.probabilities.values()), atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 150_000), max_size=6))
def test_cutting_into_blocks_does_not_matter(cuts: list[int]) -> None:
    samples = loudness((3, 0.01), (3, 0.3), (2, 0.0), (1.37, 0.3))
    whole = make_timeline(Listener(), [samples], "test", 0.5)
    parts = make_timeline(Listener(), np.split(samples, sorted(min(cut, len(samples)) for cut in cuts)), "test", 0.5)
    assert parts.segments == whole.segments
    np.testing.assert_array_equal(parts.probabilities, whole.probabilities)
    np.testing.assert_array_equal(parts.envelope, whole.envelope)
    assert parts.duration_seconds == whole.duration_seconds == len(samples) / RATE


def test_files_equal_arrays(recognizer: Recognizer, babble: Babble, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", babble(12.3), RATE, subtype="FLOAT")
    from_file = recognizer.timeline(tmp_path / "a.wav")
    from_array = recognizer.timeline(babble(12.3), RATE)
    np.testing.assert_allclose(from_file.probabilities, from_array.probabilities, atol=1e-6)
    assert [s.label for s in from_file.segments] == [s.label for s in from_array.segments]
    assert from_file.source == str(tmp_path / "a.wav")


def test_segments_follow_labels_and_pauses() -> None:
    """Quiet 6 s, loud 6 s, silence 2 s, loud 4 s: three segments; the change is found within a hop."""
    samples = loudness((6, 0.02), (6, 0.3), (2, 0.0), (4, 0.3))
    timeline = timeline_of(samples, window_seconds=2.0, hop_seconds=0.5, activity="energy")
    found = [(segment.label, segment.start_seconds, segment.end_seconds) for segment in timeline.segments]
    assert [label for label, _, _ in found] == ["low", "high", "high"]
    edges = np.array([[start, end] for _, start, end in found])
    np.testing.assert_allclose(edges, [[0, 6], [6, 12], [14, 18]], atol=1.0)
    np.testing.assert_allclose(edges[[1, 2], [1, 0]], [12, 13.95], atol=0.03)  # to the frame, with the margin heard
    assert timeline.seconds == pytest.approx({"low": edges[0, 1], "high": 18 - 2 - edges[0, 1]}, abs=0.1)


def test_margins_of_neighbors_meet_in_a_short_gap() -> None:
    """Some regions are less than 0.1 s apart: there is no room for two margins of 0.05 s."""
    samples = loudness((4, 0.3))
    timeline = timeline_of(samples, window_seconds=2.0, hop_seconds=0.5, activity="energy", longest_gap_seconds=0.0)
    ends = np.array([segment.end_seconds for segment in timeline.segments])
    starts = np.array([segment.start_seconds for segment in timeline.segments])
    assert (starts[1:] >= ends[:-1]).all()
    assert (starts[1:] == ends[:-1]).any()
    assert (starts[0], ends[-1]) == (0.0, timeline.duration_seconds)


def test_windows_without_speech_are_not_heard() -> None:
    listener = Listener()
    samples = loudness((3, 0.3), (10, 0.0), (3, 0.3))
    timeline = make_timeline(listener, [samples], "test", 0.5, TimelineConfig(1.0, 1.0))
    assert len(listener.windows) <= 8
    assert len(timeline.starts_seconds) == len(timeline.probabilities) == len(listener.windows)
    assert not ((timeline.starts_seconds > 3.1) & (timeline.starts_seconds < 11.9)).any()


def test_a_blip_is_smoothed_away() -> None:
    """Half a second of loudness in quiet speech changes no label, unless changes are free."""
    samples = loudness((5, 0.02), (0.4, 0.3), (5, 0.02))
    options = {"window_seconds": 0.5, "hop_seconds": 0.25, "activity": "none"}
    smooth = timeline_of(samples, change_cost=2.0, **options).segments
    assert [segment.label for segment in smooth] == ["low"]
    rough = timeline_of(samples, change_cost=0.0, **options).segments
    assert [segment.label for segment in rough] == ["low", "high", "low"]


def test_silent_recordings_have_no_segments() -> None:
    timeline = timeline_of(np.zeros(5 * RATE, np.float32))
    assert (timeline.segments, len(timeline.starts_seconds), timeline.duration_seconds) == ((), 0, 5.0)
    assert "0.0 s of speech in 5.0 s" in str(timeline)
    assert timeline.to_dict()["windows"] == []


@pytest.mark.parametrize("samples", [1, 160, 4_000])
def test_short_recordings(recognizer: Recognizer, babble: Babble, samples: int) -> None:
    timeline = recognizer.timeline(babble(1.0)[:samples], RATE, config=TimelineConfig(activity="none"))
    assert len(timeline.starts_seconds) <= 1
    assert timeline.duration_seconds == samples / RATE


def test_nothing_is_an_error(recognizer: Recognizer) -> None:
    with pytest.raises(AudioError, match="got no samples"):
        recognizer.timeline(np.empty(0, np.float32), RATE)
    with pytest.raises(AudioError, match=r"No such file: nowhere\.wav"):
        recognizer.timeline("nowhere.wav")


def test_all_faults_of_a_configuration(recognizer: Recognizer, babble: Babble) -> None:
    config = TimelineConfig(window_seconds=9.0, hop_seconds=10.0, change_cost=-1)
    with pytest.raises(ConfigError) as caught:
        recognizer.timeline(babble(1.0), RATE, config=config)
    assert [str(fault) for fault in caught.value.faults] == [
        "timeline: window: got 9, expected 0.1 to 7.5 s",
        "timeline: hop: got 10, expected 0.02 s to the window's length",
        "timeline: change cost: got -1, expected 0 or more",
    ]


def test_defaults_follow_the_model() -> None:
    masked = Listener.card
    padded = ModelCard(("a", "b"), RATE, 7.5, False, 1.0, 0.5, "float32", 18, "0")
    assert TimelineConfig().resolved(masked).window_seconds == 3.0
    assert TimelineConfig().resolved(masked).hop_seconds == 1.0
    assert TimelineConfig().resolved(padded).window_seconds == 7.5


def test_memory_is_flat() -> None:
    """Ten minutes in blocks take hardly more than one minute: what is kept is far less than the samples."""

    def peak(minutes: int) -> int:
        blocks = (loudness((10, 0.1)) for _ in range(6 * minutes))
        tracemalloc.start()
        make_timeline(Listener(), blocks, "test", 0.5, TimelineConfig(activity="none"))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(10) - peak(1) < 0.02 * 9 * 60 * RATE * 4


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(1, 3), st.floats(0, 3), st.integers(0, 1_000))
def test_viterbi_against_all_paths(steps: int, states: int, cost: float, seed: int) -> None:
    """Oracle: the best of all paths, tried one by one."""
    likelihood = np.random.default_rng(seed).normal(size=(steps, states))

    def value(path: Sequence[int]) -> float:
        changes = sum(a != b for a, b in itertools.pairwise(path))
        return float(sum(likelihood[step, state] for step, state in enumerate(path)) - cost * changes)

    best = max(value(path) for path in itertools.product(range(states), repeat=steps))
    assert value(viterbi(likelihood, cost).tolist()) == pytest.approx(best)


def test_turns_into_tables(babble: Babble) -> None:
    timeline = timeline_of(loudness((3, 0.02), (3, 0.3)), window_seconds=1.0, hop_seconds=0.5)
    frame = timeline.to_frame()
    assert frame["label"].tolist() == ["low", "high"]
    assert timeline.to_dict()["segments"][1]["label"] == "high"
    assert timeline.to_dict()["windows"][0]["probabilities"] == pytest.approx({"low": 0.9, "high": 0.1})
    assert str(timeline).splitlines()[1].split()[2:4] == ["low", "90%"]


@pytest.mark.parametrize("pause", [0.2, 0.4, 1.0])
def test_windows_do_not_cross_pauses(pause: float) -> None:
    """Six utterances, quiet and loud in turns: each is heard by itself, and the label changes in the pause."""
    parts = [part for index in range(6) for part in ((2.0 + index % 3, (0.02, 0.3)[index % 2]), (pause, 0.0))]
    samples = loudness(*parts)
    timeline = timeline_of(samples)
    starts = np.cumsum([0.0, *(seconds for seconds, _ in parts)])
    spoken = [(starts[2 * index], starts[2 * index + 1]) for index in range(6)]
    for start, end in zip(timeline.starts_seconds, timeline.window_ends_seconds, strict=True):
        assert any(first - 0.1 <= start and end <= last + 0.1 for first, last in spoken)
    found = [(part.label, part.start_seconds, part.end_seconds) for part in timeline.segments]
    assert [label for label, _, _ in found] == ["low", "high"] * 3
    edges = np.array([[start, end] for _, start, end in found])
    np.testing.assert_allclose(edges, spoken, atol=0.12)


def test_a_pause_of_one_speaker_ends_no_segment() -> None:
    samples = loudness((2, 0.3), (0.3, 0.0), (2, 0.3))
    assert len(timeline_of(samples).segments) == 1
    assert len(timeline_of(samples, longest_gap_seconds=0.1).segments) == 2


def test_words_by_themselves_are_heard_together() -> None:
    """Six words of a third of a second with pauses of 0.3 s: no window is shorter than a second but the last."""
    timeline = timeline_of(loudness(*[(0.36, 0.3), (0.3, 0.0)] * 6))
    lengths = timeline.window_ends_seconds - timeline.starts_seconds
    assert (lengths[:-1] > 1.0).all()


def test_costs_may_differ_for_each_change() -> None:
    log_likelihood = np.log([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    assert viterbi(log_likelihood, np.array([2.0, 0.0])).tolist() == [0, 0, 1]
    assert viterbi(log_likelihood, np.array([0.0, 2.0])).tolist() == [0, 1, 1]
