"""Whisper's encoder: the oracle is transformers, on random configurations and on the real weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from affekt.errors import ConfigError
from affekt.nn.encoder import FOLDER_VARIABLE, EncoderShape, WhisperEncoder, encoder_folder, read_encoder, read_shape

SHARED = Path(__file__).parents[3] / "shared" / "weights" / "whisper-tiny.en-encoder"


def write_folder(folder: Path, prefix: str = "", **changes: Any) -> Path:
    """A folder in the hub's layout with a small random encoder of three layers."""
    shape = EncoderShape(mels=80, width=12, heads=3, hidden=20, layers=3, positions=60)
    names = ("num_mel_bins", "d_model", "encoder_attention_heads", "encoder_ffn_dim", "encoder_layers")
    values = (shape.mels, shape.width, shape.heads, shape.hidden, shape.layers)
    config = dict(zip(names, values, strict=True)) | {"max_source_positions": shape.positions} | changes
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    weights = {prefix + name: tensor.contiguous() for name, tensor in WhisperEncoder(shape).state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    return folder


def theirs(folder: Path) -> Any:
    """The same encoder by transformers, with the final norm that the files of :func:`write_folder` lack."""
    transformers = pytest.importorskip("transformers")
    from safetensors.torch import load_file
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as Theirs

    config = transformers.WhisperConfig(**json.loads((folder / "config.json").read_text()))
    model = Theirs(config).eval()
    weights = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert set(missing) <= {"layer_norm.weight", "layer_norm.bias"}
    return model


def hidden_states(model: Any, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
    with torch.inference_mode():
        states: tuple[torch.Tensor, ...] = model(features.transpose(1, 2), output_hidden_states=True).hidden_states
    return states


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_equals_transformers_on_random_weights(tmp_path: Path, layers: int) -> None:
    """transformers takes the full length alone; its last state is normalized, so only those before it are compared."""
    folder = write_folder(tmp_path / "hub")
    features = torch.randn(2, 120, 80, generator=torch.Generator().manual_seed(1))
    expected = hidden_states(theirs(folder), features)[layers]
    with torch.inference_mode():
        states, mask = read_encoder(folder, layers)(features)
    assert mask is None
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_equals_transformers_on_the_real_weights() -> None:
    folder = Path(os.environ.get(FOLDER_VARIABLE, SHARED))
    if not folder.is_dir():
        pytest.skip(f"no weights at {folder}; set {FOLDER_VARIABLE}")
    features = torch.randn(1, 3_000, 80, generator=torch.Generator().manual_seed(1)) * 0.3
    expected = hidden_states(theirs(folder), features)
    for layers in (0, 1, 3):
        with torch.inference_mode():
            states, _ = read_encoder(folder, layers, positions=1_500)(features)
        torch.testing.assert_close(states, expected[layers], atol=2e-3, rtol=1e-4)


def test_alone_in_a_batch_and_padded(tmp_path: Path) -> None:
    """Odd and even lengths, with garbage past the end."""
    encoder = read_encoder(write_folder(tmp_path / "hub"), layers=2)
    lengths = [101, 40, 33, 1]
    features = torch.randn(4, 103, 80, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        together, mask = encoder(features, torch.tensor(lengths))
        assert mask is not None
        assert mask.sum(1).tolist() == [51, 20, 17, 1]
        for row, length in enumerate(lengths):
            alone, _ = encoder(features[row : row + 1, :length])
            torch.testing.assert_close(together[row, : alone.shape[1]], alone[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("prefix", ["", "encoder.", "model.encoder."])
def test_files_of_whole_models_too(tmp_path: Path, prefix: str) -> None:
    encoder = read_encoder(write_folder(tmp_path / "hub", prefix), layers=1, positions=7)
    assert encoder.shape == EncoderShape(width=12, heads=3, hidden=20, layers=1, positions=7)
    assert not encoder.training
    with pytest.raises(ConfigError, match="8 states of 20 ms, expected at most 7"):
        encoder(torch.zeros(1, 15, 80))


def test_folders_that_hold_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "hub")
    with pytest.raises(ConfigError, match="3 layers, expected at least 4"):
        read_shape(folder, layers=4)
    with pytest.raises(ConfigError, match=r"conv1.weight: got shape \[12, 80, 3\], expected \[24, 80, 3\]"):
        read_encoder(write_folder(tmp_path / "other", d_model=24))
    save_file({"conv1.weight": torch.zeros(12, 80, 3)}, folder / "model.safetensors")
    with pytest.raises(ConfigError, match=r"no tensor conv1.bias"):
        read_encoder(folder)
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="expected a safetensors file"):
        read_encoder(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"expected the config.json of a Whisper model"):
        read_encoder(folder)
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    assert encoder_folder() == folder
    with pytest.raises(ConfigError, match=r"No such folder: .*nowhere"):
        encoder_folder(tmp_path / "nowhere")
    monkeypatch.delenv(FOLDER_VARIABLE)
    with pytest.raises(ConfigError, match="pass --encoder FOLDER, or set AFFEKT_ENCODER"):
        encoder_folder()


def test_bad_shapes_are_named_together() -> None:
    with pytest.raises(ConfigError) as error:
        EncoderShape(width=10, heads=3, layers=-1)
    assert [fault.what for fault in error.value.faults] == ["encoder: width", "encoder: layers"]
