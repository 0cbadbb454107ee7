"""A self-supervised encoder under this project's poolings and losses: wav2vec 2.0, HuBERT or WavLM.

Baevski et al. 2020, Hsu et al. 2021, Chen et al. 2022. The hidden layers are averaged with learned weights (Yang et al.
2021, SUPERB). The encoder is `transformers`', an optional extra: `pip install affekt[ssl]`. Its weights come from a
folder on this machine, when a training starts; a checkpoint holds them all and needs no folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from affekt.errors import NO_FOLDER, ConfigError
from affekt.nn.blocks import frame_mask
from affekt.nn.network import HEADS, Head, Output
from affekt.nn.pooling import POOLINGS
from affekt.nn.zoo.sequence import valid_frames

Kind = Literal["wav2vec2", "hubert", "wavlm"]
SHORTEST_SAMPLES = 400  # what the encoders' convolutions see at once; shorter recordings are filled with zeros


def _encoder_class(kind: Kind) -> tuple[Callable[..., Any], Any]:
    """The configuration and the model of a kind of encoder."""
    try:
        import transformers
    except ImportError as error:
        raise ConfigError("network ssl", got="no transformers", remedy="pip install 'affekt[ssl]'") from error
    names = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}
    if kind not in names:
        raise ConfigError("network ssl: kind", got=repr(kind), expected=f"one of {', '.join(get_args(Kind))}")
    return getattr(transformers, f"{names[kind]}Config"), getattr(transformers, f"{names[kind]}Model")


class SSLEncoder(nn.Module):
    """Encoder, weighted mean of its hidden layers, pooling over time, output layer.

    Args:
        dims: 1, the waveform.
        classes, head: number of classes and kind of scores, as the loss requires.
        kind: of encoder.
        config: the encoder's shape, as in its config.json; what is left out is the kind's base model.
        pretrained: folder with its config.json and model.safetensors, read when a training starts; "": random.
        frozen: whether the encoder's weights stay as they are.
        pooling: a name in :data:`affekt.nn.POOLINGS`.
    """

    def __init__(
        self,
        dims: int,
        classes: int,
        head: Head = "linear",
        kind: Kind = "wav2vec2",
        config: Mapping[str, Any] | None = None,
        pretrained: str = "",
        frozen: bool = True,
        pooling: str = "statistics",
    ) -> None:
        super().__init__()
        if dims != 1:
            raise ConfigError("network ssl", got=f"{dims} features", expected="the waveform")
        make_config, self.model_class = _encoder_class(kind)
        quiet = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0, "layerdrop": 0.0}  # no SpecAugment of its own
        self.encoder = self.model_class(make_config(**{**quiet, **(config or {})}))
        self.pretrained, self.frozen = pretrained, frozen
        self.encoder.requires_grad_(not frozen)
        shape = self.encoder.config
        self.layers = nn.Parameter(torch.zeros(shape.num_hidden_layers + 1))
        self.pooling = POOLINGS[pooling](shape.hidden_size)
        self.embedding_size = int(self.pooling.size)  # type: ignore[arg-type]
        self.head = HEADS[head](self.embedding_size, classes)

    def load_pretrained(self) -> None:
        """Take the encoder's weights from its folder; weights only, and from nowhere else.

        Raises:
            ConfigError: no such folder, or weights of another shape.
        """
        if not self.pretrained:
            return
        what = f"network ssl: pretrained {self.pretrained}"
        if not Path(self.pretrained).is_dir():
            expected = "a folder with config.json and model.safetensors"
            raise ConfigError(self.pretrained, got=NO_FOLDER, expected=expected, remedy=f"`pretrained` is {expected}")
        try:
            loaded = self.model_class.from_pretrained(self.pretrained, local_files_only=True, use_safetensors=True)
            self.encoder.load_state_dict(loaded.state_dict())
        except (OSError, RuntimeError, ValueError) as error:
            got = " ".join(str(error).split())[:200]
            remedy = "pass its config.json as config"
            raise ConfigError(what, got=got, expected="weights of this encoder", remedy=remedy) from error

    def train(self, mode: bool = True) -> SSLEncoder:
        """Training or evaluation mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def hidden(
        self, waveform: Float[Tensor, "batch samples dims"], lengths: Int[Tensor, " batch"] | None
    ) -> tuple[Float[Tensor, "batch frames features"], Bool[Tensor, "batch frames"] | None]:
        """Weighted mean of the hidden layers, and its mask."""
        valid, _ = valid_frames(waveform, lengths)
        samples = F.pad(valid[..., 0], (0, max(0, SHORTEST_SAMPLES - waveform.shape[1])))
        lengths = None if lengths is None else lengths.clamp_min(SHORTEST_SAMPLES)
        attention = None if lengths is None else frame_mask(lengths, samples.shape[1]).long()
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            layers = self.encoder(samples, attention_mask=attention, output_hidden_states=True).hidden_states
        mixed = (torch.stack(layers) * self.layers.softmax(0)[:, None, None, None]).sum(0)
        if lengths is None:
            return mixed, None
        return mixed, frame_mask(self.encoder._get_feat_extract_output_lengths(lengths), mixed.shape[1])

    def forward(
        self, features: Float[Tensor, "batch samples dims"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Output:
        states, mask = self.hidden(features, lengths)
        embedding = self.pooling(states, mask)
        return Output(self.head(embedding), embedding)
