"""The paper's back end on Whisper's encoder: bidirectional LSTM, pooling, output layer (Zhou & Liu 2020, section 3.1).

`EncoderBackEnd` reads states that were computed before (front end `encoder-states`). `TunedEncoder` has the encoder
inside and trains it too, at a rate of its own.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from affekt.errors import ConfigError
from affekt.nn import recurrence
from affekt.nn.blocks import frame_mask
from affekt.nn.dropout import ByteDropout
from affekt.nn.encoder import POSITIONS, EncoderShape, WhisperEncoder, load_pretrained
from affekt.nn.network import HEADS, Head, Output
from affekt.nn.pooling import POOLINGS
from affekt.nn.zoo.sequence import SequenceNorm


class TwoWayLSTM(nn.LSTM):
    """A bidirectional LSTM of padded sequences; the backward direction starts at the last valid state.

    PyTorch's own takes packed sequences for that, which it visits step by step. On a CPU :mod:`affekt.nn.recurrence`
    does the same several times faster.

    Args:
        inputs: length of the states.
        cells: in each direction.
    """

    def __init__(self, inputs: int, cells: int) -> None:
        super().__init__(inputs, cells, batch_first=True, bidirectional=True)

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "batch states inputs"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch states outputs"]:
        """Both directions side by side, zeros past the end."""
        if lengths is None:
            both: Tensor = super().forward(x)[0]
            return both
        if not recurrence.serves(x, self.hidden_size):
            return self._packed(x, lengths)
        bias = self._gates("bias_ih") + self._gates("bias_hh")
        projected = nn.functional.linear(x, self._gates("weight_ih"), bias).float().unflatten(2, (2, -1))
        recurrent = self._gates("weight_hh").unflatten(0, (2, -1)).mT
        return recurrence.bidirectional_states(projected, recurrent, lengths).flatten(2)

    def _packed(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(super().forward(packed)[0], batch_first=True, total_length=x.shape[1])
        return states

    def _gates(self, name: str) -> Float[Tensor, "*weight"]:
        """A weight or bias of the forward direction, then of the backward one; gates in the order of the recurrence."""
        both = (getattr(self, f"{name}_l0{direction}").chunk(4) for direction in ("", "_reverse"))
        return torch.cat([gates[place] for gates in both for place in recurrence.GATES])


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
        self.dropout = ByteDropout(dropout)
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
        embedding = self.pooling(self.blstm(self.dropout(x), lengths), mask)
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
