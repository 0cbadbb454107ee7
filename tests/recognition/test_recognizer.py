"""The recognizer: answers are the model's, order is kept, and what cannot be used is said clearly."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import soundfile
import torch
from onnx import TensorProto, helper

from affekt.errors import AudioError, CheckpointError
from affekt.recognition.prediction import CHUNK_RECORDINGS, Failure, Prediction, to_frame
from affekt.recognition.recognizer import Recognizer
from affekt.recognition.timeline import TimelineConfig

RATE = 16_000
Babble = Callable[..., Any]


@pytest.fixture(scope="module")
def recognizer(small_model: Path) -> Recognizer:
    return Recognizer.load(small_model, threads=2)


@pytest.fixture
def folder(tmp_path: Path, babble: Babble) -> Path:
    """Six recordings of different lengths, in different formats."""
    suffixes = (".wav", ".flac", ".ogg", ".wav", ".aiff", ".wav")
    for index, suffix in enumerate(suffixes):
        soundfile.write(tmp_path / f"{index}{suffix}", babble(0.3 + 0.37 * (index * 5 % 7), index), RATE)
    return tmp_path


def test_predictions_are_the_models(
    recognizer: Recognizer, make_pipeline: Callable[..., Any], babble: Babble, tmp_path: Path
) -> None:
    """Oracle: the same network in PyTorch."""
    waveform = babble(1.3)
    soundfile.write(tmp_path / "a.wav", waveform, RATE, subtype="FLOAT")
    prediction = recognizer.predict(tmp_path / "a.wav")
    wanted = make_pipeline()(torch.from_numpy(waveform[None]), torch.tensor([len(waveform)])).probabilities[0]
    np.testing.assert_allclose(list(prediction.probabilities.values()), wanted, atol=1e-4)
    assert prediction.label == recognizer.labels[int(wanted.argmax())]
    assert prediction.confidence == max(prediction.probabilities.values())
    assert (prediction.source, prediction.start_seconds) == (str(tmp_path / "a.wav"), 0.0)
    assert prediction.end_seconds == pytest.approx(1.3)


def test_paths_bytes_streams_and_arrays_agree(recognizer: Recognizer, folder: Path) -> None:
    path = folder / "3.wav"
    samples, rate = soundfile.read(path, dtype="float32")
    answers = [
        recognizer.predict(path),
        recognizer.predict(str(path)),
        recognizer.predict(path.read_bytes()),
        recognizer.predict(io.BytesIO(path.read_bytes())),
        recognizer.predict(samples, sample_rate_hz=rate),
    ]
    assert len({tuple(answer.probabilities.values()) for answer in answers}) == 1


def test_many_keep_their_order_and_equal_single_ones(recognizer: Recognizer, folder: Path) -> None:
    """More recordings than a chunk, in batches of like lengths, some of them broken."""
    (folder / "text.wav").write_text("no audio")
    paths = [*sorted(folder.iterdir()), folder / "missing.wav"] * 4
    answers = list(recognizer.predict_many(map(str, paths)))
    assert [answer.source for answer in answers] == [str(path) for path in paths]
    failures = [answer for answer in answers if isinstance(answer, Failure)]
    assert len(failures) == 8
    assert all(isinstance(failure.error, AudioError) for failure in failures)
    assert "No such file: " in str(failures[1])
    for answer in answers[:6]:
        single = recognizer.predict(answer.source)
        assert isinstance(answer, Prediction)
        assert answer.label == single.label
        np.testing.assert_allclose(list(answer.probabilities.values()), list(single.probabilities.values()), atol=1e-5)


def test_many_take_sources_only_as_they_are_asked_for(recognizer: Recognizer, babble: Babble) -> None:
    """An endless list is fine, and memory does not grow with it."""
    taken = 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield babble(0.3)

    answers = recognizer.predict_many(endless(), sample_rate_hz=RATE)
    assert next(answers).source == "array"
    answers.close()  # type: ignore[attr-defined]
    assert taken <= CHUNK_RECORDINGS * 8


def test_one_thread_gives_the_same(small_model: Path, recognizer: Recognizer, folder: Path) -> None:
    single = Recognizer.load(small_model, threads=1)
    paths = sorted(map(str, folder.iterdir()))
    assert list(single.predict_many(paths)) == list(recognizer.predict_many(paths))


def test_other_rates_are_resampled(recognizer: Recognizer, babble: Babble) -> None:
    """A tone-like recording at 16 kHz and at 48 kHz is nearly the same to the model."""
    slow = np.convolve(babble(1.0), np.hanning(40) / 20, "same").astype(np.float32)  # nothing above 1 kHz
    fast = np.interp(np.arange(48_000) / 3, np.arange(16_000), slow).astype(np.float32)
    first, second = recognizer.predict(slow, RATE), recognizer.predict(fast, 48_000)
    np.testing.assert_allclose(list(first.probabilities.values()), list(second.probabilities.values()), atol=0.05)


def test_the_first_clip_alone_where_it_is_asked_for(recognizer: Recognizer, babble: Babble, tmp_path: Path) -> None:
    waveform = babble(9.0)
    for rate, name in ((RATE, "a.wav"), (22_050, "b.wav")):
        soundfile.write(tmp_path / name, waveform, rate)
        prediction = recognizer.predict(tmp_path / name, first=True)
        assert prediction.truncated == (rate == RATE)
        assert prediction.end_seconds == pytest.approx(min(7.5, 144_000 / rate), abs=1e-4)
        (same,) = recognizer.predict_many([tmp_path / name], first=True)
        assert isinstance(same, Prediction)
        assert (same.truncated, same.end_seconds) == (prediction.truncated, prediction.end_seconds)
    clipped = recognizer.predict(waveform[:120_000], RATE)
    assert clipped.probabilities == recognizer.predict(waveform, RATE, first=True).probabilities
    assert not clipped.truncated


def test_long_recordings_are_heard_to_their_end(recognizer: Recognizer, babble: Babble, tmp_path: Path) -> None:
    """The answer is the timeline's: the mean over the speech, each segment weighted by its length."""
    soundfile.write(tmp_path / "long.wav", np.concatenate([babble(8.0), np.zeros(40_000), babble(5.0, 1)]), RATE)
    timeline = recognizer.timeline(tmp_path / "long.wav")
    answer = recognizer.predict(tmp_path / "long.wav")
    seconds = [segment.end_seconds - segment.start_seconds for segment in timeline.segments]
    values = [list(segment.probabilities.values()) for segment in timeline.segments]
    np.testing.assert_allclose(list(answer.probabilities.values()), np.average(values, axis=0, weights=seconds))
    assert (answer.start_seconds, answer.end_seconds, answer.truncated) == (0.0, 15.5, False)
    assert answer == timeline.overall
    (many,) = recognizer.predict_many([tmp_path / "long.wav"])
    assert isinstance(many, Prediction)
    np.testing.assert_allclose(list(many.probabilities.values()), list(answer.probabilities.values()), atol=1e-6)
    assert recognizer.predict((tmp_path / "long.wav").read_bytes()).probabilities == answer.probabilities


