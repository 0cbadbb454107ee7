"""[14] Convolutions and a bidirectional LSTM on spectrograms: Satt, Rozenberg & Hoory, Interspeech 2017.

"Efficient emotion recognition from speech using deep learning on spectrograms".
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from affekt.nn.blocks import bidirectional_lstm, max_pool, pooled_length
from affekt.nn.network import HEADS, Head, Output
from affekt.nn.pooling import last_states
from affekt.nn.zoo.sequence import valid_frames

KERNELS = ((12, 16), (8, 12), (5, 7))  # frames x bins
POOL = (2, 2)


class CNNBLSTM(nn.Module):
    """Three large-kernel convolutions with max-pooling, a bidirectional LSTM's last states, a dense layer.

    Args:
        dims: frequency bins.
        classes, head: number of classes and kind of scores, as the loss requires.
        maps: feature maps of each convolution.
        cells: of the LSTM, in each direction.
        dense: units of the last hidden layer.
        dropout: after each pooling and on the LSTM's last states.

    >>> sum(parameter.numel() for parameter in CNNBLSTM(200, 4).parameters())
    1035916
    """

    def __init__(
        self,
        dims: int,
        classes: int,
        head: Head = "linear",
        maps: tuple[int, int, int] = (16, 24, 32),
        cells: int = 128,
        dense: int = 64,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        channels = (1, *maps)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels[i], channels[i + 1], kernel) for i, kernel in enumerate(KERNELS)
        )
        bins = dims
        for _ in KERNELS:
            bins = pooled_length(bins, POOL[1])
        self.blstm = nn.LSTM(maps[-1] * bins, cells, batch_first=True, bidirectional=True)
        self.dense = nn.Linear(2 * cells, dense)
        self.dropout = nn.Dropout(dropout)
        self.embedding_size = dense
        self.head = HEADS[head](dense, classes)

    def forward(
        self, features: Float[Tensor, "batch frames dims"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Output:
        x, mask = valid_frames(features, lengths)
        x = x[:, None]
        for convolution, (frames, bins) in zip(self.convolutions, KERNELS, strict=True):
            same = ((bins - 1) // 2, bins // 2, (frames - 1) // 2, frames // 2)  # bins left and right, frames likewise
            x, mask = max_pool(F.relu(convolution(F.pad(x, same))), POOL, mask)
            x = self.dropout(x)
        states = bidirectional_lstm(self.blstm, x.transpose(1, 2).flatten(2), mask)
        embedding = F.relu(self.dense(self.dropout(last_states(states, mask))))
        return Output(self.head(embedding), embedding)
