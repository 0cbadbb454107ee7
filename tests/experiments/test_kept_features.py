"""Systems on the encoder: features kept on disk, trainings, checkpoints that suffice by themselves, files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from affekt.errors import CheckpointError, ConfigError
from affekt.experiments import kept_features
from affekt.experiments.kept_features import load_features
from affekt.export.onnx_file import export_checkpoint
from affekt.features.clips import Clips
from affekt.features.frontends import EncoderStates, Waveform, WhisperLogMel
from affekt.nn.encoder import FOLDER_VARIABLE, EncoderShape, WhisperEncoder
from affekt.recognition.recognizer import Recognizer
from affekt.training.checkpoint import Checkpoint
from affekt.training.fitted import Subset
from affekt.training.fitting import fit
from affekt.training.scoring import score
from affekt.training.systems import GROUPS, SYSTEMS, System, from_system_dict
from affekt.training.train_config import TrainConfig

SHAPE = EncoderShape(width=128, heads=2, hidden=48, layers=1, positions=60)
LOG_MEL = WhisperLogMel(top=5.4, clip_seconds=1.0)
STATES = EncoderStates(width=128, log_mel=LOG_MEL)


def write_encoder(folder: Path, seed: int = 0) -> Path:
    """A small random encoder in the hub's layout."""
    folder.mkdir(exist_ok=True)
    config = {"num_mel_bins": 80, "d_model": 128, "encoder_attention_heads": 2, "encoder_ffn_dim": 48}
    (folder / "config.json").write_text(json.dumps(config | {"encoder_layers": 1, "max_source_positions": 60}))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        weights = WhisperEncoder(SHAPE).state_dict()
    weights["embed_positions.weight"] *= 0.02  # as small as what the convolutions give, so that these are heard
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = write_encoder(tmp_path / "encoder")
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    return folder


def tones(count: int = 40) -> tuple[list[np.ndarray], np.ndarray, list[str]]:
    """Low and high tones in noise, of different lengths, with their classes and what stands for their hashes."""
    draw, waveforms = np.random.default_rng(0), []
    labels = np.arange(count) % 2
    for label in labels:
        samples = int(draw.integers(4_000, 20_000))
        tone = np.sin(2 * np.pi * (200, 2_000)[label] * np.arange(samples) / 16_000)
        waveforms.append((0.1 * tone + 0.05 * draw.normal(size=samples)).astype(np.float32))
    return waveforms, labels, [f"hash-{index}" for index in range(count)]


def never(*_: object, **__: object) -> Any:
    raise AssertionError("features are computed again")


