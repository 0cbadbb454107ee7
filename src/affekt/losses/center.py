"""Center loss: Wen, Zhang, Li & Qiao 2016, "A Discriminative Feature Learning Approach for Deep Face Recognition"."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affekt.losses.base import ABOVE_0, AT_LEAST_0, Loss, check, number


class Center(Loss):
    """Cross entropy + lambda / 2 |f - c_y|^2 (eq. 5), batch means of both; c_y is the learnt center of the true class.

    Args:
        classes: number of classes.
        features: length of the embedding.
        weight: lambda, at least 0.
        center_speed: the parameters are the centers divided by this. The paper moves its centers by a rule of their own
            (eq. 4, rate 0.5); here the optimizer does. Adam moves any parameter by about its learning rate a step, so
            the centers move `center_speed` times as fast as a weight of the network. They start at 0.

    Two classes with equal logits, |f - 0|^2 = 4, lambda = 1: log(2) + 2.

    >>> loss = Center(2, 4, weight=1.0)
    >>> round(loss(torch.zeros(1, 2), torch.ones(1, 4), torch.tensor([0])).item(), 4)
    2.6931
    """

    def __init__(self, classes: int, features: int, weight: float = 0.003, center_speed: float = 100.0) -> None:
        super().__init__(classes, features)
        check(
            number("loss center: weight", weight, AT_LEAST_0)
            + number("loss center: center_speed", center_speed, ABOVE_0)
        )
        self.weight = weight
        self.center_speed = center_speed
        self.scaled_centers = nn.Parameter(torch.zeros(classes, features))

    @property
    def centers(self) -> Tensor:
        """c, one row per class."""
        return self.center_speed * self.scaled_centers

    def batch_mean(self, scores: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
        distances = (embedding - self.centers[labels]).square().sum(-1)
        return F.cross_entropy(scores, labels) + self.weight / 2 * distances.mean()
