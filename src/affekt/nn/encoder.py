"""The encoder of Whisper: convolution stem and the first transformer layers (Radford et al. 2022, section 2.2).

Weights are read from a folder in the layout of the Hugging Face hub (`config.json` and `model.safetensors`); neither
`transformers` nor a network connection is needed. The stem halves the frame rate: from log-mel frames every 10 ms to
states every 20 ms. A mask hides padding from every layer, so a recording has the same states alone, in a batch and
padded. Whisper itself fills every recording to 30 s; here a recording is only as long as it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from affekt.errors import NO_FOLDER, ConfigError, Fault
from affekt.nn.blocks import frame_mask

FOLDER_VARIABLE = "AFFEKT_ENCODER"
"""Environment variable that names the folder with the encoder's weights."""
HEAD_WIDTH = 64
"""Length of each head's part, in all of Whisper's models."""
POSITIONS = 375
"""States of a clip of 7.5 s."""


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of the encoder; the defaults are those of Whisper tiny, its first layer and clips of 7.5 s.

    Attributes:
        mels: bands of the log-mel input.
        width: length of each state.
        heads: attention heads; they divide `width`.
        hidden: units between the two linear maps of a layer.
        layers: transformer layers after the stem; 0 is the stem alone.
        positions: longest input, in states of 20 ms.

    Raises:
        ConfigError: values out of range, all at once.
    """

    mels: int = 80
    width: int = 384
    heads: int = 6
    hidden: int = 1_536
    layers: int = 1
    positions: int = POSITIONS

    def __post_init__(self) -> None:
        rules = (
            ("mels", self.mels >= 1, "at least 1"),
            ("width", self.width >= 1 and self.width % max(1, self.heads) == 0, "a multiple of heads"),
            ("heads", self.heads >= 1, "at least 1"),
            ("hidden", self.hidden >= 1, "at least 1"),
            ("layers", self.layers >= 0, "0 or more"),
            ("positions", 1 <= self.positions <= 1_500, "1 to 1500"),
        )
        faults = [
            Fault(f"encoder: {name}", str(getattr(self, name)), words) for name, holds, words in rules if not holds
        ]
        if faults:
            raise ConfigError.of(faults)


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself; the keys have no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "batch frames width"], mask: Bool[Tensor, "batch frames"] | None
    ) -> Float[Tensor, "batch frames width"]:
        """States after attention to the valid frames."""
        query, key, value = (
            projection(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        hidden = None if mask is None else mask[:, None, None, :]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=hidden)
        mixed: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return mixed


class Layer(nn.Module):
    """One pre-norm transformer layer: x + attention(norm(x)), then x + fc2(gelu(fc1(norm(x))))."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.self_attn = SelfAttention(shape.width, shape.heads)
        self.self_attn_layer_norm = nn.LayerNorm(shape.width)
        self.fc1 = nn.Linear(shape.width, shape.hidden)
        self.fc2 = nn.Linear(shape.hidden, shape.width)
        self.final_layer_norm = nn.LayerNorm(shape.width)

    def forward(
        self, x: Float[Tensor, "batch frames width"], mask: Bool[Tensor, "batch frames"] | None
    ) -> Float[Tensor, "batch frames width"]:
        """States after the layer."""
        x = x + self.self_attn(self.self_attn_layer_norm(x), mask)
        widened: Tensor = self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))
        return x + widened


