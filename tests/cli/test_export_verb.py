"""`affekt export` and `affekt evaluate`: from a checkpoint to a file to its measures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from affekt import cli
from affekt.data.manifest import Manifest
from affekt.features.log_mel import FeatureConfig
from affekt.nn import NetworkConfig
from affekt.recognition.recognizer import Recognizer
from affekt.training.checkpoint import Checkpoint
from affekt.training.systems import System

CLASSES = ("angry", "happy", "neutral", "sad")
RATE = 16_000


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory: pytest.TempPathFactory, make_pipeline: Callable[..., Any]) -> Path:
    """A run with one trained model, by the contract."""
    shape = NetworkConfig((4, 8), pools=(2, 2), lstm_cells_per_direction=4, masked=True)
    system = System("small", shape, features=FeatureConfig(clip_seconds=2.0))
    torch.manual_seed(1)
    network, _ = system.build(4, counts=[1] * 4)
    torch.nn.init.normal_(network.head.weight, std=4.0)  # type: ignore[union-attr]
    folder = tmp_path_factory.mktemp("run") / "mine"
    checkpoint = Checkpoint(system, CLASSES, make_pipeline().normalizer, network.state_dict(), temperature=1.3)
    checkpoint.save(folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory, babble: Callable[..., Any]) -> Path:
    """Twelve utterances of three speakers, one of them a part of a file, one broken, one of another class."""
    folder = tmp_path_factory.mktemp("corpus")
    rows: list[dict[str, Any]] = []
    for index in range(12):
        soundfile.write(folder / f"{index}.wav", babble(0.5 + 0.2 * index, index), RATE)
        row = {"id": f"u{index}", "path": f"{index}.wav", "label": CLASSES[index % 4], "speaker": f"s{index % 3}"}
        rows.append(row | {"corpus": "made"})
    rows[5] |= {"start": 0.3, "end": 1.1}
    rows[6] |= {"start": 50.0, "end": 51.0}
    rows[7]["label"] = "surprised"
    (folder / "8.wav").write_text("no audio")
    Manifest.from_rows(rows, folder).write(folder / "m.csv")
    return folder / "m.csv"


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = cli.main(list(map(str, words)))
    streams = capsys.readouterr()
    return code, streams.out, streams.err


def test_export_from_a_run(run_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("export", run_directory, "-o", tmp_path / "m.onnx", "--unsure-below", "0.6", "--license", "CC0-1.0")
    code, out, err = call(capsys, *words)
    assert (code, err) == (0, "")
    assert "compared with PyTorch on 4 recordings: 100.0% of the decisions equal" in out
    card = Recognizer.load(tmp_path / "m.onnx").card
    assert (card.labels, card.unsure_below, card.license) == (CLASSES, 0.6, "CC0-1.0")
    assert (card.temperature, card.provenance["system"]["name"]) == (1.3, "small")


def test_earlier_models_and_measures_are_never_replaced_unasked(
    run_directory: Path, small_model: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("m.onnx", "e.csv", "r.svg")
    for name in names:
        (tmp_path / name).write_text("a day of work")
    runs = (
        ("export", run_directory, "-o", tmp_path / "m.onnx"),
        ("evaluate", small_model, manifest, "-o", tmp_path / "e.csv", "--diagram", tmp_path / "r.svg"),
    )
    for words, lines in zip(runs, (1, 2), strict=True):
        code, out, err = call(capsys, *words)
        assert (code, out) == (2, "")
        refused = "got an existing file, expected a new one; choose another name, or replace it with --force"
        assert err.count(refused) == len(err.splitlines()) == lines
        assert all((tmp_path / name).read_text() == "a day of work" for name in names[-lines:])
        assert call(capsys, *words, "--force")[0] in (0, 1)
    assert all((tmp_path / name).read_bytes() != b"a day of work" for name in names)


def test_a_model_is_not_exported_onto_its_checkpoint(run_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = run_directory / "model.safetensors"
    before = checkpoint.read_bytes()
    code, _, err = call(capsys, "export", checkpoint, "-o", checkpoint, "--force")
    assert (code, "the input would be overwritten" in err) == (2, True)
    assert checkpoint.read_bytes() == before


def test_export_in_8_bits(
    run_directory: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("export", run_directory / "model.safetensors", "-o", tmp_path / "m.onnx", "--int8")
    code, out, err = call(capsys, *words, "--calibrate", manifest, "--recordings", "20")
    assert code == 0
    assert err.count("affekt: left out: ") == 2
    assert "on 10 recordings" in out
    assert Recognizer.load(tmp_path / "m.onnx").card.precision == "int8"


def test_exports_that_cannot_be(run_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("a", "b"):
        (tmp_path / "two" / name).mkdir(parents=True)
        (tmp_path / "two" / name / "model.safetensors").write_bytes(b"")
    for source, message in (
        (tmp_path / "none", f"No such file: {tmp_path / 'none'}"),
        (tmp_path / "empty", "got no model.safetensors in it"),
        (tmp_path / "two", "got 2 checkpoints (a, b, ...), expected one"),
    ):
        code, _, err = call(capsys, "export", source, "-o", tmp_path / "m.onnx")
        assert code == 2
        assert message in err
    code, _, err = call(capsys, "export", run_directory, "-o", tmp_path / "m.onnx", "--int8")
    assert (code, "got no recordings" in err) == (2, True)
    assert not (tmp_path / "m.onnx").exists()


def test_evaluate(run_directory: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint is measured as its exported file is; failures and other classes are said."""
    call(capsys, "export", run_directory, "-o", tmp_path / "m.onnx")
    output, diagram = tmp_path / "e.json", tmp_path / "plots" / "r.svg"
    code, out, err = call(capsys, "evaluate", tmp_path / "m.onnx", manifest, "-o", output, "--diagram", diagram)
    assert code == 1
    assert err.count("affekt: failed: ") == 2
    assert "1 utterances have labels that are no classes of the model (surprised 1)" in err
    assert "made: 9 utterances; intervals: 95 %, over 3 speakers" in out
    found = json.loads(output.read_text())
    assert np.sum(found["confusion"]["counts"]) == found["utterances"] == 9
    assert diagram.read_text().lstrip().startswith("<?xml")
    again = call(capsys, "evaluate", run_directory, manifest)
    assert again[1] == out


def test_evaluations_that_cannot_be(
    small_model: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"id": "a", "path": "none.wav", "label": "bored"}]
    Manifest.from_rows(rows, tmp_path).write(tmp_path / "bored.csv")
    Manifest.from_rows([rows[0] | {"label": "sad"}], tmp_path).write(tmp_path / "gone.csv")
    for words, message in (
        ((small_model, tmp_path / "bored.csv"), "labels: got bored, expected some of the model's: angry"),
        ((small_model, tmp_path / "gone.csv"), f"No such file: {tmp_path / 'none.wav'}"),
        ((small_model, manifest, "--diagram", "r.txt"), "diagram: got 'r.txt'"),
        ((tmp_path / "none.onnx", manifest), f"No such file: {tmp_path / 'none.onnx'}"),
    ):
        code, _, err = call(capsys, "evaluate", *words)
        assert code == 2
        assert message in err
