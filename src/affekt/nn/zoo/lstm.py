"""[11] Contextual bidirectional LSTM, audio branch: Poria, Cambria, Hazarika, Majumder, Zadeh & Morency, ACL 2017.

"Context-dependent sentiment analysis in user-generated videos". A step is an utterance, a sequence is a dialogue, and
a step's features are functionals of the whole utterance. On corpora without dialogues a sequence is one utterance.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from affekt.nn.blocks import bidirectional_lstm
from affekt.nn.network import HEADS, Head, Output
from affekt.nn.zoo.sequence import last_valid, valid_frames


class ContextualLSTM(nn.Module):
    """A bidirectional LSTM over utterances and a dense layer; the last utterance of a sequence is the one recognized.

    Args:
        dims: functionals of an utterance.
        classes, head: number of classes and kind of scores, as the loss requires.
        cells: of the LSTM, in each direction.
        dense: units of the hidden layer.
        input_dropout: share of the functionals dropped.
        dropout: before and after the dense layer; 0.9 in the authors' code.

    >>> sum(parameter.numel() for parameter in ContextualLSTM(100, 4).parameters())
    1025304
    """

    def __init__(
        self,
        dims: int,
        classes: int,
        head: Head = "linear",
        cells: int = 300,
        dense: int = 100,
        input_dropout: float = 0.6,
        dropout: float = 0.9,
    ) -> None:
        super().__init__()
        self.input_dropout = nn.Dropout(input_dropout)
        self.blstm = nn.LSTM(dims, cells, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(2 * cells, dense)
        self.embedding_size = dense
        self.head = HEADS[head](dense, classes)

    def forward(
        self, features: Float[Tensor, "batch utterances dims"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Output:
        x, mask = valid_frames(features, lengths)
        states = bidirectional_lstm(self.blstm, self.input_dropout(x), mask)
        embedding = torch.tanh(self.dense(self.dropout(last_valid(states, mask))))
        return Output(self.head(self.dropout(embedding)), embedding)