class WhisperEncoder(nn.Module):
    """Stem and first layers; its parameters have the hub's names.

    Args:
        shape: sizes.

    >>> encoder = WhisperEncoder(EncoderShape(width=8, heads=2, hidden=16))
    >>> states, mask = encoder(torch.zeros(2, 101, 80), torch.tensor([101, 40]))
    >>> tuple(states.shape), mask.sum(1).tolist()
    ((2, 51, 8), [51, 20])
    """

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.conv1 = nn.Conv1d(shape.mels, shape.width, 3, padding=1)
        self.conv2 = nn.Conv1d(shape.width, shape.width, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(shape.positions, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))

    def forward(
        self, features: Float[Tensor, "batch frames mels"], lengths: Int[Tensor, " batch"] | None = None
    ) -> tuple[Float[Tensor, "batch states width"], Bool[Tensor, "batch states"] | None]:
        """States every 20 ms and their mask.

        Args:
            features: Whisper's log-mel, padded with anything.
            lengths: valid frames of each recording, at least 1; None: all frames are valid.

        Returns:
            ceil(frames / 2) states, and which of them belong to the recording (None where all do).

        Raises:
            ConfigError: more states than positions.
        """
        states = -(-features.shape[1] // 2)
        if states > self.shape.positions:
            got, expected = f"{states} states of 20 ms", f"at most {self.shape.positions}"
            raise ConfigError("encoder", got=got, expected=expected, remedy="choose shorter clips, or more positions")
        mask = half = None
        x = features.transpose(1, 2)
        if lengths is not None:
            mask = frame_mask(lengths, features.shape[1])
            half = frame_mask((lengths + 1) // 2, states)
            x = x.masked_fill(~mask[:, None], 0.0)
        x = F.gelu(self.conv1(x))
        if mask is not None:  # the second convolution sees zeros past the end, as of a recording that stands alone
            x = x.masked_fill(~mask[:, None], 0.0)
        x = F.gelu(self.conv2(x)).transpose(1, 2) + self.embed_positions.weight[:states]
        for layer in self.layers:
            x = layer(x, half)
        return x, half


def encoder_folder(folder: str | Path | None = None) -> Path:
    """The folder with the encoder's weights: the given one, or the one that AFFEKT_ENCODER names.

    Raises:
        ConfigError: neither is given, or there is no such folder.
    """
    named = folder or os.environ.get(FOLDER_VARIABLE)
    if not named:
        remedy = f"download openai/whisper-tiny.en and pass --encoder FOLDER, or set {FOLDER_VARIABLE}"
        raise ConfigError("encoder", got="no folder with its weights", expected="one", remedy=remedy)
    path = Path(named)
    if not path.is_dir():
        expected = "a folder with config.json and model.safetensors"
        raise ConfigError(str(path), got=NO_FOLDER, expected=expected, remedy=f"the encoder is {expected}")
    return path


def read_shape(folder: Path, layers: int = 1, positions: int = POSITIONS) -> EncoderShape:
    """Sizes of the encoder in a folder, with its first `layers` layers.

    Raises:
        ConfigError: no `config.json` of a Whisper model, or fewer layers than asked for.
    """
    what = f"encoder {folder}"
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        names = ("num_mel_bins", "d_model", "encoder_attention_heads", "encoder_ffn_dim", "encoder_layers")
        mels, width, heads, hidden, available = (int(config[name]) for name in names)
        longest = int(config.get("max_source_positions", 1_500))
    except (OSError, ValueError, KeyError, TypeError) as error:
        got = f"{type(error).__name__}: {error}"
        raise ConfigError(what, got=got, expected="the config.json of a Whisper model") from error
    if layers > available:
        raise ConfigError(what, got=f"{available} layers", expected=f"at least {layers}")
    return EncoderShape(mels, width, heads, hidden, layers, min(positions, longest))


def read_encoder(folder: Path, layers: int = 1, positions: int = POSITIONS) -> WhisperEncoder:
    """The encoder in a folder, in evaluation mode and float32.

    Args:
        folder: holds `config.json` and `model.safetensors`, of the encoder alone or of a whole Whisper model.
        layers: how many of its layers to use.
        positions: longest input, in states of 20 ms.

    Raises:
        ConfigError: missing files, or tensors that are missing or of another shape.
    """
    shape = read_shape(folder, layers, positions)
    with torch.device("meta"):
        encoder = WhisperEncoder(shape)
    expected = encoder.state_dict()
    what, found = f"encoder {folder}: model.safetensors", {}
    try:
        with safe_open(folder / "model.safetensors", framework="pt") as file:
            stored = set(file.keys())
            for name in expected:
                place = next((p + name for p in ("", "encoder.", "model.encoder.") if p + name in stored), None)
                if place is None:
                    raise ConfigError(what, got=f"no tensor {name}", expected="the encoder of a Whisper model")
                found[name] = file.get_tensor(place).float()
    except (OSError, SafetensorError) as error:
        raise ConfigError(what, got=f"{type(error).__name__}: {error}", expected="a safetensors file") from error
    found["embed_positions.weight"] = found["embed_positions.weight"][: shape.positions].clone()
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            got, wanted = f"shape {list(found[name].shape)}", f"{list(tensor.shape)}, as its config.json says"
            raise ConfigError(f"{what}: {name}", got=got, expected=wanted)
    encoder.load_state_dict(found, strict=True, assign=True)
    return encoder.eval()


def load_pretrained(encoder: WhisperEncoder) -> None:
    """Give an encoder the weights in the folder that AFFEKT_ENCODER names.

    Raises:
        ConfigError: no such folder, or an encoder of other sizes.
    """
    loaded = read_encoder(encoder_folder(), encoder.shape.layers, encoder.shape.positions)
    if loaded.shape != encoder.shape:
        raise ConfigError("encoder", got=str(loaded.shape), expected=str(encoder.shape), remedy="set network_options")
    encoder.load_state_dict(loaded.state_dict())


def from_tensors(tensors: Mapping[str, Tensor]) -> WhisperEncoder:
    """The encoder whose state dict this is; its sizes follow from the tensors, with heads of 64.

    Raises:
        KeyError: tensors are missing.
        RuntimeError: tensors of other shapes, or too many.

    >>> encoder = WhisperEncoder(EncoderShape(width=128, heads=2, hidden=8, layers=2))
    >>> from_tensors(encoder.state_dict()).shape == encoder.shape
    True
    """
    width, mels, _ = tensors["conv1.weight"].shape
    layers = len({name.split(".")[1] for name in tensors if name.startswith("layers.")})
    hidden = len(tensors["layers.0.fc1.bias"]) if layers else 1
    heads = max(1, width // HEAD_WIDTH)
    shape = EncoderShape(mels, width, heads, hidden, layers, len(tensors["embed_positions.weight"]))
    with torch.device("meta"):
        encoder = WhisperEncoder(shape)
    encoder.load_state_dict(dict(tensors), strict=True, assign=True)
    return encoder.eval().requires_grad_(False)
