"""Live streams: an answer per hop, the same however samples arrive, equal to predictions of the last window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affekt.errors import AudioError, ConfigError
from affekt.recognition.prediction import NO_SPEECH
from affekt.recognition.recognizer import Recognizer

RATE = 16_000
Babble = Callable[..., Any]


@pytest.fixture(scope="module")
def recognizer(small_model: Path) -> Recognizer:
    return Recognizer.load(small_model, threads=1)


def test_answers_are_about_the_last_window(recognizer: Recognizer, babble: Babble) -> None:
    samples = babble(4.2)
    answers = recognizer.stream(RATE, hop_seconds=0.5, window_seconds=2.0, activity="none").feed(samples)
    assert [answer.end_seconds for answer in answers] == [0.5 * index for index in range(1, 9)]
    assert [answer.start_seconds for answer in answers] == [0, 0, 0, 0, 0.5, 1.0, 1.5, 2.0]
    for answer in answers:
        part = samples[round(answer.start_seconds * RATE) : round(answer.end_seconds * RATE)]
        single = recognizer.predict(part, RATE)
        np.testing.assert_allclose(list(answer.probabilities.values()), list(single.probabilities.values()), atol=1e-6)


@pytest.mark.parametrize("rate", [RATE, 44_100])
@pytest.mark.parametrize("chunk", [1_000, 331, 40_000])
def test_cutting_does_not_matter(recognizer: Recognizer, babble: Babble, rate: int, chunk: int) -> None:
    samples = np.concatenate([np.zeros(rate, np.float32), babble(2.5, rate_hz=rate)])
    whole = recognizer.stream(rate).feed(samples)
    stream = recognizer.stream(rate)
    parts = [
        answer for start in range(0, len(samples), chunk) for answer in stream.feed(samples[start : start + chunk])
    ]
    assert [answer.label for answer in parts] == [answer.label for answer in whole]
    for part, answer in zip(parts, whole, strict=True):
        assert list(part.probabilities.values()) == pytest.approx(list(answer.probabilities.values()), abs=1e-5)


def test_a_hop_is_answered_with_its_last_sample(recognizer: Recognizer, babble: Babble) -> None:
    """No sample after a hop's end is waited for."""
    stream = recognizer.stream(RATE, hop_seconds=0.25)
    samples = babble(0.5)
    assert stream.feed(samples[:3_999]) == []
    assert len(stream.feed(samples[3_999:4_000])) == 1


def test_resampling_delays_by_less_than_50_ms(recognizer: Recognizer, babble: Babble) -> None:
    stream = recognizer.stream(48_000, hop_seconds=1.0)
    samples = babble(1.05, rate_hz=48_000)
    answered = [start for start in range(0, len(samples), 480) if stream.feed(samples[start : start + 480])]
    assert len(answered) == 1
    assert 48_000 - 480 <= answered[0] <= 48_000 + 2_400


def test_silence_is_said_to_be_silence(recognizer: Recognizer, babble: Babble) -> None:
    stream = recognizer.stream(RATE, window_seconds=1.0)
    silence = np.zeros(3 * RATE, np.float32)
    labels = [answer.label for answer in stream.feed(np.concatenate([silence, babble(2.0), silence]))]
    assert [label == NO_SPEECH for label in labels] == [True] * 3 + [False] * 2 + [True] * 3
    answer = stream.feed(silence)[0]
    assert (answer.confidence, answer.unsure, set(answer.probabilities.values())) == (0.0, True, {0.0})


@pytest.mark.parametrize(
    "samples",
    [np.zeros((2, 2), np.float32), np.zeros(2, np.int16), np.array([np.nan], np.float32)],
    ids=["shape", "type", "values"],
)
def test_unusable_samples_do_not_end_a_stream(recognizer: Recognizer, babble: Babble, samples: Any) -> None:
    stream = recognizer.stream(RATE)
    with pytest.raises(AudioError, match=r"expected (a vector of floating point|finite) samples"):
        stream.feed(samples)
    assert len(stream.feed(babble(1.0))) == 1


def test_all_faults_at_once(recognizer: Recognizer) -> None:
    with pytest.raises(ConfigError) as caught:
        recognizer.stream(10, hop_seconds=0.0, window_seconds=8.0)
    assert [fault.what for fault in caught.value.faults] == ["stream: rate", "stream: hop", "stream: window"]
