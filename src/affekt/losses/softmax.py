"""Softmax cross entropy: Zhou & Liu 2020, eq. 1, with the minus sign that the print lost."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from affekt.losses.base import FRACTION, Alpha, Loss, alpha_faults, alpha_per_class, check, number


class Softmax(Loss):
    """-alpha_y log p_y, where p is the softmax of the logits.

    Args:
        classes: number of classes.
        features: length of the embedding (not used).
        label_smoothing: e in [0, 1); the target is (1 - e) on the true class plus e / classes on every class
            (Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7). 0 is the paper's.
        alpha: weight, one number or one per class. The batch mean divides by the number of utterances, not by the sum
            of their weights.
        log_posteriors: the scores are no logits but log-posteriors, averaged over an utterance's frames. The loss is
            then the mean cross-entropy of its frames: mean_t -log p_t[y] = -(mean_t log p_t)[y].

    Two classes, equal logits, so p = 1/2 and the loss is log 2:

    >>> import torch
    >>> float(Softmax(2, 64)(torch.zeros(1, 2), torch.zeros(1, 64), torch.tensor([0])))
    0.6931471824645996
    """

    alpha: Tensor

    def __init__(
        self,
        classes: int,
        features: int,
        label_smoothing: float = 0.0,
        alpha: Alpha = 1.0,
        log_posteriors: bool = False,
    ) -> None:
        super().__init__(classes, features)
        check(
            number("loss softmax: label_smoothing", label_smoothing, FRACTION)
            + alpha_faults("loss softmax: alpha", alpha, classes)
        )
        self.label_smoothing = label_smoothing
        self.log_posteriors = log_posteriors
        self.register_buffer("alpha", alpha_per_class(alpha, classes), persistent=False)

    def batch_mean(self, scores: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
        if self.log_posteriors:
            truth = F.one_hot(labels, self.classes) * (1 - self.label_smoothing) + self.label_smoothing / self.classes
            return -(self.alpha[labels] * (truth * scores).sum(1)).mean()
        losses = F.cross_entropy(scores, labels, reduction="none", label_smoothing=self.label_smoothing)
        return (self.alpha[labels] * losses).mean()
