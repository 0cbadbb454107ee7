"""Additive margin softmax: Wang, Cheng, Liu & Liu 2018, eq. 6; Zhou & Liu 2020, eq. 2.

Eq. 2 of the latter is printed without a minus sign. It is minimized here as -log, as eq. 6 of the former.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from affekt.errors import Fault
from affekt.losses.base import ABOVE_0, FRACTION, Head, Loss, check, number


class AMSoftmax(Loss):
    """-log of the softmax of s (cos theta_j - m [j = y]): the true class must win by the margin m.

    Args:
        classes: number of classes.
        features: length of the embedding (not used: the scores are the cosines).
        scale: s, above 0. With c classes the loss cannot fall below log(1 + (c - 1) exp(-s (c / (c - 1) - m))), which
            it reaches with the class weights as far apart as they can be.
        margin: m in [0, 1), in units of the cosine. 0 is cross entropy on scaled cosines.

    The defaults did best in the paper's Table 2. Two classes, the cosines of f are 1 and 0, s = 1, m = 0.5, so the loss
    is log(1 + exp(0 - 0.5)):

    >>> import torch
    >>> loss = AMSoftmax(2, 64, scale=1.0, margin=0.5)
    >>> round(float(loss(torch.tensor([[1.0, 0.0]]), torch.zeros(1, 64), torch.tensor([0]))), 4)
    0.4741
    """

    head: Head = "cosine"

    def __init__(self, classes: int, features: int, scale: float = 10.0, margin: float = 0.4) -> None:
        super().__init__(classes, features)
        check(scale_and_margin_faults("am-softmax", scale, margin))
        self.scale = scale
        self.margin = margin

    def batch_mean(self, scores: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(additive_margin(scores, labels, self.scale, self.margin), labels)

    def logits(self, scores: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
        """s cos theta_j, without the margin, since the label is unknown at test time."""
        return self.scale * super().logits(scores)


def additive_margin(
    cosines: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"], scale: float, margin: float
) -> Float[Tensor, "batch classes"]:
    """s (cos theta_j - m [j = y]), the exponents of eq. 2."""
    target = labels[:, None]
    return scale * cosines.scatter_add(1, target, cosines.new_full(target.shape, -margin))


def scale_and_margin_faults(loss: str, scale: object, margin: object) -> list[Fault]:
    """Faults of s and m."""
    return number(f"loss {loss}: scale", scale, ABOVE_0) + number(f"loss {loss}: margin", margin, FRACTION)
