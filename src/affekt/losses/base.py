"""The base class of losses: contract, float32 arithmetic, and checks of the options before training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from affekt.errors import ConfigError, Fault

Head = Literal["linear", "cosine"]
Alpha = float | Sequence[float]


class Loss(nn.Module):
    """Base class of losses; a subclass sets `head` and implements `batch_mean`.

    Attributes:
        head: the scores that it expects: "linear" for logits W f + b, "cosine" for cosines of f and the rows of W.

    Args:
        classes: number of classes.
        features: length of the embedding.
    """

    head: Head = "linear"

    def __init__(self, classes: int, features: int) -> None:
        super().__init__()
        self.classes = classes
        self.features = features

    def forward(
        self,
        scores: Float[Tensor, "batch classes"],
        embedding: Float[Tensor, "batch features"],
        labels: Int[Tensor, " batch"],
    ) -> Float[Tensor, ""]:
        """The mean loss of a batch, computed in float32 or better, also under autocast.

        Args:
            scores: output of the network's head, [batch, classes].
            embedding: pooled feature f, [batch, features].
            labels: class numbers, int64 [batch].

        Returns:
            A scalar with a gradient.
        """
        with torch.autocast(scores.device.type, enabled=False):
            return self.batch_mean(_at_least_float32(scores), _at_least_float32(embedding), labels)

    def batch_mean(self, scores: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch; subclasses implement it.

        Args:
            scores: float32 [batch, classes].
            embedding: float32 [batch, features].
            labels: class numbers, int64 [batch].

        Returns:
            A scalar with a gradient.

        Raises:
            NotImplementedError: in the base class.
        """
        raise NotImplementedError

    def logits(self, scores: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
        """The logits whose softmax gives the class probabilities at test time.

        Args:
            scores: output of the network's head, [batch, classes].

        Returns:
            Logits, [batch, classes].
        """
        return _at_least_float32(scores)


class FunctionLoss(Loss):
    """A function of (scores, embedding, labels) as a loss.

    >>> loss = FunctionLoss(4, 64, lambda scores, embedding, labels: scores.square().mean())
    >>> float(loss(torch.full((2, 4), 3.0), torch.zeros(2, 64), torch.tensor([0, 1])))
    9.0
    """

    def __init__(
        self, classes: int, features: int, function: Callable[[Tensor, Tensor, Tensor], Tensor], head: Head = "linear"
    ) -> None:
        super().__init__(classes, features)
        check(one_of("loss: head", head, ("linear", "cosine")))
        self.function = function
        self.head = head

    def batch_mean(self, scores: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
        return self.function(scores, embedding, labels)


class Bounds(NamedTuple):
    """Valid values of a numeric option, as a predicate and in words."""

    holds: Callable[[float], bool]
    words: str


ABOVE_0 = Bounds(lambda value: value > 0, "a number above 0")
AT_LEAST_0 = Bounds(lambda value: value >= 0, "a number, at least 0")
FRACTION = Bounds(lambda value: 0 <= value < 1, "a number in [0, 1)")


def number(what: str, value: object, allowed: Bounds) -> list[Fault]:
    """Faults of an option that must be a finite number.

    >>> [str(fault) for fault in number("focal: gamma", -1, AT_LEAST_0)]
    ['focal: gamma: got -1, expected a number, at least 0']
    """
    return [] if _is_number(value, allowed) else [Fault(what, got=repr(value), expected=allowed.words)]


def one_of(what: str, value: object, choices: Sequence[str]) -> list[Fault]:
    """Faults of an option that must be one of several names."""
    return [] if value in choices else [Fault(what, got=repr(value), expected=f"one of {', '.join(choices)}")]


def alpha_faults(what: str, alpha: object, classes: int) -> list[Fault]:
    """Faults of a weight that must be one number, or one per class."""
    if _is_number(alpha, ABOVE_0):
        return []
    if isinstance(alpha, Sequence) and len(alpha) == classes and all(_is_number(value, ABOVE_0) for value in alpha):
        return []
    return [Fault(what, got=repr(alpha), expected=f"a number above 0, or one for each of the {classes} classes")]


def alpha_per_class(alpha: Alpha, classes: int) -> Float[Tensor, " classes"]:
    """The weight of each class.

    >>> alpha_per_class(2.0, classes=3).tolist()
    [2.0, 2.0, 2.0]
    """
    values = list(alpha) if isinstance(alpha, Sequence) else [alpha] * classes
    return torch.tensor(values, dtype=torch.float32)


def check(faults: list[Fault]) -> None:
    """Raise all faults at once, if there are any.

    Raises:
        ConfigError: there are.
    """
    if faults:
        raise ConfigError.of(faults)


def _is_number(value: object, allowed: Bounds) -> bool:
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    return is_real and math.isfinite(float(value)) and allowed.holds(float(value))  # type: ignore[arg-type]


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
