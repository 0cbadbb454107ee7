"""[12] LSTM with context-aware attention: Ramet, Garner, Baeriswyl & Lazaridis, SLT 2018.

"Context-aware attention mechanism for speech emotion recognition". Reconstructed from its abstract: the weight of a
frame comes from an LSTM, so that it depends on the frames around it. All else is [13]'s, so that the two differ in the
attention alone.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from affekt.nn.network import Head
from affekt.nn.pooling import masked_softmax
from affekt.nn.zoo.local_attention import LocalAttention
from affekt.nn.zoo.sequence import forward_lstm


class LSTMAttention(LocalAttention):
    """:class:`LocalAttention` whose frames are scored by a second LSTM.

    Args:
        dims, classes, head, hidden, cells, dropout: as in :class:`LocalAttention`.
        bidirectional: whether the scoring LSTM is bidirectional.

    >>> sum(parameter.numel() for parameter in LSTMAttention(32, 4).parameters())
    1135749
    """

    def __init__(
        self,
        dims: int,
        classes: int,
        head: Head = "linear",
        hidden: int = 512,
        cells: int = 128,
        dropout: float = 0.5,
        bidirectional: bool = False,
    ) -> None:
        super().__init__(dims, classes, head, hidden, cells, dropout)
        self.context = nn.LSTM(2 * cells, cells, batch_first=True, bidirectional=bidirectional)
        self.score = nn.Linear(cells * (1 + bidirectional), 1)

    def weights(
        self, states: Float[Tensor, "batch frames features"], mask: Bool[Tensor, "batch frames"] | None
    ) -> Float[Tensor, "batch frames"]:
        """a_t = softmax_t(v . s_t + b), s = LSTM(h); sums to 1 over the valid frames."""
        return masked_softmax(self.score(forward_lstm(self.context, states, mask))[..., 0], mask)
