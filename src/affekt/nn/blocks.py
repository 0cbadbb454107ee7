"""Building blocks of networks: convolution module, recurrent layer, output layers.

Two modes share this code. *Padded* (mask is None): every layer sees the zeros that fill a clip, as in the paper.
*Masked*: a mask tells the frames of an utterance from its padding, and no number that belongs to the utterance depends
on how much padding follows it. Between modules the padded frames are zero, which is what a 'same' convolution sees
beyond the end of an utterance that stands alone. Masks are true first and false after; at least one frame is true.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from affekt.nn import fused


def frame_mask(lengths: Int[Tensor, " batch"], frames: int) -> Bool[Tensor, "batch frames"]:
    """True where a frame belongs to the utterance.

    >>> frame_mask(torch.tensor([1, 3]), frames=3).tolist()
    [[True, False, False], [True, True, True]]
    """
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def pooled_length(length: int, pool: int) -> int:
    """Windows of `pool` that cover `length`, the last one perhaps in part: ceil(length / pool).

    >>> [pooled_length(750, 2), pooled_length(375, 2), pooled_length(5, 1)]
    [375, 188, 5]
    """
    return -(-length // pool)


def average_pool(
    x: Float[Tensor, "batch channels frames mels"], pool: int, mask: Bool[Tensor, "batch frames"] | None = None
) -> Float[Tensor, "batch channels pooled_frames pooled_mels"]:
    """Mean over windows of pool x pool; a window at the edge averages the elements that exist, as 'same' pooling does.

    With a mask only valid frames are averaged, and windows without any are zero.

    >>> average_pool(torch.tensor([[[[1.0], [3.0], [8.0]]]]), pool=2).flatten().tolist()
    [2.0, 8.0]
    """
    if mask is not None:
        x = x * mask[:, None, :, None]
    if pool == 1:
        return x
    pooled = F.avg_pool2d(x, pool, ceil_mode=True, count_include_pad=False)
    if mask is None:
        return pooled
    share = F.avg_pool1d(mask[:, None].to(x.dtype), pool, ceil_mode=True, count_include_pad=False)  # valid / existing
    return pooled / share[..., None].clamp_min(1 / pool)


def max_pool(
    x: Float[Tensor, "batch channels frames mels"],
    pool: tuple[int, int],
    mask: Bool[Tensor, "batch frames"] | None = None,
) -> tuple[Float[Tensor, "batch channels pooled_frames pooled_mels"], Bool[Tensor, "batch pooled_frames"] | None]:
    """Maximum over windows of frames x mels and the pooled mask; as in :func:`average_pool` the edge has what exists.

    >>> pooled, mask = max_pool(torch.tensor([[[[-1.0], [-3.0], [9.0]]]]), (2, 1), torch.tensor([[True, True, False]]))
    >>> pooled.flatten().tolist(), mask.tolist()
    ([-1.0, 0.0], [[True, False]])
    """
    if mask is None:
        return F.max_pool2d(x, pool, ceil_mode=True), None
    x = x.masked_fill(~mask[:, None, :, None], torch.finfo(x.dtype).min)
    pooled_mask = mask[:, :: pool[0]]
    pooled = F.max_pool2d(x, pool, ceil_mode=True)
    return pooled.masked_fill(~pooled_mask[:, None, :, None], 0.0), pooled_mask


class MaskedBatchNorm(nn.BatchNorm2d):
    """Batch normalization whose statistics come from the valid frames alone (Ioffe & Szegedy 2015)."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(
        self, x: Float[Tensor, "batch channels frames mels"], mask: Bool[Tensor, "batch frames"] | None = None
    ) -> Float[Tensor, "batch channels frames mels"]:
        if mask is None or not self.training:
            return super().forward(x)
        mean, variance = self._update_statistics(x, mask)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return (x * scale[:, None, None] + shift[:, None, None]).to(x.dtype)

    def _update_statistics(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        valid = mask[:, None, :, None].to(self.weight.dtype)
        count = valid.sum() * x.shape[-1]
        mean = (x * valid).sum((0, 2, 3)) / count
        variance = ((x - mean[:, None, None]) * valid).square().sum((0, 2, 3)) / count
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1).clamp_min(1), self.momentum)
        return mean, variance


class ConvModule(nn.Module):
    """Convolution - batch normalization - ReLU - average pooling - dropout (section 3.1, "CNN").

    The paper names no activation and no padding: here ReLU follows the normalization, the convolution is 'same' and
    pooling rounds up.

    >>> module = ConvModule(1, 8, kernel=3, pool=2, dropout=0.25)
    >>> x, mask = module(torch.randn(2, 1, 75, 5))
    >>> tuple(x.shape)
    (2, 8, 38, 3)
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, pool: int, dropout: float) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel, padding="same")
        self.norm = MaskedBatchNorm(out_channels)
        self.pool = pool
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch channels frames mels"], mask: Bool[Tensor, "batch frames"] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The module's output and its mask, ceil(frames / pool) long; frames outside the mask come out as zero."""
        pooled_mask = None if mask is None else mask[:, :: self.pool]
        if fused.serves(self, x):
            return fused.run(self, x, mask), pooled_mask
        x = F.relu(self.norm(self.convolution(x), mask))
        return self.dropout(average_pool(x, self.pool, mask)), pooled_mask


def bidirectional_lstm(
    lstm: nn.LSTM, sequence: Float[Tensor, "batch frames inputs"], mask: Bool[Tensor, "batch frames"] | None = None
) -> Float[Tensor, "batch frames features"]:
    """The states of both directions, concatenated; the backward direction starts at the last valid frame.

    On CUDA they are computed in float32: under autocast PyTorch lets cuDNN compute them in float16, whatever the
    requested type, and the smallest gradients would underflow.
    """
    if sequence.device.type == "cuda":
        with torch.autocast("cuda", enabled=False):
            return _states(lstm, sequence.float(), mask)
    return _states(lstm, sequence, mask)


def _states(lstm: nn.LSTM, sequence: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        states: Tensor = lstm(sequence)[0]
        return states
    lengths = mask.sum(1).cpu()
    packed = pack_padded_sequence(sequence, lengths, batch_first=True, enforce_sorted=False)
    states, _ = pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=sequence.shape[1])
    return states


class LinearHead(nn.Linear):
    """Logits W f + b (eq. 1), in the precision of W even under autocast."""

    def forward(self, embedding: Float[Tensor, "batch features"]) -> Float[Tensor, "batch classes"]:
        with torch.autocast(embedding.device.type, enabled=False):
            return super().forward(embedding.to(self.weight.dtype))


class CosineHead(nn.Linear):
    """Cosines of f and the rows of W: "feature and weights are normalized and bias term is ignored" (eq. 2).

    >>> head = CosineHead(3, 2)
    >>> bool(torch.allclose(head(head.weight).diagonal(), torch.ones(2)))
    True
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes, bias=False)

    def forward(self, embedding: Float[Tensor, "batch features"]) -> Float[Tensor, "batch classes"]:
        with torch.autocast(embedding.device.type, enabled=False):
            directions = F.normalize(embedding.to(self.weight.dtype), eps=1e-6)
            return F.linear(directions, F.normalize(self.weight, eps=1e-6))
