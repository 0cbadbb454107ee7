"""[1] 3-D convolutional recurrent network with attention: Chen, He, Yang & Zhang, IEEE Signal Processing Letters 2018.

"3-D convolutional recurrent neural networks with attention model for speech emotion recognition". The third dimension
is the channels log-mel, delta and delta-delta; the kernels are two-dimensional.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from affekt.errors import ConfigError
from affekt.nn.blocks import bidirectional_lstm, max_pool
from affekt.nn.network import HEADS, Head, Output
from affekt.nn.pooling import masked_softmax, weighted_mean
from affekt.nn.zoo.sequence import valid_frames

CHANNELS = 3  # static, delta, delta-delta
SLOPE = 0.01  # of the leaky ReLU, in the authors' code


class CRNN3D(nn.Module):
    """Convolutions of 5 frames x 3 bands, a linear layer at every step, a bidirectional LSTM, attention, a dense layer.

    Args:
        dims: bands of all three channels, one channel after the other.
        classes, head: number of classes and kind of scores, as the loss requires.
        maps: feature maps of the first convolution; the others have twice as many.
        convolutions: in all.
        pool: frames and bands of the one max-pooling, after the first convolution: (2, 2) in the paper, (2, 4) in the
            authors' code.
        hidden: units of the linear layer.
        cells: of the LSTM, in each direction.
        dense: units of the last hidden layer.

    >>> sum(parameter.numel() for parameter in CRNN3D(120, 4).parameters())
    9300420
    """

    def __init__(
        self,
        dims: int,
        classes: int,
        head: Head = "linear",
        maps: int = 128,
        convolutions: int = 6,
        pool: tuple[int, int] = (2, 2),
        hidden: int = 768,
        cells: int = 128,
        dense: int = 64,
    ) -> None:
        super().__init__()
        if dims % CHANNELS:
            raise ConfigError("network crnn-3d", got=f"{dims} features", expected="log-mel, delta and delta-delta")
        channels = [CHANNELS, maps, *[2 * maps] * (convolutions - 1)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels[i], channels[i + 1], (5, 3), padding="same") for i in range(convolutions)
        )
        self.pool = (pool[0], pool[1])
        bands = -(-(dims // CHANNELS) // pool[1])
        self.linear = nn.Linear(channels[-1] * bands, hidden)
        self.blstm = nn.LSTM(hidden, cells, batch_first=True, bidirectional=True)
        self.score = nn.Linear(2 * cells, 1, bias=False)
        self.dense = nn.Linear(2 * cells, dense)
        self.norm = nn.BatchNorm1d(dense)
        self.embedding_size = dense
        self.head = HEADS[head](dense, classes)

    def sequence(
        self, features: Float[Tensor, "batch frames dims"], lengths: Int[Tensor, " batch"] | None
    ) -> tuple[Float[Tensor, "batch pooled features"], Bool[Tensor, "batch pooled"] | None]:
        """States of the LSTM and their mask."""
        x, mask = valid_frames(features, lengths)
        x = x.unflatten(2, (CHANNELS, -1)).transpose(1, 2)  # batch channels frames bands
        for number, convolution in enumerate(self.convolutions):
            x = F.leaky_relu(convolution(x), SLOPE)
            if number == 0:
                x, mask = max_pool(x, self.pool, mask)
            elif mask is not None:
                x = x * mask[:, None, :, None]
        steps = F.leaky_relu(self.linear(x.transpose(1, 2).flatten(2)), SLOPE)
        return bidirectional_lstm(self.blstm, steps, mask), mask

    def weights(
        self, states: Float[Tensor, "batch frames features"], mask: Bool[Tensor, "batch frames"] | None
    ) -> Float[Tensor, "batch frames"]:
        """a_t = softmax_t(W . h_t); sums to 1 over the valid frames."""
        return masked_softmax(self.score(states)[..., 0], mask)

    def forward(
        self, features: Float[Tensor, "batch frames dims"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Output:
        states, mask = self.sequence(features, lengths)
        context = weighted_mean(states, self.weights(states, mask))
        embedding = F.leaky_relu(self.norm(self.dense(context)), SLOPE)
        return Output(self.head(embedding), embedding)
