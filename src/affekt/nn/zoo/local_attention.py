"""[13] Recurrent network with local attention: Mirsamadi, Barsoum & Zhang, ICASSP 2017.

"Automatic speech emotion recognition using recurrent neural networks with local attention".
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from affekt.nn.blocks import bidirectional_lstm
from affekt.nn.network import HEADS, Head, Output
from affekt.nn.pooling import masked_softmax, weighted_mean
from affekt.nn.zoo.sequence import valid_frames


class LocalAttention(nn.Module):
    """Two dense layers and a bidirectional LSTM, pooled by a learned weight of each frame.

    Args:
        dims: low-level descriptors of a frame.
        classes, head: number of classes and kind of scores, as the loss requires.
        hidden: units of each dense layer.
        cells: of the LSTM, in each direction.
        dropout: after the dense layers and after the LSTM.

    >>> sum(parameter.numel() for parameter in LocalAttention(32, 4).parameters())
    938244
    """

    def __init__(
        self, dims: int, classes: int, head: Head = "linear", hidden: int = 512, cells: int = 128, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.dense = nn.Sequential(
            nn.Linear(dims, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout)
        )
        self.blstm = nn.LSTM(hidden, cells, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(2 * cells, 1, bias=False)  # u
        self.embedding_size = 2 * cells
        self.head = HEADS[head](self.embedding_size, classes)

    def weights(
        self, states: Float[Tensor, "batch frames features"], mask: Bool[Tensor, "batch frames"] | None
    ) -> Float[Tensor, "batch frames"]:
        """a_t = exp(u . y_t) / sum_s exp(u . y_s); sums to 1 over the valid frames."""
        return masked_softmax(self.score(states)[..., 0], mask)

    def forward(
        self, features: Float[Tensor, "batch frames dims"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Output:
        x, mask = valid_frames(features, lengths)
        states = self.dropout(bidirectional_lstm(self.blstm, self.dense(x), mask))
        embedding = weighted_mean(states, self.weights(states, mask))
        return Output(self.head(embedding), embedding)
