"""Fine-tuning of an exported model: worked examples, invariants and the files that it writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from scipy.special import log_softmax

from affekt import cli
from affekt.data.manifest import Manifest
from affekt.errors import ConfigError, Fault
from affekt.experiments.fine_tuning import fine_tune, fit_output_layer
from affekt.export.onnx_file import Description, export
from affekt.export.pipeline import Pipeline
from affekt.export.replacement import with_output_layer
from affekt.features.frontends import WhisperLogMel
from affekt.nn.encoder_classifier import EncoderClassifier
from affekt.recognition.output_layer import OutputLayer
from affekt.recognition.recognizer import Recognizer

LABELS = ("angry", "happy", "neutral", "sad")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random encoder with a random output layer."""
    torch.manual_seed(0)
    network = EncoderClassifier(80, 4, width=16, heads=2, hidden=32, positions=100).eval()
    pipeline = Pipeline(network, WhisperLogMel(top=5.4, clip_seconds=2.0), temperature=0.8)
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    provenance = {"training_audio": {"first": {"utterances": 1, "sha256": "", "recordings": "AAAAAA=="}}}
    export(pipeline, Description(LABELS, license="CC0-1.0", provenance=provenance), path)
    return path


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Six speakers; angry ones buzz high and sad ones low."""
    draw, rows = np.random.default_rng(0), []
    for speaker in range(6):
        for take in range(2):
            for label, pitch_hz in (("angry", 900.0), ("sad", 150.0)):
                name = f"{speaker}-{take}-{label}.wav"
                time = np.arange(16_000) / 16_000
                wave = 0.3 * np.sin(2 * np.pi * (pitch_hz + 10 * speaker) * time) + 0.01 * draw.normal(size=16_000)
                soundfile.write(tmp_path / name, wave, 16_000)
                rows.append({"id": name, "path": name, "label": label, "speaker": str(speaker), "corpus": "buzz"})
    return Manifest(pd.DataFrame(rows), tmp_path)


def test_the_objective_has_no_lower_point_nearby() -> None:
    """A slow oracle of J in the module's docstring."""
    draw = np.random.default_rng(1)
    inputs, labels = draw.normal(size=(12, 5)).astype(np.float32), np.array([0] * 8 + [1] * 4)
    start = OutputLayer(draw.normal(size=(2, 5)), draw.normal(size=2))

    def objective(layer: OutputLayer) -> float:
        losses = -log_softmax(layer.logits(inputs), axis=1)[np.arange(12), labels]
        balanced = (losses[labels == 0].mean() + losses[labels == 1].mean()) / 2
        moved, shifted = layer.weight - start.weight, layer.bias - start.bias
        return float(balanced + 0.3 * ((moved**2).sum() + 0.1 * (shifted**2).sum()))

    found = fit_output_layer(inputs, labels, start, penalty=0.3)
    least = objective(found)
    assert least < objective(start)
    for _ in range(50):
        step = OutputLayer(found.weight + 1e-2 * draw.normal(size=(2, 5)), found.bias + 1e-2 * draw.normal(size=2))
        assert objective(step) > least


def test_a_strong_penalty_keeps_the_layer_and_a_weak_one_follows_the_recordings() -> None:
    inputs = np.array([[3.0, 0.0], [0.0, 3.0]], np.float32)
    start = OutputLayer(np.array([[0.0, 1.0], [1.0, 0.0]]), np.zeros(2))  # wrong on both
    kept = fit_output_layer(inputs, np.array([0, 1]), start, penalty=1e4)
    assert np.allclose(kept.weight, start.weight, atol=1e-3)
    moved = fit_output_layer(inputs, np.array([0, 1]), start, penalty=1e-3)
    assert moved.logits(inputs).argmax(1).tolist() == [0, 1]


def test_a_penalty_of_0_is_refused() -> None:
    layer = OutputLayer(np.zeros((2, 1)), np.zeros(2))
    with pytest.raises(ConfigError, match="penalty: got 0, expected a number above 0"):
        fit_output_layer(np.zeros((2, 1), np.float32), np.array([0, 1]), layer, penalty=0)


def test_the_same_layer_put_back_gives_the_same_answers(model: Path) -> None:
    before = Recognizer.load(model)
    layer = before.output_layer
    after = Recognizer(with_output_layer(before.content, layer, before.card))
    wave = np.random.default_rng(2).normal(size=24_000).astype(np.float32) * 0.1
    one, other = (recognizer.predict(wave, 16_000).probabilities for recognizer in (before, after))
    assert one == pytest.approx(other, abs=1e-5)


def test_fine_tuning_learns_a_new_class_set_and_says_what_it_heard(
    model: Path, manifest: Manifest, tmp_path: Path
) -> None:
    tuned = fine_tune(manifest, tmp_path / "out", model=model, penalty=0.01, cache=tmp_path / "cache")
    recognizer = Recognizer.load(tuned.path)
    assert recognizer.labels == ("angry", "sad")
    answers = [recognizer.predict(path).label for path in manifest.audio_paths()]
    assert answers == list(manifest.labels)
    assert tuned.measures["ua"] == 1.0
    assert tuned.line == "5 folds over 6 speakers, none of them in two parts"
    assert set(recognizer.card.provenance["training_audio"]) == {"buzz", "first"}
    assert recognizer.card.license == "CC0-1.0"
    assert json.loads((tmp_path / "out/validation.json").read_text())["ua"] == 1.0
    again = fine_tune(manifest, tmp_path / "two", model=model, penalty=0.01, cache=tmp_path / "cache")
    assert again.path.read_bytes() == tuned.path.read_bytes()


def test_silent_recordings_are_left_out_and_named(model: Path, manifest: Manifest, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "0-0-angry.wav", np.zeros(16_000), 16_000)
    named: list[Fault] = []
    tuned = fine_tune(manifest, tmp_path / "out", model=model, cache=tmp_path / "cache", on_left_out=named.extend)
    assert tuned.measures["utterances"] == len(manifest) - 1
    assert tuned.left_out == tuple(named)
    assert [str(fault) for fault in named] == [
        f"{tmp_path / '0-0-angry.wav'}: got silence (no sample above -80 dB), expected speech"
    ]


def test_a_class_with_one_recording_is_refused(model: Path, manifest: Manifest, tmp_path: Path) -> None:
    few = manifest.where((manifest.table["label"] == "angry") | (manifest.table.index == 1))
    with pytest.raises(ConfigError, match="class sad: got 1, expected at least 2 usable recordings"):
        fine_tune(few, tmp_path / "out", model=model, cache=tmp_path / "cache")


def test_a_model_without_a_linear_layer_is_refused(small_model: Path, manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no linear output layer in its metadata"):
        fine_tune(manifest, tmp_path / "out", model=small_model, cache=tmp_path / "cache")


def test_the_command_line_fine_tunes_and_does_not_overwrite(
    model: Path, manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest.write(tmp_path / "m.csv")
    words = ["train", str(tmp_path / "m.csv"), "-o", str(tmp_path / "out"), "--init", str(model)]
    words += ["--cache", str(tmp_path / "cache")]
    assert cli.main(words) == 0
    assert "fine-tuned on 24 recordings; cross-validation: 5 folds over 6 speakers" in capsys.readouterr().out
    assert cli.main(words) == 2
    assert "a finished model" in capsys.readouterr().err
