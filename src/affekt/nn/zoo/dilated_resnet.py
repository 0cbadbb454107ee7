"""[3] Dilated residual network with multi-head self-attention: Li, Wu, Jia, Zhao & Meng, ICASSP 2019.

"Dilated residual network with multi-head self-attention for speech emotion recognition". Dilation in place of pooling
keeps the time resolution. The layers are those of a public re-implementation; the attention, which that one leaves out,
stands between them and the LSTM.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from affekt.nn.network import HEADS, Head, Output
from affekt.nn.zoo.sequence import Convolution, SequenceNorm, forward_lstm, last_valid, only_valid, valid_frames

STEM_KERNEL = 10
STAGES = ((2, 2, 2, 5, 1), (4, 2, 2, 5, 1), (8, 1, 1, 3, 2), (16, 1, 1, 3, 4))
"""Width in stem widths, kernel and stride of a stage's first convolution, kernel and dilation of its blocks."""


class ResidualBlock(nn.Module):
    """Convolution - batch norm - ReLU - convolution - batch norm, plus its input, ReLU."""

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.first = Convolution(channels, channels, kernel, dilation=dilation, bias=False)
        self.first_norm = SequenceNorm(channels)
        self.second = Convolution(channels, channels, kernel, dilation=dilation, bias=False)
        self.second_norm = SequenceNorm(channels)

    def forward(
        self, x: Float[Tensor, "batch channels frames"], mask: Bool[Tensor, "batch frames"] | None
    ) -> Float[Tensor, "batch channels frames"]:
        inner = F.relu(self.first_norm(self.first(x, mask)[0], mask))
        inner = self.second_norm(self.second(inner, mask)[0], mask)
        return only_valid(F.relu(x + inner), mask)


class FrameSelfAttention(nn.Module):
    """Scaled dot-product attention of every frame to every valid frame, added to its input, layer-normalized."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(features, heads, batch_first=True)
        self.norm = nn.LayerNorm(features)

    def attend(
        self, x: Float[Tensor, "batch frames features"], mask: Bool[Tensor, "batch frames"] | None
    ) -> tuple[Float[Tensor, "batch frames features"], Float[Tensor, "batch heads frames keys"]]:
        """Attention output and weights of each frame; the weights sum to 1 over the valid frames."""
        hidden = None if mask is None else ~mask
        heard, weights = self.attention(x, x, x, key_padding_mask=hidden, average_attn_weights=False)
        return heard, weights

    def forward(
        self, x: Float[Tensor, "batch frames features"], mask: Bool[Tensor, "batch frames"] | None
    ) -> Float[Tensor, "batch frames features"]:
        normed: Tensor = self.norm(x + self.attend(x, mask)[0])
        return normed


class DilatedResNet(nn.Module):
    """Residual blocks over time, self-attention, a two-layer LSTM's last state, two dense layers.

    Args:
        dims: low-level descriptors of a frame.
        classes, head: number of classes and kind of scores, as the loss requires.
        width: channels of the first convolution; the last stage and the LSTM have 16 times as many.
        heads: of the self-attention; 0 leaves it out, as the re-implementation does.
        dense: units of the two dense layers.
        dropout: after each stage and between the LSTM's layers.

    >>> sum(parameter.numel() for parameter in DilatedResNet(17, 4).parameters())
    9937940
    """

    def __init__(
        self,
        dims: int,
        classes: int,
        head: Head = "linear",
        width: int = 32,
        heads: int = 8,
        dense: int = 200,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.stem = Convolution(dims, width, STEM_KERNEL)
        channels = width
        self.convolutions, self.blocks = nn.ModuleList(), nn.ModuleList()
        for widths, kernel, stride, block_kernel, dilation in STAGES:
            self.convolutions.append(Convolution(channels, widths * width, kernel, stride))
            channels = widths * width
            self.blocks.extend(ResidualBlock(channels, block_kernel, dilation) for _ in range(2))
        self.attention = FrameSelfAttention(channels, heads) if heads else None
        self.lstm = nn.LSTM(channels, channels, num_layers=2, batch_first=True, dropout=dropout)
        self.dense = nn.Sequential(nn.Linear(channels, dense), nn.ReLU(), nn.Linear(dense, dense), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.embedding_size = dense
        self.head = HEADS[head](dense, classes)

    def maps(
        self, features: Float[Tensor, "batch frames dims"], lengths: Int[Tensor, " batch"] | None
    ) -> tuple[Float[Tensor, "batch strided channels"], Bool[Tensor, "batch strided"] | None]:
        """Output of the residual network for every fourth frame, and the mask of these."""
        valid, mask = valid_frames(features, lengths)
        x, mask = self.stem(valid.transpose(1, 2), mask)
        for stage, convolution in enumerate(self.convolutions):
            x, mask = convolution(x, mask)
            for block in self.blocks[2 * stage : 2 * stage + 2]:
                x = block(x, mask)
            x = self.dropout(x)
        return x.transpose(1, 2), mask

    def forward(
        self, features: Float[Tensor, "batch frames dims"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Output:
        x, mask = self.maps(features, lengths)
        if self.attention is not None:
            x = self.attention(x, mask)
        embedding = self.dense(last_valid(forward_lstm(self.lstm, x, mask), mask))
        return Output(self.head(embedding), embedding)
