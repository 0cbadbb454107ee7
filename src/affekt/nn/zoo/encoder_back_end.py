"""The paper's back end on Whisper's encoder: bidirectional LSTM, pooling, output layer (Zhou & Liu 2020, section 3.1).

`EncoderBackEnd` reads states that were computed before (front end `encoder-states`). `TunedEncoder` has the encoder
inside and trains it too, at a rate of its own.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from affekt.errors import ConfigError
from affekt.nn.blocks import frame_mask
from affekt.nn.encoder import POSITIONS, EncoderShape, WhisperEncoder, load_pretrained
from affekt.nn.network import HEADS, Head, Output
from affekt.nn.pooling import POOLINGS
from affekt.nn.zoo.sequence import SequenceNorm


class TwoWayLSTM(nn.LSTM):
    """A bidirectional LSTM of padded sequences that runs each direction by itself, the backward one on flipped states.

    On a CPU that takes half the time of PyTorch's packed sequences, which the recurrence has to visit step by step.

    Args:
        inputs: length of the states.
        cells: in each direction.
    """

    def __init__(self, inputs: int, cells: int) -> None:
        super().__init__(inputs, cells, batch_first=True, bidirectional=True)

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "batch states inputs"], mask: Bool[Tensor, "batch states"] | None = None
    ) -> Float[Tensor, "batch states outputs"]:
        """Both directions side by side; the backward one starts at the last valid state. Zeros past the end."""
        if mask is None:
            both: Tensor = super().forward(x)[0]
            return both
        steps = torch.arange(x.shape[1], device=x.device)
        flipped = torch.where(mask, mask.sum(1, keepdim=True) - 1 - steps, steps)
        forth = self._one_way(x, "")
        back = self._one_way(_taken(x, flipped), "_reverse")
        return torch.cat([forth, _taken(back, flipped)], 2).masked_fill(~mask[..., None], 0.0)

    def _one_way(self, x: Tensor, suffix: str) -> Tensor:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = [getattr(self, f"{name}_l0{suffix}") for name in names]
        start = x.new_zeros(1, len(x), self.hidden_size)
        states: Tensor = torch.lstm(x.transpose(0, 1), (start, start), weights, True, 1, 0.0, False, False, False)[0]
        return states.transpose(0, 1)


def _taken(x: Float[Tensor, "batch states features"], index: Int[Tensor, "batch states"]) -> Tensor:
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))


class EncoderBackEnd(nn.Module):
    """Dropout, bidirectional LSTM, pooling, output layer.

    Args:
        dims: length of the states.
        classes, head: number of classes and kind of scores, as the loss requires.
        cells: of the LSTM, in each direction; 32 as in the paper's network.
        pooling: a name in :data:`affekt.nn.POOLINGS`.
        dropout: share of the inputs dropped.

    >>> sum(parameter.numel() for parameter in EncoderBackEnd(384, 4).parameters())
    111364
    """

    def __init__(
        self,
        dims: int,
        classes: int,
        head: Head = "linear",
        cells: int = 32,
        pooling: str = "attention",
        dropout: float = 0.25,
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.blstm = TwoWayLSTM(dims, cells)
        self.pooling = POOLINGS[pooling](2 * cells)
        self.embedding_size = int(self.pooling.size)  # type: ignore[arg-type]
        self.head = HEADS[head](self.embedding_size, classes)

    def forward(
        self, features: Float[Tensor, "batch states dims"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Output:
        """Scores and the pooled deep feature.

        Args:
            features: normalized states, padded with anything.
            lengths: valid states of each utterance; None: all.
        """
        mask = None if lengths is None else frame_mask(lengths, features.shape[1])
        x = features if mask is None else features.masked_fill(~mask[..., None], 0.0)
        embedding = self.pooling(self.blstm(self.dropout(x), mask), mask)
        return Output(self.head(embedding), embedding)


class TunedEncoder(EncoderBackEnd):
    """Whisper's encoder, normalization of its states, and the back end, trained together.

    Args:
        dims: mel bands.
        classes, head, cells, pooling, dropout: of the back end.
        layers: transformer layers to use.
        width, heads, hidden, positions: the encoder's sizes.
        rate: learning rate of the encoder, as a share of the back end's.
    """

    as_is = True
    """Features are not normalized: the encoder's weights were trained on them as they are."""

    def __init__(
        self,
        dims: int,
        classes: int,
        head: Head = "linear",
        cells: int = 32,
        pooling: str = "attention",
        dropout: float = 0.25,
        layers: int = 1,
        width: int = 384,
        heads: int = 6,
        hidden: int = 1_536,
        positions: int = POSITIONS,
        rate: float = 0.03,
    ) -> None:
        super().__init__(width, classes, head, cells, pooling, dropout)
        if not 0 <= rate <= 1:
            raise ConfigError("network tuned-encoder: rate", got=str(rate), expected="0 to 1")
        self.encoder = WhisperEncoder(EncoderShape(dims, width, heads, hidden, layers, positions))
        self.norm = SequenceNorm(width)
        self.rate = rate

    def learning_rates(self) -> dict[str, float]:
        """Rates of parameters by the prefix of their names, as shares of the recipe's."""
        return {"encoder.": self.rate}

    def load_pretrained(self) -> None:
        """Take the encoder's weights from the folder that AFFEKT_ENCODER names.

        Raises:
            ConfigError: no such folder, or an encoder of other sizes.
        """
        load_pretrained(self.encoder)

    def forward(
        self, features: Float[Tensor, "batch frames dims"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Output:
        """Scores and the pooled deep feature, from Whisper's log-mel."""
        states, mask = self.encoder(features, lengths)
        normalized = self.norm(states.transpose(1, 2), mask).transpose(1, 2)
        return super().forward(normalized, None if mask is None else mask.sum(1))
