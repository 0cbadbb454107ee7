"""Speaker-adversarial training: Ganin & Lempitsky 2015, "Unsupervised Domain Adaptation by Backpropagation".

A second classifier learns to identify the speaker from the deep feature. Its gradient is reversed before it reaches the
network, which thus learns deep features without information about the speaker. It needs the speakers of the training
part alone, and is discarded after training.
"""

from __future__ import annotations

import math

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN = 64
STEEPNESS = 10.0  # of the schedule, Ganin et al. 2016, section 5.2.2


class Adversary(nn.Module):
    """A classifier of speakers behind a gradient reversal.

    Args:
        features: length of the deep feature.
        speakers: number of speakers.
        weight: weight of the reversed gradient at the end of training.
    """

    def __init__(self, features: int, speakers: int, weight: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, speakers))
        self.weight = weight
        self.strength = 0.0

    def advance(self, progress: float) -> None:
        """Set the strength for the progress of training in [0, 1]; it starts at 0."""
        self.strength = self.weight * (2 / (1 + math.exp(-STEEPNESS * progress)) - 1)

    def forward(self, embedding: Float[Tensor, "batch features"], speakers: Int[Tensor, " batch"]) -> Tensor:
        """Cross-entropy of the speakers, minimized by the adversary and maximized by the network."""
        return F.cross_entropy(self.layers(reverse_gradient(embedding, self.strength)).float(), speakers)


def reverse_gradient(values: Tensor, strength: float) -> Tensor:
    """The same values; their gradient is multiplied by -strength.

    >>> import torch
    >>> values = torch.tensor([3.0], requires_grad=True)
    >>> same = reverse_gradient(values, 0.5)
    >>> same.sum().backward()
    >>> same.item(), values.grad.item()
    (3.0, -0.5)
    """
    return values.detach() - strength * (values - values.detach())
