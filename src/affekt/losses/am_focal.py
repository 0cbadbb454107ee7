"""AM-softmax under focal weighting: the integration that Zhou & Liu 2020 leave as future work (section 5)."""

from __future__ import annotations

from torch import Tensor

from affekt.losses.am_softmax import AMSoftmax, additive_margin
from affekt.losses.base import Alpha, alpha_per_class, check
from affekt.losses.focal import focal_terms, gamma_and_alpha_faults


class AMFocal(AMSoftmax):
    """-alpha_t (1 - p_t)^gamma log p_t (eq. 3), p_t being the posterior under the margin (the fraction in eq. 2).

    An utterance therefore counts as easy only once it clears the margin. gamma = 0, alpha = 1 is AM-softmax; m = 0 is
    the focal loss of scaled cosines.

    Args:
        classes: number of classes.
        features: length of the embedding (not used).
        scale: s of AM-softmax, above 0.
        margin: m of AM-softmax, in [0, 1).
        gamma: of the focal loss, at least 0.
        alpha: of the focal loss, one number or one per class.

    >>> import torch
    >>> loss = AMFocal(2, 64, scale=1.0, margin=0.0, gamma=2.0)
    >>> round(float(loss(torch.zeros(1, 2), torch.zeros(1, 64), torch.tensor([0]))), 4)  # log(2) / 4
    0.1733
    """

    alpha: Tensor

    def __init__(
        self,
        classes: int,
        features: int,
        scale: float = 10.0,
        margin: float = 0.4,
        gamma: float = 2.0,
        alpha: Alpha = 1.0,
    ) -> None:
        super().__init__(classes, features, scale, margin)
        check(gamma_and_alpha_faults("am-focal", gamma, alpha, classes))
        self.gamma = gamma
        self.register_buffer("alpha", alpha_per_class(alpha, classes), persistent=False)

    def batch_mean(self, scores: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
        logits = additive_margin(scores, labels, self.scale, self.margin)
        return (self.alpha[labels] * focal_terms(logits, labels, self.gamma)).mean()