def test_features_are_computed_once_and_shared(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waveforms, _, hashes = tones(6)
    first = load_features(waveforms, hashes, STATES, tmp_path)
    expected = Clips.from_waveforms(waveforms, STATES)
    assert first.values.dtype == torch.float16
    assert torch.equal(first.offsets, expected.offsets)
    torch.testing.assert_close(first.values.float(), expected.values, atol=1e-2, rtol=1e-3)
    features, _ = first.batch(torch.tensor([0, 3]))
    assert features.dtype == torch.float32
    monkeypatch.setattr(kept_features.Clips, "from_waveforms", never)
    again = load_features(waveforms, hashes, STATES, tmp_path)
    assert torch.equal(again.values, first.values)


@pytest.mark.parametrize("change", ["audio", "settings", "weights", "damage"])
def test_what_decides_them_is_in_their_name(encoder: Path, tmp_path: Path, change: str) -> None:
    waveforms, _, hashes = tones(3)
    load_features(waveforms, hashes, STATES, tmp_path)
    front_end, computed = STATES, []
    if change == "audio":
        hashes = ["other", *hashes[1:]]
    elif change == "settings":
        front_end = replace(STATES, pooled=True)
    elif change == "weights":
        write_encoder(encoder, seed=1)
    else:
        values = next(tmp_path.glob("features-*/values.npy"))
        content = bytearray(values.read_bytes())
        content[-1] ^= 1
        values.write_bytes(content)
    load_features(waveforms, hashes, front_end, tmp_path, on_progress=computed.append)
    assert computed == [1, 2, 3, 3]


def test_windows_are_averaged(encoder: Path) -> None:
    """Worked example: the mean of each eight states, and of what is left."""
    waveform = torch.from_numpy(tones(2)[0][0][:13_000])
    states = STATES.extractor()(waveform)
    averaged = replace(STATES, pool=8).extractor()(waveform)
    expected = torch.stack([part.mean(0) for part in states.split(8)])
    assert len(states) % 8
    torch.testing.assert_close(averaged, expected)
    assert replace(STATES, pool=8).clip_frames == 7
    with pytest.raises(ConfigError, match="got 8, expected 1 to 100, and 1 where"):
        replace(STATES, pool=8, pooled=True)


def test_cheap_features_are_not_kept(tmp_path: Path) -> None:
    waveforms, _, hashes = tones(2)
    load_features(waveforms, hashes, Waveform(), tmp_path)
    assert not list(tmp_path.iterdir())


SMALL = {
    "encoder": {"cells": 8},
    "encoder-am-softmax": {"cells": 8},
    "encoder-focal-combined": {"cells": 8},
    "encoder-linear": {},
    "encoder-tuned": {"cells": 8, "width": 128, "heads": 2, "hidden": 48, "positions": 60},
}


def small(name: str) -> System:
    """A system of the table, with the small encoder and short clips."""
    system = SYSTEMS[name]
    features: Any = LOG_MEL
    if isinstance(system.features, EncoderStates):
        features = replace(system.features, width=128, log_mel=LOG_MEL)
    return replace(system, features=features, network_options=dict(system.network_options) | SMALL[name])


@pytest.mark.parametrize("name", SMALL)
def test_every_system_learns_and_suffices_by_itself(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    system = small(name)
    waveforms, labels, hashes = tones()
    clips = load_features(waveforms, hashes, system.features, tmp_path)
    train, validation = (Subset(np.arange(*rows), labels[slice(*rows)]) for rows in ((0, 28), (28, 40)))
    config = TrainConfig(batch_size=14, learning_rate=1e-2, max_epochs=40, patience=15, gradient_clip=1.0)
    fitted = fit(system, clips, train, validation, 2, config, seed=0)
    scored = score(fitted, clips, validation.rows, config)
    assert (scored.logits.argmax(1) == validation.labels).mean() >= 0.9
    weights, loss_weights = fitted.network.state_dict(), fitted.loss.state_dict()
    path, model = tmp_path / "model.safetensors", tmp_path / "model.onnx"
    Checkpoint(system, ("low", "high"), fitted.normalizer, weights, loss_weights).save(path)
    monkeypatch.delenv(FOLDER_VARIABLE)
    loaded = Checkpoint.load(path)
    assert loaded.system == system
    export_checkpoint(loaded, model, recordings=waveforms[:4])
    answers = Recognizer.load(model, threads=1).predict_many(waveforms[28:], sample_rate_hz=16_000)
    said = [("low", "high").index(answer.label) for answer in answers]
    assert said == scored.logits.argmax(1).tolist()


def test_frozen_systems_need_weights_from_somewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match="no folder with its weights"):
        load_features([], [], STATES, tmp_path)
    system = small("encoder")
    network, _ = system.build(2)
    empty = Checkpoint(
        system, ("low", "high"), Clips.of([torch.zeros(2, 128)], 0.0).normalizer([0]), network.state_dict()
    )
    with pytest.raises(ConfigError, match="no folder with its weights"):
        empty.save(tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match="expected those of Whisper's encoder"):
        replace(empty, front_end={"conv1.weight": torch.zeros(128, 80, 3)}).encoder()
    with pytest.raises(ConfigError, match=r"features of FeatureConfig, expected an encoder's states"):
        replace(empty, system=SYSTEMS["baseline"]).encoder()


def test_another_width_is_refused(encoder: Path) -> None:
    with pytest.raises(ConfigError, match="states of 128 numbers, expected 384"):
        EncoderStates(log_mel=LOG_MEL).encoder()


def test_the_groups_are_the_paper_s_rows_on_the_encoder() -> None:
    assert [system.name for system in GROUPS["encoder-headline"]] == [
        "encoder",
        "encoder-am-softmax",
        "encoder-focal",
        "encoder-combined",
    ]
    rows = {(str(system.loss), json.dumps(system.loss_options), system.network_options["pooling"])
            for system in GROUPS["encoder-study"]}  # fmt: skip
    paper = {(str(system.loss), json.dumps(system.loss_options), system.network.pooling)  # type: ignore[union-attr]
             for system in (*GROUPS["table2"], *GROUPS["integration"])}  # fmt: skip
    assert rows == paper
    assert len(rows) == len(GROUPS["encoder-study"]) == 18
    assert not GROUPS.keys() & SYSTEMS.keys()  # a name means one thing
    for system in (*GROUPS["encoder-study"], SYSTEMS["encoder-linear"], SYSTEMS["encoder-tuned"]):
        assert from_system_dict(json.loads(json.dumps(system.to_dict()))) == system
