"""Class weights by the effective number of examples: Cui, Jia, Lin, Song & Belongie 2019, eq. 2 and section 4."""

from __future__ import annotations

import math
from collections.abc import Sequence

from affekt.errors import Fault
from affekt.losses.base import ABOVE_0, FRACTION, check, number


def class_balanced_alpha(counts: Sequence[int], beta: float = 0.9999) -> list[float]:
    """alpha_j proportional to (1 - beta) / (1 - beta^n_j), summing to the number of classes.

    Made for `alpha` of softmax, focal and am-focal. beta = 0 weighs all classes alike, beta near 1 by 1 / n_j.

    Args:
        counts: n, training utterances of each class.
        beta: in [0, 1).

    Raises:
        ConfigError: a class without utterances, or beta out of range.

    beta = 0.5 and n = 1, 2 give effective numbers 1 and 1.5, weights in the ratio 3 to 2:

    >>> [round(alpha, 12) for alpha in class_balanced_alpha([1, 2], beta=0.5)]
    [1.2, 0.8]
    """
    empty = [Fault(f"class {i}: training utterances", repr(n), "at least 1") for i, n in enumerate(counts) if _empty(n)]
    check(number("class-balanced alpha: beta", beta, FRACTION) + empty)
    weights = [1 / _effective_number(count, beta) for count in counts]
    return [len(weights) * weight / sum(weights) for weight in weights]


def _empty(count: int) -> bool:
    return bool(number("", count, ABOVE_0))


def _effective_number(count: int, beta: float) -> float:
    """(1 - beta^n) / (1 - beta), exact where beta^n is nearly 1."""
    return -math.expm1(count * math.log(beta)) / (1 - beta) if beta > 0 else 1.0
