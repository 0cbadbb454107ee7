"""Speech, outliers and speakers: a model with these outputs, its thresholds, and adaptation against its formulas."""

from __future__ import annotations

import base64
import io
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile
from onnx import TensorProto, helper

from affekt import cli
from affekt.errors import AudioError, CheckpointError, ConfigError
from affekt.recognition import formats
from affekt.recognition.adaptation import SpeakerEstimate, speaker_shift
from affekt.recognition.card import ModelCard
from affekt.recognition.output_layer import HEAD_KEY, OutputLayer
from affekt.recognition.prediction import Failure, Prediction
from affekt.recognition.recognizer import Recognizer
from affekt.recognition.timeline import TimelineConfig

RATE = 16_000
Babble = Callable[..., Any]
SPEAKER = {"count": 2.0, "spread": 0.5, "power": 1.0}


@pytest.fixture(scope="session")
def knowing_model(
    small_model: Path, make_pipeline: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The small model; what peaks above 0.5 is no speech to it, and above 0.2 unlike its training speech."""
    model = onnx.load(small_model)
    head = make_pipeline().network.head
    model.graph.node.extend(
        [
            helper.make_node("Abs", ["waveform"], ["test_level"]),
            helper.make_node("ReduceMax", ["test_level", "test_axes"], ["outlier"], keepdims=0),
            helper.make_node("Less", ["outlier", "test_half"], ["test_quiet"]),
            helper.make_node("Cast", ["test_quiet"], ["speech"], to=TensorProto.FLOAT),
        ]
    )
    model.graph.initializer.append(helper.make_tensor("test_axes", TensorProto.INT64, [1], [1]))
    model.graph.initializer.append(helper.make_tensor("test_half", TensorProto.FLOAT, [], [0.5]))
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in ("speech", "outlier")
    )
    weight = head.weight.detach().numpy().astype("<f4")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    card = ModelCard.from_metadata(metadata, "small")
    neutral = [0.1] * weight.shape[1]
    adaptation = {"speaker": SPEAKER, "baseline": {"count": 2.0, "neutral_mean": neutral}}
    card = replace(card, speech_below=0.5, outlier_above=0.2, adaptation=adaptation)
    described = {"weight": base64.b64encode(weight.tobytes()).decode(), "bias": head.bias.detach().tolist()}
    helper.set_model_props(model, metadata | card.to_metadata() | {HEAD_KEY: json.dumps(described)})
    path = tmp_path_factory.mktemp("knowing") / "knowing.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def recognizer(knowing_model: Path) -> Recognizer:
    return Recognizer.load(knowing_model, threads=1)


@pytest.fixture(scope="module")
def voices(babble: Babble) -> list[Any]:
    return [babble(1.0 + seed / 3, seed) for seed in range(5)]


def values(prediction: Prediction | Failure) -> list[float]:
    assert isinstance(prediction, Prediction)
    return list(prediction.probabilities.values())


def test_no_speech_is_no_emotion(recognizer: Recognizer, babble: Babble) -> None:
    answer = recognizer.predict(8 * babble(1.0), RATE)
    assert (answer.label, answer.reason, answer.confidence, answer.unsure) == ("no speech", "no speech", 0.0, True)
    assert (answer.speech, set(answer.probabilities.values())) == (0.0, {0.0})
    assert str(answer) == "array: no speech"
    assert answer.to_dict()["reason"] == "no speech"


def test_speech_unlike_the_training_speech_is_unsure(recognizer: Recognizer, babble: Babble) -> None:
    plain = recognizer.predict(babble(1.0), RATE, min_confidence=0.0)
    odd = recognizer.predict(3 * babble(1.0), RATE, min_confidence=0.0)
    assert (plain.unsure, plain.reason, plain.speech) == (False, None, 1.0)
    assert (odd.unsure, odd.reason) == (True, "unlike the training speech")
    assert "unsure, unlike the training speech" in str(odd)
    assert recognizer.predict(babble(1.0), RATE, min_confidence=1.0).reason == "low confidence"


def test_models_without_these_outputs_answer_as_before(small_model: Path, babble: Babble) -> None:
    answer = Recognizer.load(small_model).predict(8 * babble(1.0), RATE)
    assert answer.label in ("angry", "happy", "neutral", "sad")
    assert answer.speech is None


def test_timelines_leave_out_windows_without_speech(recognizer: Recognizer, babble: Babble) -> None:
    """Four seconds of speech, four of loud noise, four of speech, without a pause: two stretches, and their mean."""
    waveform = np.concatenate([babble(4.0), 8 * babble(4.0, 1), babble(4.0, 2)])
    timeline = recognizer.timeline(waveform, RATE, config=TimelineConfig(1.0, 0.5, activity="none"))
    spoken = [(part.start_seconds, part.end_seconds) for part in timeline.segments]
    assert spoken[0][0] == 0.0
    assert not [part for part in spoken if part[0] < 7.5 and part[1] > 4.5]
    assert spoken[-1][1] == 12.0
    assert timeline.overall.speech == 1.0
    noise = recognizer.predict(8 * babble(9.0), RATE)
    assert (noise.label, noise.reason) == ("no speech", "no speech")


def test_formats_show_the_reason(recognizer: Recognizer, babble: Babble) -> None:
    timeline = recognizer.timeline(3 * babble(9.0), RATE)
    assert timeline.segments
    assert all(part.reason == "unlike the training speech" for part in timeline.segments)
    assert "unlike the training speech" in str(formats.FORMATS["csv"].render(timeline))
    assert '"reason": "unlike the training speech"' in str(formats.FORMATS["json"].render(timeline))
    assert "_?" in str(formats.FORMATS["rttm"].render(timeline))


def test_the_head_gives_the_models_probabilities(recognizer: Recognizer, voices: list[Any]) -> None:
    answer = recognizer.probabilities([voices[0]])
    np.testing.assert_allclose(
        recognizer.output_layer.probabilities(answer.embeddings), answer.probabilities, atol=1e-4
    )


def expected_shift(recognizer: Recognizer, voices: list[Any]) -> tuple[Any, float]:
    """The formula of the module, by NumPy's own mean and variance."""
    z = np.concatenate([recognizer.probabilities([voice]).embeddings for voice in voices]).astype(np.float64)
    spread = (z @ recognizer.output_layer.weight.T).var(0, ddof=1).sum()
    strength = len(z) / (len(z) + SPEAKER["count"]) * min(1.0, spread / SPEAKER["spread"])
    return strength * z.mean(0), strength


def test_the_shift_of_a_speaker(recognizer: Recognizer, voices: list[Any]) -> None:
    """Oracle: the formulas over all recordings at once, then softmax of the shifted embedding."""
    voice = recognizer.adapted(voices, sample_rate_hz=RATE)
    vector, strength = expected_shift(recognizer, voices)
    answer = voice.predict(voices[0], RATE)
    z = recognizer.probabilities([voices[0]]).embeddings.astype(np.float64) - vector
    scores = (z @ recognizer.output_layer.weight.T + recognizer.output_layer.bias) / recognizer.card.temperature
    wanted = np.exp(scores[0]) / np.exp(scores[0]).sum()
    np.testing.assert_allclose(values(answer), wanted, atol=1e-5)
    assert answer.adapted == f"one speaker in 5 stretches of speech; {strength:.0%} of the shift"
    assert answer.to_dict()["adapted"] == answer.adapted
    assert values(answer) != values(recognizer.predict(voices[0], RATE))
    assert not recognizer.predict(voices[0], RATE).adapted


def test_one_emotion_alone_shifts_little(recognizer: Recognizer, voices: list[Any]) -> None:
    """The same recording five times has no spread, and one recording none that could be known."""
    for same in ([voices[0]] * 5, [voices[0]]):
        alone = recognizer.adapted(same, sample_rate_hz=RATE).predict(voices[0], RATE)
        np.testing.assert_allclose(values(alone), values(recognizer.predict(voices[0], RATE)), atol=1e-4)


def test_a_calm_voice(recognizer: Recognizer, voices: list[Any]) -> None:
    voice = recognizer.adapted(baseline=[(RATE, voices[1]), (RATE, voices[2])])
    z = np.concatenate([recognizer.probabilities([voice]).embeddings for voice in voices[1:3]]).mean(0)
    shift = 0.5 * (z - 0.1)
    wanted = recognizer.output_layer.probabilities(recognizer.probabilities([voices[0]]).embeddings - shift)[0]
    answer = voice.predict(voices[0], RATE)
    np.testing.assert_allclose(values(answer), wanted, atol=1e-5)
    assert answer.adapted == "calm voice in 2 stretches of speech; 50% of the shift"


def test_adapted_recognizers_can_do_everything(recognizer: Recognizer, voices: list[Any]) -> None:
    voice = recognizer.adapted(voices, sample_rate_hz=RATE)
    single = voice.predict(voices[0], RATE)
    (many,) = voice.predict_many([voices[0]], sample_rate_hz=RATE)
    timeline = voice.timeline(voices[0], RATE)
    copy = pickle.loads(pickle.dumps(voice)).predict(voices[0], RATE)
    (streamed,) = voice.stream(activity="none").feed(voices[0][:RATE])
    for answer in (many, timeline.overall, copy):
        np.testing.assert_allclose(values(answer), values(single), atol=1e-5)
    assert streamed.adapted == single.adapted
    assert all(part.adapted == single.adapted for part in timeline.segments)


def test_lists_of_several_speakers(recognizer: Recognizer, voices: list[Any]) -> None:
    """Each is adapted by its own recordings; order is kept, and failures fail alone."""
    sources: list[Any] = [*voices, np.zeros(160, np.float32)]
    speakers = ["a", "b", "a", "b", "a", "b"]
    answers = list(recognizer.predict_many(sources, sample_rate_hz=RATE, speakers=speakers))
    assert isinstance(answers[5], Failure)
    for speaker in "ab":
        own = [index for index in range(5) if speakers[index] == speaker]
        voice = recognizer.adapted([voices[index] for index in own], sample_rate_hz=RATE)
        for index in own:
            np.testing.assert_allclose(values(answers[index]), values(voice.predict(voices[index], RATE)), atol=1e-5)
    with pytest.raises(ConfigError, match="got 2 for 5 recordings"):
        recognizer.predict_many(voices, speakers=["a", "b"])


def test_no_speech_does_not_count(recognizer: Recognizer, voices: list[Any], babble: Babble) -> None:
    with_noise = recognizer.adapted([*voices, 8 * babble(2.0)], sample_rate_hz=RATE)
    assert "5 stretches" in with_noise.assumption
    with pytest.raises(AudioError, match="no recording in which somebody speaks"):
        recognizer.adapted([8 * babble(2.0)], sample_rate_hz=RATE)


def test_long_recordings_count_by_their_windows(recognizer: Recognizer, babble: Babble) -> None:
    assert "4 stretches" in recognizer.adapted([babble(11.0)], sample_rate_hz=RATE).assumption


def test_what_cannot_be_adapted(small_model: Path, recognizer: Recognizer, voices: list[Any]) -> None:
    plain = Recognizer.load(small_model)
    for call in (
        lambda: plain.adapted(voices, sample_rate_hz=RATE),
        lambda: plain.predict_many(voices, sample_rate_hz=RATE, speakers=["a"] * 5),
        lambda: plain.stream(adapt=True),
    ):
        with pytest.raises(ConfigError, match="got no parameters of"):
            call()
    with pytest.raises(ConfigError, match="got neither"):
        recognizer.adapted()
    with pytest.raises(ConfigError, match="got both"):
        recognizer.adapted(voices, baseline=voices, sample_rate_hz=RATE)


@pytest.mark.parametrize(
    "head", ["{}", "nonsense", '{"weight": "AAA", "bias": [0, 0, 0, 0]}', '{"weight": [1], "bias": 3}']
)
def test_damaged_heads(head: str) -> None:
    with pytest.raises(CheckpointError, match="model m: head"):
        OutputLayer.of({HEAD_KEY: head}, 1.0, "m")


def test_streams_adapt_while_they_listen(recognizer: Recognizer, voices: list[Any]) -> None:
    """The first answer is all but the model's own; later ones are shifted by what was heard so far."""
    samples = np.concatenate(voices)
    plain = recognizer.stream(activity="none").feed(samples)
    adapted = recognizer.stream(activity="none", adapt=True).feed(samples)
    np.testing.assert_allclose(values(adapted[0]), values(plain[0]), atol=1e-4)
    assert values(adapted[-1]) != values(plain[-1])
    assert "one speaker so far" in adapted[-1].adapted


def test_a_running_estimate_is_that_of_all_at_once_and_forgets() -> None:
    rng = np.random.default_rng(0)
    head = OutputLayer(rng.normal(size=(3, 5)), rng.normal(size=3), 1.0)
    z = rng.normal(size=(12, 5))
    once, running = speaker_shift(z, head, SPEAKER), SpeakerEstimate(head, SPEAKER)
    for row in z:
        running.add(row[None])
    np.testing.assert_allclose(running.shift().vector, once.vector)
    bounded = SpeakerEstimate(head, SPEAKER, most_weight=4)
    bounded.add(np.concatenate([z, np.zeros((200, 5))]))
    assert bounded.weight == 4
    np.testing.assert_allclose(bounded.shift().vector, np.zeros(5), atol=1e-9)


@pytest.fixture
def people(tmp_path: Path, voices: list[Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder a person, and one of what is said calmly."""
    monkeypatch.chdir(tmp_path)
    for index, voice in enumerate(voices):
        path = tmp_path / ("anna", "ben")[index % 2] / f"{index}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, voice, RATE, subtype="FLOAT")
    return tmp_path


def test_predict_adapts_to_folders(
    people: Path, knowing_model: Path, recognizer: Recognizer, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", "anna", "ben", "--model", str(knowing_model), "--format", "json", "--adapt", "speaker"]
    assert cli.main(words) == 0
    streams = capsys.readouterr()
    answers = json.loads(streams.out)
    anna = recognizer.adapted(sorted(map(str, Path("anna").iterdir())))
    for answer in answers[:3]:
        np.testing.assert_allclose(
            list(answer["probabilities"].values()), values(anna.predict(answer["source"])), atol=1e-5
        )
    assert "affekt: note: adapted to 2 speakers (a folder per speaker): anna (3), ben (2)" in streams.err
    assert answers[0]["adapted"].startswith("one speaker in 3 stretches")


def test_predict_adapts_to_a_speaker_column_and_to_a_calm_voice(
    people: Path, knowing_model: Path, recognizer: Recognizer, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("m.csv").write_text("path,label,speaker\nanna/0.wav,sad,x\nben/1.wav,sad,x\nanna/2.wav,happy,y\n")
    model = ["--model", str(knowing_model), "--format", "json"]
    assert cli.main(["predict", "--segments", "m.csv", "--adapt", "speaker", *model]) == 0
    streams = capsys.readouterr()
    answers = json.loads(streams.out)
    both = recognizer.adapted(["anna/0.wav", "ben/1.wav"])
    np.testing.assert_allclose(list(answers[1]["probabilities"].values()), values(both.predict("ben/1.wav")), atol=1e-5)
    assert "(the column speaker): x (2), y (1)" in streams.err
    assert cli.main(["predict", "anna/0.wav", "--baseline", "anna/2.wav", "--baseline", "anna/4.wav", *model]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    calm = recognizer.adapted(baseline=["anna/2.wav", "anna/4.wav"])
    np.testing.assert_allclose(list(answer["probabilities"].values()), values(calm.predict("anna/0.wav")), atol=1e-5)
    timeline = ["predict", "anna", "--adapt", "speaker", "--timeline", *model]
    assert cli.main(timeline) == 0
    assert all(part["adapted"] for item in json.loads(capsys.readouterr().out) for part in item["segments"])


def test_options_of_adaptation_that_contradict(
    people: Path, small_model: Path, knowing_model: Path, capsys: Any
) -> None:
    for words, model, message in (
        (["--adapt", "speaker", "--baseline", "anna/0.wav"], knowing_model, "baseline: got --adapt with it"),
        (["--adapt", "speaker", "--engine", "ray"], knowing_model, "engine: got ray with an adaptation"),
        (["--adapt", "speaker"], small_model, "no parameters of"),
        (["--baseline", "missing.wav"], knowing_model, "No such file: missing.wav"),
    ):
        assert cli.main(["predict", "anna/0.wav", *words, "--model", str(model)]) == 2
        assert message in capsys.readouterr().err


def test_the_command_stream_adapts(
    people: Path, knowing_model: Path, recognizer: Recognizer, voices: list[Any], capsys: Any, monkeypatch: Any
) -> None:
    samples = np.round(np.concatenate(voices) * 32_768).astype("<i2")
    heard = samples.astype(np.float32) / 32_768
    model = ["-", "--model", str(knowing_model), "--activity", "none", "--format", "jsonl"]
    calm = recognizer.adapted(baseline=["anna/0.wav"])
    for words, stream in (
        (["--adapt", "speaker"], recognizer.stream(activity="none", adapt=True)),
        (["--baseline", "anna/0.wav"], calm.stream(activity="none")),
    ):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(samples.tobytes()))))
        assert cli.main(["stream", *model, *words]) == 0
        answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        wanted = stream.feed(heard)
        assert [answer["adapted"] for answer in answers] == [answer.adapted for answer in wanted]
        np.testing.assert_allclose(list(answers[-1]["probabilities"].values()), values(wanted[-1]), atol=1e-5)
    assert cli.main(["stream", *model, "--adapt", "speaker", "--baseline", "anna/0.wav"]) == 2
