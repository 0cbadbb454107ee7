"""Layers over ragged sequences that several prior systems share; frames outside a mask are zero and count for nothing.

Masks are as in :mod:`affekt.nn.blocks`: true first, false after, at least one frame true; None is all true.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from affekt.nn.blocks import MaskedBatchNorm, frame_mask


def valid_frames(
    features: Float[Tensor, "batch frames dims"], lengths: Int[Tensor, " batch"] | None
) -> tuple[Float[Tensor, "batch frames dims"], Bool[Tensor, "batch frames"] | None]:
    """Features with zeros in place of padding, and their mask."""
    if lengths is None:
        return features, None
    mask = frame_mask(lengths, features.shape[1])
    return features.masked_fill(~mask[..., None], 0.0), mask


def only_valid(
    x: Float[Tensor, "batch channels frames"], mask: Bool[Tensor, "batch frames"] | None
) -> Float[Tensor, "batch channels frames"]:
    """Zero where the mask is false.

    >>> only_valid(torch.ones(1, 1, 3), torch.tensor([[True, True, False]])).tolist()
    [[[1.0, 1.0, 0.0]]]
    """
    return x if mask is None else x * mask[:, None]


class Convolution(nn.Conv1d):
    """'Same' convolution over time, any kernel; with a stride it rounds the number of frames up.

    >>> layer = Convolution(2, 3, kernel=10)
    >>> layer(torch.zeros(1, 2, 7))[0].shape
    torch.Size([1, 3, 7])
    """

    def __init__(
        self, channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1, bias: bool = True
    ) -> None:
        super().__init__(channels, out_channels, kernel, stride, dilation=dilation, bias=bias)
        self.reach = (kernel - 1) * dilation - (stride - 1)  # frames that a window needs beyond the frames it replaces

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "batch channels frames"], mask: Bool[Tensor, "batch frames"] | None = None
    ) -> tuple[Float[Tensor, "batch out_channels strided"], Bool[Tensor, "batch strided"] | None]:
        stride = self.stride[0]
        missing = -x.shape[2] % stride
        padded = F.pad(only_valid(x, mask), (self.reach // 2, self.reach - self.reach // 2 + missing))
        strided = None if mask is None else mask[:, ::stride]
        return only_valid(super().forward(padded), strided), strided


class SequenceNorm(MaskedBatchNorm):
    """Batch normalization over time whose statistics come from the valid frames alone."""

    def forward(
        self, x: Float[Tensor, "batch channels frames"], mask: Bool[Tensor, "batch frames"] | None = None
    ) -> Float[Tensor, "batch channels frames"]:
        return super().forward(x[..., None], mask)[..., 0]


def forward_lstm(
    lstm: nn.LSTM, sequence: Float[Tensor, "batch frames inputs"], mask: Bool[Tensor, "batch frames"] | None
) -> Float[Tensor, "batch frames features"]:
    """The states of an LSTM of any direction and depth; frames outside the mask come out as zero."""
    if mask is None:
        states: Tensor = lstm(sequence)[0]
        return states
    packed = pack_padded_sequence(sequence, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=sequence.shape[1])[0]


def last_valid(
    sequence: Float[Tensor, "batch frames features"], mask: Bool[Tensor, "batch frames"] | None
) -> Float[Tensor, "batch features"]:
    """The last valid frame.

    >>> last_valid(torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([[True, True, False]])).tolist()
    [[2.0]]
    """
    if mask is None:
        return sequence[:, -1]
    return sequence[torch.arange(len(sequence), device=sequence.device), mask.sum(1) - 1]
