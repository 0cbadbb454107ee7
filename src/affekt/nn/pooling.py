"""From a sequence of any length to one vector: the paper's two poolings and those it should be compared with.

A pooling is a module made from the number of features; it says how long its output is (`size`) and ignores the frames
that its mask marks as padding. To add one, write such a module and pass it as `NetworkConfig(pooling=...)`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


def masked_softmax(
    scores: Float[Tensor, "batch frames *heads"], mask: Bool[Tensor, "batch frames"] | None
) -> Float[Tensor, "batch frames *heads"]:
    """Softmax over the valid frames (eq. 4, first line), at least in float32; padding weighs exactly 0.

    >>> masked_softmax(torch.zeros(1, 4), torch.tensor([[True, True, False, False]])).tolist()
    [[0.5, 0.5, 0.0, 0.0]]
    """
    scores = _at_least_float32(scores)
    if mask is not None:
        outside = ~mask.reshape(*mask.shape, *(1,) * (scores.dim() - 2))
        scores = scores.masked_fill(outside, torch.finfo(scores.dtype).min)
    return scores.softmax(1)


def uniform_weights(
    sequence: Float[Tensor, "batch frames features"], mask: Bool[Tensor, "batch frames"] | None
) -> Float[Tensor, "batch frames"]:
    """One over the number of valid frames."""
    return masked_softmax(torch.zeros_like(sequence[..., 0]), mask)


def weighted_mean(
    sequence: Float[Tensor, "batch frames features"], weights: Float[Tensor, "batch frames"]
) -> Float[Tensor, "batch features"]:
    """mu = sum_t a_t h_t (eq. 4, second line)."""
    return (weights[..., None] * sequence).sum(1)


def weighted_deviation(
    sequence: Float[Tensor, "batch frames features"], weights: Float[Tensor, "batch frames"]
) -> Float[Tensor, "batch features"]:
    """sigma = sqrt(sum_t a_t h_t^2 - mu^2) (eq. 5), as the equal sqrt(sum_t a_t (h_t - mu)^2).

    Everything is measured from the first frame, which changes nothing in exact arithmetic; in floating point it makes
    sigma of a constant sequence exactly 0, where eq. 5 as written leaves the square root of a rounding error. At 0 the
    gradient is defined as 0 instead of infinite.

    >>> constant = torch.full((1, 3, 1), 0.3, requires_grad=True)
    >>> sigma = weighted_deviation(constant, torch.full((1, 3), 1 / 3))
    >>> sigma.sum().backward()
    >>> sigma.tolist(), constant.grad.flatten().tolist()
    ([[0.0]], [0.0, 0.0, 0.0])
    """
    differences = _at_least_float32(sequence) - sequence[:, :1].detach()
    centered = differences - weighted_mean(differences, weights)[:, None]
    variance = weighted_mean(centered.square(), weights)
    varies = variance > 0
    return torch.where(varies, torch.where(varies, variance, 1.0).sqrt(), 0.0)


def last_states(
    sequence: Float[Tensor, "batch frames features"], mask: Bool[Tensor, "batch frames"] | None
) -> Float[Tensor, "batch features"]:
    """Final states: the forward half at the last valid frame, the backward half at the first frame."""
    half = sequence.shape[-1] // 2
    if mask is None:
        forward = sequence[:, -1, :half]
    else:
        last = mask.sum(1) - 1
        forward = sequence[torch.arange(len(last), device=last.device), last, :half]
    return torch.cat([forward, sequence[:, 0, half:]], dim=-1)


class AttentionPooling(nn.Module):
    """mu, weighted by e_t = h_t' W q (eq. 4; the multiplicative score "general" of Luong et al. 2015, section 3.1).

    The paper does not say what h_t is compared with: here q is the last states of both directions.

    >>> AttentionPooling(64)(torch.randn(2, 24, 64)).shape
    torch.Size([2, 64])
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.size = features
        self.score = nn.Linear(features, features, bias=False)

    def weights(
        self, sequence: Float[Tensor, "batch frames features"], mask: Bool[Tensor, "batch frames"] | None
    ) -> Float[Tensor, "batch frames"]:
        """Attention of each frame; sums to 1 over the valid frames."""
        key = self.score(last_states(sequence, mask))
        return masked_softmax((sequence * key[:, None]).sum(-1), mask)

    def forward(
        self, sequence: Float[Tensor, "batch frames features"], mask: Bool[Tensor, "batch frames"] | None = None
    ) -> Float[Tensor, "batch pooled"]:
        return weighted_mean(sequence, self.weights(sequence, mask))


class CombinedPooling(AttentionPooling):
    """[mu; sigma] under the same attention: the paper's combined attentive pooling (eq. 5; after Okabe et al. 2018)."""

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.size = 2 * features

    def forward(
        self, sequence: Float[Tensor, "batch frames features"], mask: Bool[Tensor, "batch frames"] | None = None
    ) -> Float[Tensor, "batch pooled"]:
        weights = self.weights(sequence, mask)
        return torch.cat([weighted_mean(sequence, weights), weighted_deviation(sequence, weights)], dim=-1)


class MeanPooling(nn.Module):
    """The mean over the valid frames."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.size = features

    def forward(
        self, sequence: Float[Tensor, "batch frames features"], mask: Bool[Tensor, "batch frames"] | None = None
    ) -> Float[Tensor, "batch pooled"]:
        return weighted_mean(sequence, uniform_weights(sequence, mask))


class MaxPooling(nn.Module):
    """The largest value of each feature over the valid frames."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.size = features

    def forward(
        self, sequence: Float[Tensor, "batch frames features"], mask: Bool[Tensor, "batch frames"] | None = None
    ) -> Float[Tensor, "batch pooled"]:
        if mask is not None:
            sequence = sequence.masked_fill(~mask[..., None], torch.finfo(sequence.dtype).min)
        return sequence.amax(1)


class StatisticsPooling(nn.Module):
    """Mean and standard deviation over the valid frames (Snyder et al. 2018, "X-vectors", section 2.1)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.size = 2 * features

    def forward(
        self, sequence: Float[Tensor, "batch frames features"], mask: Bool[Tensor, "batch frames"] | None = None
    ) -> Float[Tensor, "batch pooled"]:
        weights = uniform_weights(sequence, mask)
        return torch.cat([weighted_mean(sequence, weights), weighted_deviation(sequence, weights)], dim=-1)


class SelfAttentivePooling(nn.Module):
    """Several attentions side by side: A = softmax(W2 tanh(W1 H')), M = A H (Lin et al. 2017, eq. 6 and 7).

    Their penalty on heads that look at the same frames (eq. 8) is not part of it.
    """

    def __init__(self, features: int, heads: int = 4, hidden: int = 64) -> None:
        super().__init__()
        self.size = heads * features
        self.hidden = nn.Linear(features, hidden, bias=False)
        self.heads = nn.Linear(hidden, heads, bias=False)

    def forward(
        self, sequence: Float[Tensor, "batch frames features"], mask: Bool[Tensor, "batch frames"] | None = None
    ) -> Float[Tensor, "batch pooled"]:
        weights = masked_softmax(self.heads(torch.tanh(self.hidden(sequence))), mask)
        return (weights[..., None] * sequence[:, :, None]).sum(1).flatten(1)


POOLINGS: dict[str, Callable[[int], nn.Module]] = {
    "attention": AttentionPooling,
    "combined": CombinedPooling,
    "mean": MeanPooling,
    "max": MaxPooling,
    "statistics": StatisticsPooling,
    "self-attentive": SelfAttentivePooling,
}
"""Poolings by name, each made from the number of features of its input."""


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
