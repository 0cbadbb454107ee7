"""Recordings in the forms that Python's libraries give them, parts of recordings, and pickled recognizers."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from affekt.errors import AffektError, AudioError, ConfigError
from affekt.recognition.prediction import Failure, Prediction
from affekt.recognition.recognizer import Recognizer
from affekt.recognition.sources import Segment, samples_of

RATE = 16_000
Babble = Callable[..., Any]


@pytest.fixture(scope="module")
def recognizer(small_model: Path) -> Recognizer:
    return Recognizer.load(small_model, threads=1)


FORMS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "Hugging Face": lambda x: ({"array": x, "sampling_rate": RATE},),
    "Hugging Face with a path": lambda x: ({"path": "a.wav", "array": x.astype("f8"), "sampling_rate": RATE},),
    "gradio": lambda x: ((RATE, x),),
    "librosa": lambda x: ((x, RATE),),
    "channels first": lambda x: (x[None], RATE),
    "channels last": lambda x: (x[:, None], RATE),
    "two equal channels": lambda x: (np.stack([x, x], 1), RATE),
    "two equal channels first": lambda x: (np.stack([x, x]), RATE),
    "tensor": lambda x: (torch.from_numpy(x), RATE),
    "tensor with a gradient": lambda x: (torch.from_numpy(x)[None].requires_grad_(), RATE),
    "NumPy's float as rate": lambda x: (x, np.float64(RATE)),
    "NumPy's integer as rate": lambda x: (x, np.int64(RATE)),
    "series": lambda x: (pd.Series(x), RATE),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_answer(recognizer: Recognizer, babble: Babble, form: str) -> None:
    waveform = babble(1.0)
    expected = recognizer.predict(waveform, RATE)
    assert recognizer.predict(*FORMS[form](waveform)).probabilities == expected.probabilities


@pytest.mark.parametrize(("kind", "scale"), [("int16", 2**15), ("int32", 2**31), ("int8", 2**7)])
def test_integers_are_scaled_by_their_range(kind: str, scale: int) -> None:
    values = np.array([-0.5, 0.25, 0.0] * 9)
    samples, rate = samples_of((RATE, (values * scale).astype(kind)))
    np.testing.assert_allclose(samples, values, atol=1e-6)
    assert (samples.dtype, rate) == (np.float32, RATE)


def test_unsigned_bytes_are_centered() -> None:
    samples, _ = samples_of(np.array([128, 192, 0] * 9, np.uint8), RATE)
    assert samples[:3].tolist() == [0.0, 0.5, -1.0]


def test_channels_of_arrays(babble: Babble) -> None:
    left, right = babble(1.0), babble(1.0, 1)
    stereo = np.stack([left, right], 1)
    np.testing.assert_array_equal(samples_of(stereo, RATE, "left")[0], left)
    np.testing.assert_array_equal(samples_of(stereo.T, RATE, "right")[0], right)
    np.testing.assert_allclose(samples_of(stereo, RATE)[0], (left + right) / 2, rtol=1e-5)
    with pytest.raises(AudioError, match="array: channels: got 1, expected at least 2"):
        samples_of(left, RATE, 1)


def test_bytes_in_other_holders(recognizer: Recognizer, babble: Babble) -> None:
    wav = io.BytesIO()
    soundfile.write(wav, babble(1.0), RATE, format="WAV")
    content = wav.getvalue()
    expected = recognizer.predict(content).probabilities
    for source in (bytearray(content), memoryview(content), {"bytes": content, "path": None}):
        assert recognizer.predict(source).probabilities == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "got a NoneType, expected a path"),
        (3.5, "got a float"),
        (object(), "got a object"),
        (["a.wav", "b.wav"], "got a list, .*predict_many takes several"),
        ((1, 2), "got a tuple"),
        ({"array": np.zeros(9)}, "a mapping without sampling_rate"),
        ({}, "mapping|dict"),
        ("https://example.org/a.wav", "got an address, expected a file; download it first"),
        ((RATE, np.zeros(9, "U1")), "type: got <U1"),
    ],
)
def test_other_things_are_refused(recognizer: Recognizer, source: Any, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        recognizer.predict(source)


def test_a_rate_that_contradicts_the_recordings_own(recognizer: Recognizer, babble: Babble) -> None:
    with pytest.raises(AudioError, match="got 8000 beside a recording of 16000 Hz"):
        recognizer.predict((RATE, babble(1.0)), 8_000)


@pytest.mark.parametrize("options", [{"min_confidence": "high"}, {"min_confidence": 2}, {"min_confidence": np.nan}])
def test_thresholds_that_are_none(recognizer: Recognizer, babble: Babble, options: Any) -> None:
    with pytest.raises(ConfigError, match="min_confidence: got"):
        recognizer.predict(babble(1.0), RATE, **options)


def test_one_recording_is_a_list_of_one(recognizer: Recognizer, babble: Babble, tmp_path: Path) -> None:
    path, waveform = tmp_path / "a.wav", babble(1.0)
    soundfile.write(path, waveform, RATE, subtype="FLOAT")
    expected = recognizer.predict(path).probabilities
    singles: list[Any] = [str(path), path, path.read_bytes(), {"array": waveform, "sampling_rate": RATE}]
    singles += [(RATE, waveform), torch.from_numpy(waveform), waveform]
    for source in singles:
        rate = None if isinstance(source, dict | tuple) else RATE
        (answer,) = recognizer.predict_many(source, sample_rate_hz=rate)
        assert isinstance(answer, Prediction)
        assert answer.probabilities == expected


@pytest.mark.parametrize("sources", [None, 5])
def test_no_list_at_all(recognizer: Recognizer, sources: Any) -> None:
    with pytest.raises(AudioError, match="sources: got"):
        recognizer.predict_many(sources)


@pytest.mark.parametrize("jobs", [0, -1, 1.5, "2", True])
def test_numbers_of_threads_that_are_none(recognizer: Recognizer, jobs: Any) -> None:
    with pytest.raises(ConfigError, match="jobs: got"):
        recognizer.predict_many([], jobs=jobs)


def test_wrong_types_in_a_list_fail_alone(recognizer: Recognizer, babble: Babble) -> None:
    good, bad, none = recognizer.predict_many([(RATE, babble(1.0)), 7, None])
    assert isinstance(good, Prediction)
    assert isinstance(bad, Failure)
    assert isinstance(none, Failure)
    assert "got a int" in str(bad)


def test_recognizers_can_be_pickled(recognizer: Recognizer, babble: Babble) -> None:
    copy = pickle.loads(pickle.dumps(recognizer))
    waveform = babble(1.0)
    assert copy.predict(waveform, RATE) == recognizer.predict(waveform, RATE)
    assert (copy.name, copy.threads) == (recognizer.name, recognizer.threads)


def test_predictions_name_their_model(recognizer: Recognizer, babble: Babble) -> None:
    answer = recognizer.predict(babble(1.0), RATE)
    name, version, content = answer.model.split()
    assert (name, content[:7]) == ("small.onnx", "sha256:")
    assert version == recognizer.card.version
    assert answer.to_dict()["model"] == answer.model
    assert recognizer.timeline(babble(1.0), RATE).segments[0].model == answer.model


@pytest.mark.parametrize("end", [2.5, timedelta(seconds=2.5), np.timedelta64(2_500, "ms"), pd.Timedelta("2.5s"), "2,5"])
def test_parts_of_recordings(recognizer: Recognizer, babble: Babble, tmp_path: Path, end: Any) -> None:
    waveform = babble(4.0)
    soundfile.write(tmp_path / "a.wav", waveform, RATE, subtype="FLOAT")
    expected = recognizer.predict(waveform[RATE : round(2.5 * RATE)], RATE)
    for source, rate in ((waveform, RATE), (tmp_path / "a.wav", None)):
        answer = recognizer.predict(source, rate, start_seconds=1.0, end_seconds=end)
        assert answer.probabilities == expected.probabilities
        assert (answer.start_seconds, answer.end_seconds) == (1.0, 2.5)


def test_a_long_part_is_heard_to_its_end(recognizer: Recognizer, babble: Babble) -> None:
    waveform = babble(20.0)
    answer = recognizer.predict(waveform, RATE, start_seconds=2.0, end_seconds=np.nan)
    np.testing.assert_allclose(
        list(answer.probabilities.values()), list(recognizer.predict(waveform[2 * RATE :], RATE).probabilities.values())
    )
    assert (answer.start_seconds, answer.end_seconds) == (2.0, 20.0)
    timeline = recognizer.timeline(waveform, RATE, start_seconds=2.0)
    assert timeline.duration_seconds == 18.0


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (2.0, 1.0, "end: got 1 s, expected more than the start, 2 s"),
        (None, 0.0, "end: got 0 s, expected more than the start, 0 s"),
        (-1.0, None, "start: got -1 s, expected 0 s or more"),
        ("later", None, "start: got 'later', expected seconds"),
        (9.0, None, "start at 9.000 s, expected less than its length"),
        (True, None, "start: got True"),
    ],
)
def test_times_that_make_no_sense(
    recognizer: Recognizer, babble: Babble, tmp_path: Path, start: Any, end: Any, message: str
) -> None:
    soundfile.write(tmp_path / "a.wav", babble(2.0), RATE)
    for source, rate in ((babble(2.0), RATE), (tmp_path / "a.wav", None)):
        with pytest.raises(AudioError, match=message):
            recognizer.predict(source, rate, start_seconds=start, end_seconds=end)


def test_channels_of_files(recognizer: Recognizer, babble: Babble, tmp_path: Path) -> None:
    left, right = babble(9.0), babble(9.0, 1)
    soundfile.write(tmp_path / "call.wav", np.stack([left, right], 1), RATE, subtype="FLOAT")
    for channel, waveform in (("left", left), ("right", right), (1, right)):
        answer = recognizer.predict(tmp_path / "call.wav", channel=channel)
        assert answer.probabilities == recognizer.predict(waveform, RATE).probabilities
    assert recognizer.predict(tmp_path / "call.wav", channel="right").to_dict()["channel"] == "right"
    assert "channel" not in recognizer.predict(tmp_path / "call.wav").to_dict()
    for channel in ("each", "middle", -1):
        with pytest.raises(ConfigError, match="channel"):
            recognizer.predict(tmp_path / "call.wav", channel=channel)


def test_segments_in_a_list(recognizer: Recognizer, babble: Babble) -> None:
    waveform = babble(4.0)
    one, other = recognizer.predict_many([Segment((RATE, waveform), 0, 1.5), Segment((RATE, waveform), 1.5, 4.0)])
    assert isinstance(one, Prediction)
    assert isinstance(other, Prediction)
    assert (one.end_seconds, other.start_seconds, other.end_seconds) == (1.5, 1.5, 4.0)
    assert other.probabilities != one.probabilities


def test_embeddings(recognizer: Recognizer, babble: Babble) -> None:
    waveform = babble(9.0)
    short = recognizer.embed(waveform[: 3 * RATE], RATE)
    np.testing.assert_array_equal(short, recognizer.probabilities([waveform[: 3 * RATE]]).embeddings[0])
    assert (short.dtype, short.ndim) == (np.float32, 1)
    clips = [recognizer.embed(part, RATE) for part in (waveform[:120_000], waveform[120_000:])]
    np.testing.assert_allclose(recognizer.embed(waveform, RATE), np.average(clips, 0, [7.5, 1.5]), rtol=1e-5, atol=1e-6)


def test_errors_are_of_one_family(recognizer: Recognizer) -> None:
    for call in (
        lambda: recognizer.predict(None),
        lambda: recognizer.embed([1.0]),
        lambda: recognizer.timeline(3),
        lambda: recognizer.predict(np.zeros(RATE), "fast"),
    ):
        with pytest.raises(AffektError):
            call()
