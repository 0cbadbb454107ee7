"""Supervised contrastive loss: Khosla et al. 2020, eq. 2 (L_out)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from affekt.losses.base import ABOVE_0, AT_LEAST_0, Loss, check, number


class SupervisedContrastive(Loss):
    """Cross entropy + weight * L_out on the embeddings of the batch.

    The authors train the encoder first, through a projection that is thrown away, on two views of every example, and
    the classifier afterwards. Here both are trained at once, on one view and on the deep feature itself.

    Args:
        classes: number of classes.
        features: length of the embedding (not used).
        weight: of the contrastive part, at least 0.
        temperature: tau, above 0.
    """

    def __init__(self, classes: int, features: int, weight: float = 1.0, temperature: float = 0.1) -> None:
        super().__init__(classes, features)
        check(
            number("loss supervised-contrastive: weight", weight, AT_LEAST_0)
            + number("loss supervised-contrastive: temperature", temperature, ABOVE_0)
        )
        self.weight = weight
        self.temperature = temperature

    def batch_mean(self, scores: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(scores, labels) + self.weight * contrast(embedding, labels, self.temperature)


def contrast(
    embedding: Float[Tensor, "batch features"], labels: Int[Tensor, " batch"], temperature: float
) -> Float[Tensor, ""]:
    """Mean over the anchors i of -1 / |P(i)| sum_{p in P(i)} log(exp(z_i z_p / tau) / sum_{a != i} exp(z_i z_a / tau)).

    P(i) are the other utterances of the class of i; anchors without any are left out, and without anchors it is 0.

    Two classes of two, each pair alike and opposite to the other: log(exp(1) / (exp(1) + 2 exp(-1))).

    >>> z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    >>> round(float(contrast(z, torch.tensor([0, 0, 1, 1]), temperature=1.0)), 4)
    0.2395
    """
    z = F.normalize(embedding, eps=1e-6)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    similarities = (z @ z.T / temperature).masked_fill(itself, torch.finfo(z.dtype).min)
    positives = (labels[:, None] == labels) & ~itself
    counts = positives.sum(1)
    log_shares = similarities.log_softmax(1).masked_fill(~positives, 0.0).sum(1) / counts.clamp_min(1)
    return -log_shares.sum() / (counts > 0).sum().clamp_min(1)
