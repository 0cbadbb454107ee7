"""A small ECAPA-TDNN: Desplanques, Thienpondt & Demuynck, Interspeech 2020.

"ECAPA-TDNN: emphasized channel attention, propagation and aggregation in TDNN based speaker verification". A strong
convolutional network for speakers, at a width that suits a few thousand utterances.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from affekt.nn.network import HEADS, Head, Output
from affekt.nn.pooling import masked_softmax, uniform_weights, weighted_deviation, weighted_mean
from affekt.nn.zoo.sequence import Convolution, SequenceNorm, only_valid, valid_frames

DILATIONS = (2, 3, 4)


class Unit(nn.Module):
    """Convolution - ReLU - batch norm."""

    def __init__(self, channels: int, out_channels: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.convolution = Convolution(channels, out_channels, kernel, dilation=dilation)
        self.norm = SequenceNorm(out_channels)

    def forward(
        self, x: Float[Tensor, "batch channels frames"], mask: Bool[Tensor, "batch frames"] | None
    ) -> Float[Tensor, "batch out_channels frames"]:
        return only_valid(self.norm(F.relu(self.convolution(x, mask)[0]), mask), mask)


class Block(nn.Module):
    """SE-Res2Block: 1x1, Res2Net convolutions, 1x1, squeeze and excitation, plus its input (section 3.2, Fig. 1)."""

    def __init__(self, channels: int, dilation: int, scale: int, bottleneck: int) -> None:
        super().__init__()
        self.scale = scale
        self.before, self.after = Unit(channels, channels), Unit(channels, channels)
        width = channels // scale
        self.parts = nn.ModuleList(Unit(width, width, 3, dilation) for _ in range(scale - 1))
        self.squeeze, self.excite = nn.Linear(channels, bottleneck), nn.Linear(bottleneck, channels)

    def forward(
        self, x: Float[Tensor, "batch channels frames"], mask: Bool[Tensor, "batch frames"] | None
    ) -> Float[Tensor, "batch channels frames"]:
        first, *rest = self.before(x, mask).chunk(self.scale, dim=1)
        done = [first]
        for number, (part, unit) in enumerate(zip(rest, self.parts, strict=True)):
            done.append(unit(part if number == 0 else part + done[-1], mask))
        inner = self.after(torch.cat(done, dim=1), mask).transpose(1, 2)  # batch frames channels
        mean = weighted_mean(inner, uniform_weights(inner, mask))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(mean))))
        gated: Tensor = x + (inner * gate[:, None]).transpose(1, 2)
        return gated


class AttentiveStatistics(nn.Module):
    """Mean and deviation of each channel under its own attention, which knows the utterance's mean and deviation."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.hidden, self.score = nn.Linear(3 * channels, bottleneck), nn.Linear(bottleneck, channels)

    def weights(
        self, x: Float[Tensor, "batch frames channels"], mask: Bool[Tensor, "batch frames"] | None
    ) -> Float[Tensor, "batch frames channels"]:
        """Attention of every frame for each channel; sums to 1 over the valid frames."""
        uniform = uniform_weights(x, mask)
        whole = torch.cat([weighted_mean(x, uniform), weighted_deviation(x, uniform)], dim=-1)
        seen = torch.cat([x, whole[:, None].expand(-1, x.shape[1], -1)], dim=-1)
        return masked_softmax(self.score(torch.tanh(self.hidden(seen))), mask)

    def forward(
        self, x: Float[Tensor, "batch frames channels"], mask: Bool[Tensor, "batch frames"] | None
    ) -> Float[Tensor, "batch pooled"]:
        weights = self.weights(x, mask)
        mean = (weights * x).sum(1)
        variance = (weights * (x - mean[:, None]).square()).sum(1)
        return torch.cat([mean, variance.clamp_min(1e-9).sqrt()], dim=-1)


class ECAPA(nn.Module):
    """Time-delay blocks with squeeze and excitation, their outputs side by side, attentive statistics.

    Args:
        dims: mel bands.
        classes, head: number of classes and kind of scores, as the loss requires.
        channels: of every block; the paper has 512 and 1024.
        scale: parts of the Res2Net convolutions.
        bottleneck: of the excitations and of the attention.
        embedding: length of the deep feature.

    >>> sum(parameter.numel() for parameter in ECAPA(40, 4).parameters())
    375940
    """

    def __init__(
        self,
        dims: int,
        classes: int,
        head: Head = "linear",
        channels: int = 120,
        scale: int = 8,
        bottleneck: int = 32,
        embedding: int = 64,
    ) -> None:
        super().__init__()
        self.stem = Unit(dims, channels, kernel=5)
        self.blocks = nn.ModuleList(Block(channels, dilation, scale, bottleneck) for dilation in DILATIONS)
        joined = len(DILATIONS) * channels
        self.join = Convolution(joined, joined, kernel=1)
        self.pooling = AttentiveStatistics(joined, bottleneck)
        self.pooled_norm = nn.BatchNorm1d(2 * joined)
        self.dense = nn.Linear(2 * joined, embedding)
        self.norm = nn.BatchNorm1d(embedding)
        self.embedding_size = embedding
        self.head = HEADS[head](embedding, classes)

    def forward(
        self, features: Float[Tensor, "batch frames dims"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Output:
        valid, mask = valid_frames(features, lengths)
        x = self.stem(valid.transpose(1, 2), mask)
        outputs = []
        for block in self.blocks:
            x = block(x, mask)
            outputs.append(x)
        joined = F.relu(self.join(torch.cat(outputs, dim=1), mask)[0])
        pooled = self.pooling(joined.transpose(1, 2), mask)
        embedding = self.norm(self.dense(self.pooled_norm(pooled)))
        return Output(self.head(embedding), embedding)
