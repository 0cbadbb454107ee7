"""Focal loss: Lin, Goyal, Girshick, He & Dollár 2017, eq. 5; Zhou & Liu 2020, eq. 3."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from affekt.errors import Fault
from affekt.losses.base import AT_LEAST_0, Alpha, Loss, alpha_faults, alpha_per_class, check, number


class Focal(Loss):
    """-alpha_t (1 - p_t)^gamma log p_t, where p_t is the posterior of the true class.

    Args:
        classes: number of classes.
        features: length of the embedding (not used).
        gamma: exponent that down-weights easy utterances, at least 0; 0 is cross-entropy.
        alpha: one number, or one per class.

    In the paper alpha (1, 2 or 4 in Table 2) is one number, which multiplies the whole loss. Adam divides its steps by
    the magnitude of the gradients, so such an alpha has almost no effect, and differences along it should be noise. One
    alpha per class balances classes (:func:`affekt.losses.class_balanced_alpha`).

    Two classes, p_t = 1/2, gamma = 2: the loss is log(2) / 4.

    >>> import torch
    >>> round(float(Focal(2, 64)(torch.zeros(1, 2), torch.zeros(1, 64), torch.tensor([0]))), 4)
    0.1733
    """

    alpha: Tensor

    def __init__(self, classes: int, features: int, gamma: float = 2.0, alpha: Alpha = 1.0) -> None:
        super().__init__(classes, features)
        check(gamma_and_alpha_faults("focal", gamma, alpha, classes))
        self.gamma = gamma
        self.register_buffer("alpha", alpha_per_class(alpha, classes), persistent=False)

    def batch_mean(self, scores: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
        return (self.alpha[labels] * focal_terms(scores, labels, self.gamma)).mean()


def focal_terms(
    logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"], gamma: float
) -> Float[Tensor, " batch"]:
    """-(1 - p_t)^gamma log p_t, the power as exp(gamma log(1 - p_t)).

    log(1 - p_t) is the log of the sum of the other posteriors: exact where p_t rounds to 1, and its gradient is finite
    for every gamma, where that of (1 - p_t)^gamma is not.
    """
    log_posteriors = logits.log_softmax(-1)
    target = labels[:, None]
    log_p = log_posteriors.gather(1, target).squeeze(1)
    log_rest = log_posteriors.scatter(1, target, float("-inf")).logsumexp(-1)
    return -(gamma * log_rest).exp() * log_p


def gamma_and_alpha_faults(loss: str, gamma: object, alpha: object, classes: int) -> list[Fault]:
    """Faults of gamma and alpha."""
    return number(f"loss {loss}: gamma", gamma, AT_LEAST_0) + alpha_faults(f"loss {loss}: alpha", alpha, classes)