def test_short_recordings_have_one_answer_everywhere(recognizer: Recognizer, babble: Babble) -> None:
    for seconds in (1.0, 5.0, 7.5):
        waveform = babble(seconds)
        answer = recognizer.predict(waveform, RATE)
        assert recognizer.timeline(waveform, RATE).overall == answer
        assert recognizer.predict(waveform, RATE, first=True).probabilities == answer.probabilities


def test_speech_after_a_silent_beginning_is_heard(recognizer: Recognizer, babble: Babble) -> None:
    silence = np.zeros(10 * RATE, np.float32)
    answer = recognizer.predict(np.concatenate([silence, babble(4.0)]), RATE)
    assert answer.label in recognizer.labels


def test_long_recordings_without_speech_say_so(recognizer: Recognizer) -> None:
    hum = np.full(10 * RATE, 0.01, np.float32)
    answer = recognizer.predict(hum, RATE)
    assert (answer.label, answer.reason, answer.confidence) == ("no speech", "no speech", 0.0)


def test_memory_does_not_grow_with_a_recording(recognizer: Recognizer, babble: Babble, tmp_path: Path) -> None:
    """Five minutes, 19 MB as samples: the peak stays far below."""
    soundfile.write(tmp_path / "long.wav", np.tile(babble(10.0), 30), RATE)
    tracemalloc.start()
    recognizer.predict(tmp_path / "long.wav")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


def test_threshold_of_the_card_and_own(recognizer: Recognizer, babble: Babble) -> None:
    prediction = recognizer.predict(babble(1.0), RATE)
    assert prediction.unsure == (prediction.confidence < recognizer.card.unsure_below)
    assert recognizer.predict(babble(1.0), RATE, min_confidence=1.0).unsure
    assert not recognizer.predict(babble(1.0), RATE, min_confidence=0.0).unsure


