"""Speaker-adversarial training: Ganin & Lempitsky 2015, "Unsupervised Domain Adaptation by Backpropagation".

Beside the classifier a second one learns to name the speaker from the deep feature. Its gradient reaches the network
with its sign reversed, so the network learns deep features that do not tell who speaks. It needs the speakers of the
training part alone, and is thrown away after training.
"""

from __future__ import annotations

import math

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN = 64
STEEPNESS = 10.0  # of the schedule, Ganin et al. 2016, section 5.2.2


class Adversary(nn.Module):
    """Names speakers from deep features, and has the network unlearn what it finds.

    Args:
        features: length of the deep feature.
        speakers: how many there are.
        weight: how strongly the network is trained against it, at the end of training.
    """

    def __init__(self, features: int, speakers: int, weight: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, speakers))
        self.weight = weight
        self.strength = 0.0

    def advance(self, progress: float) -> None:
        """Set the strength for a moment of training, in [0, 1]: 0 at first, when the adversary knows nothing yet."""
        self.strength = self.weight * (2 / (1 + math.exp(-STEEPNESS * progress)) - 1)

    def forward(self, embedding: Float[Tensor, "batch features"], speakers: Int[Tensor, " batch"]) -> Tensor:
        """Cross entropy of the speakers; minimized by the adversary, and maximized by what made the embedding."""
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
