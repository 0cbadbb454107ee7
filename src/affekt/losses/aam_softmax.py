"""Additive angular margin softmax: Deng, Guo, Xue & Zafeiriou 2019, "ArcFace", eq. 3."""

from __future__ import annotations

import math

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from affekt.losses.am_softmax import scale_and_margin_faults
from affekt.losses.base import Head, Loss, check


class AAMSoftmax(Loss):
    """-log of the softmax of s cos(theta_j + m [j = y]): the margin is an angle.

    Args:
        classes: number of classes.
        features: length of the embedding (not used: the scores are the cosines).
        scale: s, above 0. ArcFace uses 64 for thousands of classes; the default suits a few.
        margin: m in radians, in [0, 1).

    Beyond theta = pi - m, cos(theta + m) would rise again and reward a feature for turning away. As in the authors'
    code, cos(theta) - m sin(m) takes its place there, so the logit falls with theta throughout. (Their other choice,
    "easy margin", drops the margin where theta > pi / 2; it is not used.)

    Two classes, theta_y = 0, m = 0.5, s = 1: the loss is log(1 + exp(0 - cos 0.5)).

    >>> import torch
    >>> loss = AAMSoftmax(2, 64, scale=1.0, margin=0.5)
    >>> round(float(loss(torch.tensor([[1.0, 0.0]]), torch.zeros(1, 64), torch.tensor([0]))), 3)
    0.348
    """

    head: Head = "cosine"

    def __init__(self, classes: int, features: int, scale: float = 10.0, margin: float = 0.2) -> None:
        super().__init__(classes, features)
        check(scale_and_margin_faults("aam-softmax", scale, margin))
        self.scale = scale
        self.margin = margin

    def batch_mean(self, scores: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(angular_margin(scores, labels, self.scale, self.margin), labels)

    def logits(self, scores: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
        """s cos theta_j, without the margin, since the label is unknown at test time."""
        return self.scale * super().logits(scores)


def angular_margin(
    cosines: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"], scale: float, margin: float
) -> Float[Tensor, "batch classes"]:
    """s cos(theta_j + m [j = y]), by cos(theta + m) = cos theta cos m - sin theta sin m.

    The sine is clamped away from 0, where the gradient of its square root is infinite.
    """
    target = labels[:, None]
    cosine = cosines.gather(1, target)
    sine = (1 - cosine.square()).clamp_min(1e-7).sqrt()
    moved = cosine * math.cos(margin) - sine * math.sin(margin)
    beyond = cosine < math.cos(math.pi - margin)
    return scale * cosines.scatter(1, target, moved.where(~beyond, cosine - margin * math.sin(margin)))