@pytest.mark.parametrize(
    ("array", "rate", "message"),
    [
        (np.full(160, 0.1, np.float32), RATE, "got 10 ms, expected at least 100 ms"),
        (np.empty(0, np.float32), RATE, "got 0 ms"),
        (np.full(16_000, np.nan, np.float32), RATE, "got NaN or infinity"),
        (np.zeros((8, 16_000), np.float32), RATE, r"shape: got \(8, 16000\), .*predict_many"),
        (np.zeros((2, 3, 4), np.float32), RATE, "shape: got"),
        (np.zeros(16_000, np.int64), RATE, "type: got int64, .*divide by"),
        (np.zeros(16_000, np.complex64), RATE, "type: got complex64"),
        (np.array(["a"] * 16_000), RATE, "type: got <U1"),
        (np.zeros(16_000, np.float32), "16000", "sample rate: got '16000'"),
        (np.zeros(16_000, np.float32), 44_100.5, "sample rate: got 44100.5"),
        (np.zeros(16_000, np.float32), True, "sample rate: got True"),
        (np.full(16_000, 3e4, np.float32), RATE, "got a peak of 30000"),
        (np.zeros(16_000, np.float32), None, "sample rate: got None"),
        (np.zeros(16_000, np.float32), -8, "sample rate: got -8"),
    ],
)
def test_arrays_that_cannot_be_used(recognizer: Recognizer, array: Any, rate: Any, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        recognizer.predict(array, rate)


def test_all_faults_of_an_array_at_once(recognizer: Recognizer) -> None:
    with pytest.raises(AudioError) as caught:
        recognizer.predict(np.zeros((2, 3), np.int64))
    assert len(caught.value.faults) == 3


@pytest.mark.parametrize("loudness", [0.0, 1e-5])
@pytest.mark.parametrize("seconds", [1.0, 10.0])
def test_silent_recordings_have_no_speech_everywhere(
    recognizer: Recognizer, babble: Babble, tmp_path: Path, loudness: float, seconds: float
) -> None:
    """In files and arrays, alone, in lists, as a timeline and in a stream; shorter and longer than a clip."""
    path, quiet = tmp_path / "quiet.wav", np.float32(loudness) * babble(seconds)
    soundfile.write(path, quiet, RATE, subtype="FLOAT")
    timeline = recognizer.timeline(path, config=TimelineConfig(activity="none"))
    assert (timeline.segments, f"{timeline}") == ((), f"{path}: 0.0 s of speech in {seconds:.1f} s (silence)")
    answers = [
        recognizer.predict(path),
        replace(recognizer.predict(quiet, RATE), source=str(path)),
        next(iter(recognizer.predict_many([path]))),
        timeline.overall,
    ]
    assert set(map(str, answers)) == {f"{path}: no speech (silence)"}
    assert all(answer == answers[0] for answer in answers)
    assert (answers[0].end_seconds, answers[0].reason, answers[0].model) == (seconds, "silence", recognizer.identity)
    first = recognizer.predict(path, first=True)
    assert (first.reason, first.end_seconds, first.truncated) == ("silence", min(seconds, 7.5), seconds > 7.5)
    for activity in ("energy", "none"):
        heard = recognizer.stream(RATE, activity=activity).feed(quiet)
        assert [answer.reason for answer in heard] == ["silence"] * int(seconds)
    with pytest.raises(AudioError, match="got silence"):
        recognizer.embed(path)
    assert len(recognizer.speech_embeddings(path)) == 0


@pytest.mark.parametrize("silence", [np.zeros((16_000, 2), np.float32), np.zeros(16_000, np.int16)])
def test_silent_arrays(recognizer: Recognizer, silence: Any) -> None:
    assert recognizer.predict(silence, RATE).reason == "silence"


def test_silence_changes_no_other_answer_of_a_list(recognizer: Recognizer, babble: Babble) -> None:
    silence, spoken = np.zeros(RATE, np.float32), [babble(0.5 + seed / 4, seed) for seed in range(4)]
    alone = [answer.probabilities for answer in recognizer.predict_many(spoken, sample_rate_hz=RATE)]  # type: ignore[union-attr]
    mixed = list(recognizer.predict_many([silence, spoken[0], silence, *spoken[1:]], sample_rate_hz=RATE))
    assert [answer.reason == "silence" for answer in mixed] == [True, False, True, False, False, False]  # type: ignore[union-attr]
    for answer, expected in zip([mixed[1], *mixed[3:]], alone, strict=True):
        assert answer.probabilities == pytest.approx(expected, abs=1e-6)  # type: ignore[union-attr]


def foreign_model(path: Path, metadata: dict[str, str] | None = None, classes: int = 4) -> Path:
    """An ONNX file that takes a number and gives it back, under some metadata."""
    node = helper.make_node("Identity", ["x"], ["y"])
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, classes]) for name in "xy"]
    model = helper.make_model(
        helper.make_graph([node], "g", ports[:1], ports[1:]), opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


def test_models_of_others_are_refused(tmp_path: Path, recognizer: Recognizer) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    foreign_model(tmp_path / "foreign.onnx")
    foreign_model(tmp_path / "borrowed.onnx", recognizer.card.to_metadata())
    expected = {
        "missing.onnx": r"No such file: .*missing\.onnx; `affekt export` writes models",
        "": "got Is a directory",
        "text.onnx": "got no model that can be loaded",
        "model.safetensors": "export the checkpoint first",
        "foreign.onnx": "got no affekt metadata",
        "borrowed.onnx": "got inputs x; outputs y",
    }
    for name, message in expected.items():
        with pytest.raises(CheckpointError, match=message):
            Recognizer.load(tmp_path / name)


def test_a_card_that_does_not_fit_its_model_is_refused(tmp_path: Path, small_model: Path) -> None:
    model = onnx.load(small_model)
    for entry in model.metadata_props:
        entry.value = entry.value.replace('"angry", ', "")
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(CheckpointError, match="got 4 probabilities, expected one for each of the 3 labels"):
        Recognizer.load(tmp_path / "m.onnx")


def test_bundled_model_is_verified(
    tmp_path: Path, small_model: Path, babble: Babble, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = tmp_path / "bundled.onnx"
    monkeypatch.setattr("affekt.recognition.loaded_model.BUNDLED", bundled)
    with pytest.raises(CheckpointError, match="bundled model: got none in this installation"):
        Recognizer.load()
    content = small_model.read_bytes()
    bundled.write_bytes(content)
    bundled.with_suffix(".sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  bundled.onnx\n")
    assert Recognizer.load().predict(babble(1.0), RATE).label in Recognizer.load().labels
    bundled.write_bytes(content[:-1] + b"\0")
    with pytest.raises(CheckpointError, match=r"bundled model: got SHA-256 .* reinstall affekt"):
        Recognizer.load()
    bundled.write_bytes(content)
    for unlisted in (lambda path: path.write_text(""), lambda path: path.unlink()):
        unlisted(bundled.with_suffix(".sha256"))
        with pytest.raises(CheckpointError, match=r"got SHA-256 .*, expected no file that says it"):
            Recognizer.load()


def test_padded_models_are_heard_too(make_pipeline: Callable[..., Any], babble: Babble, tmp_path: Path) -> None:
    """A model that fills with silence takes batches of any lengths as well."""
    from affekt.export.onnx_file import Description, export

    export(make_pipeline(False, clip_seconds=2.0), Description(("a", "b", "c", "d")), tmp_path / "padded.onnx")
    padded = Recognizer.load(tmp_path / "padded.onnx", threads=1)
    waveforms = [babble(seconds, seed) for seed, seconds in enumerate((0.5, 2.5, 1.0, 0.2))]
    many = list(padded.predict_many(waveforms, sample_rate_hz=RATE))
    for waveform, answer in zip(waveforms, many, strict=True):
        single = padded.predict(waveform, RATE)
        np.testing.assert_allclose(
            list(answer.to_dict()["probabilities"].values()), list(single.probabilities.values()), atol=1e-5
        )


def test_predictions_turn_into_rows(recognizer: Recognizer, babble: Babble) -> None:
    predictions = [recognizer.predict(babble(1.0, seed), RATE) for seed in range(3)]
    frame = to_frame(predictions)
    assert isinstance(frame, pd.DataFrame)
    assert frame["label"].tolist() == [prediction.label for prediction in predictions]
    assert frame["prob.sad"].tolist() == [prediction.probabilities["sad"] for prediction in predictions]
    assert predictions[0].to_dict()["probabilities"] == dict(predictions[0].probabilities)


def test_needs_neither_torch_nor_pandas(small_model: Path, tmp_path: Path, babble: Babble) -> None:
    """The core install has neither: importing one of them would raise."""
    soundfile.write(tmp_path / "a.wav", babble(1.0), RATE)
    program = f"""
import sys
for name in ("torch", "pandas", "onnx", "scipy", "matplotlib", "sklearn"):
    sys.modules[name] = None
from pathlib import Path
from affekt.recognition.recognizer import Recognizer
from affekt.recognition import formats
recognizer = Recognizer.load({str(small_model)!r})
print(recognizer.predict({str(tmp_path / "a.wav")!r}).label)
formats.write(recognizer.timeline({str(tmp_path / "a.wav")!r}), Path({str(tmp_path / "a.html")!r}))
print(recognizer.stream().feed(__import__("numpy").zeros(16_000, "float32"))[0].label)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    label, spoken = done.stdout.splitlines()
    assert label in onnx_labels(small_model)
    assert spoken == "no speech"


def onnx_labels(path: Path) -> tuple[str, ...]:
    metadata = onnxruntime.InferenceSession(path.read_bytes()).get_modelmeta().custom_metadata_map
    from affekt.recognition.card import ModelCard

    return ModelCard.from_metadata(metadata, "m").labels
