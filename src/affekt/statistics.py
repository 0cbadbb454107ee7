"""How sure a result is: spread, bootstrap intervals over speakers, paired tests. Arrays in, numbers out.

Two paired tests answer two questions. :func:`corrected_resampled_t_test` looks at folds: would the system win again on
other splits and trainings? :func:`sign_flip_test` looks at speakers: would the very models that were trained win on
other speakers? A claim about a method needs the first, a claim about a model the second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr
from scipy.stats import t as student_t

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Numbers = NDArray[Any]  # integers or floats of any width

EXACT_UNITS = 16
"""Up to this many units the sign-flip test visits all 2^units assignments."""

CHUNK_CELLS = 1 << 21
"""Resampling goes by chunks of about this many numbers, so that memory does not grow with the corpus."""


class Spread(NamedTuple):
    """Mean and sample standard deviation; None for the deviation of a single value."""

    mean: float
    sd: float | None


def spread(values: Num[ArrayLike, " values"]) -> Spread:
    """Mean and standard deviation with n - 1 in the denominator.

    >>> spread([1.0, 2.0, 6.0])
    Spread(mean=3.0, sd=2.6457513110645907)
    >>> spread([0.5]).sd is None
    True
    """
    array = np.asarray(values, np.float64)
    return Spread(float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None)


@dataclass(frozen=True, slots=True)
class Clusters:
    """Groups of utterances that are drawn together, because what one speaker says is not independent.

    Attributes:
        index: the cluster of each utterance.
        count: how many clusters there are.
        unit: what a cluster is, in words for the reader of a result.
    """

    index: Int[Integers, " utterances"]
    count: int
    unit: str

    @classmethod
    def of(cls, speakers: Sequence[str], utterances: Sequence[str]) -> Clusters:
        """One cluster per speaker; an utterance whose speaker is unknown (empty) is a cluster of its own.

        With a single speaker there is nothing to resample but utterances, and the unit says so.

        >>> Clusters.of(["a", "a", "b"], ["1", "2", "3"])
        Clusters(index=array([0, 0, 1]), count=2, unit='speakers')
        >>> Clusters.of(["a", "a", ""], ["1", "2", "3"]).unit
        'speakers, and single utterances where the speaker is unknown'
        >>> Clusters.of(["", ""], ["1", "2"])
        Clusters(index=array([0, 1]), count=2, unit='utterances, since no speaker is known')
        """
        known = {speaker for speaker in speakers if speaker}
        if len(known) == 1 and all(speakers):
            keys, unit = [("", name) for name in utterances], "utterances, since there is one speaker"
        else:
            keys = [(speaker, "" if speaker else name) for speaker, name in zip(speakers, utterances, strict=True)]
            unit = "speakers" if all(speakers) else "speakers, and single utterances where the speaker is unknown"
            unit = unit if known else "utterances, since no speaker is known"
        position = {key: index for index, key in enumerate(sorted(set(keys)))}
        return cls(np.array([position[key] for key in keys], np.int64), len(position), unit)


def cluster_bootstrap(
    counts: Num[Numbers, " clusters *table"],
    statistic: Callable[[Num[Numbers, " replicates *table"]], Float[Floats, " replicates *values"]],
    *,
    seed: int,
    replicates: int = 2_000,
    level: float = 0.95,
) -> Float[Floats, " 2 *values"]:
    """Percentile interval of a statistic of summed counts, by drawing whole clusters (Davison & Hinkley 1997).

    Each replicate draws as many clusters as there are, with replacement, adds up their counts (say confusion matrices)
    and computes the statistic. The interval lies between the (1 - level) / 2 and (1 + level) / 2 quantiles. With few
    clusters, ten say, such an interval is somewhat too narrow.

    Returns:
        Lower and upper bounds, each shaped as the statistic of one replicate.

    >>> hits_of_all = np.array([[9, 10], [5, 10], [8, 10], [6, 10]])  # four speakers
    >>> cluster_bootstrap(hits_of_all, lambda total: total[:, 0] / total[:, 1], seed=0).tolist()
    [0.55, 0.85]
    """
    rng = np.random.default_rng(seed)
    cells = np.asarray(counts, np.float64).reshape(len(counts), -1)
    values = []
    for size in _chunks(replicates, len(counts)):
        draws = rng.integers(len(counts), size=(size, len(counts))) + np.arange(size)[:, None] * len(counts)
        times = np.bincount(draws.ravel(), minlength=size * len(counts)).reshape(size, -1)
        totals = times.astype(np.float64) @ cells  # whole numbers, so no order of summation can change them
        values.append(statistic(totals.reshape(size, *np.shape(counts)[1:])))
    tails = ((1 - level) / 2, (1 + level) / 2)
    return np.asarray(np.quantile(np.concatenate(values), tails, axis=0))


class TTest(NamedTuple):
    """A t statistic and its two-sided p-value."""

    statistic: float
    p_value: float


def corrected_resampled_t_test(differences: Num[ArrayLike, " folds"], test_size: float, train_size: float) -> TTest:
    """Paired t-test over folds whose training parts overlap (Nadeau & Bengio 2003, section 3).

    t = mean / sqrt((1 / n + n_test / n_train) s^2) with n - 1 degrees of freedom. The plain t-test has 1 / n alone: it
    takes folds that share most of their training data for independent ones and finds differences where there are none.

    Args:
        differences: of two systems, one per fold; seeds of a fold are averaged first, since they share the split.
        test_size, train_size: utterances in the test and the training part of a fold.

    Returns:
        p = 1 where all differences are zero, and p = 0, t infinite, where they are equal but not zero.

    Raises:
        ValueError: fewer than two folds.

    >>> test = corrected_resampled_t_test([0.02, 0.04, 0.06], test_size=20, train_size=55)
    >>> round(test.statistic, 3)  # 0.04 / sqrt((1 / 3 + 20 / 55) * 0.02^2)
    2.396
    >>> round(test.p_value, 3)
    0.139
    """
    array = np.asarray(differences, np.float64)
    if len(array) < 2:
        raise ValueError("a t-test needs two folds or more")
    error = np.sqrt((1 / len(array) + test_size / train_size) * array.var(ddof=1))
    if error == 0:
        return TTest(0.0, 1.0) if array[0] == 0 else TTest(float(np.copysign(np.inf, array[0])), 0.0)
    statistic = float(array.mean() / error)
    return TTest(statistic, float(2 * student_t.sf(abs(statistic), len(array) - 1)))


def sign_flip_test(
    differences: Num[ArrayLike, " units *tests"], *, seed: int, draws: int = 10_000
) -> Float[Floats, "*tests"]:
    """Paired permutation test: two-sided p-value of |sum of differences| if each might have had the other sign.

    Exact over all 2^n assignments for n <= 16 units with a difference; else from random assignments, the observed one
    counted among them: p = (1 + b) / (1 + draws), never zero (Phipson & Smyth 2010).

    Exchanging the predictions of two systems for all utterances of a speaker changes the sign of that speaker's share
    in the difference of WA or UA, so on such shares this is the permutation of systems within speakers.

    >>> float(sign_flip_test([1.0, 2.0, 3.0], seed=0))  # only +++ and --- reach 6: 2 of 8
    0.25
    """
    shaped = np.asarray(differences, np.float64)
    array = shaped.reshape(len(shaped), math.prod(shaped.shape[1:]))
    array = array[np.any(array != 0, axis=1)]
    reached = np.abs(array.sum(0)) - 1e-9 * np.abs(array).sum(0)  # equal sums in another order count as reached
    if len(array) <= EXACT_UNITS:
        negative = (np.arange(1 << len(array))[:, None] >> np.arange(len(array))) & 1
        return np.asarray(np.mean(np.abs((1.0 - 2.0 * negative) @ array) >= reached, axis=0)).reshape(shaped.shape[1:])
    rng = np.random.default_rng(seed)
    extreme = np.zeros(array.shape[1])
    for size in _chunks(draws, len(array)):
        signs = 1.0 - 2.0 * rng.integers(2, size=(size, len(array)), dtype=np.int8)
        extreme += np.sum(np.abs(signs @ array) >= reached, axis=0)
    return ((1 + extreme) / (1 + draws)).reshape(shaped.shape[1:])


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) correction: p-values that may all be held against one level, whatever their dependence.

    Sorted upwards, p_(i) becomes max over j <= i of min(1, (m - j + 1) p_(j)); the order given is kept.

    >>> holm([0.04, 0.01, 0.03])  # 0.01 * 3; 0.03 * 2; 0.04 * 1, not below the one before
    [0.06, 0.03, 0.06]
    """
    array = np.asarray(p_values, np.float64)
    order = np.argsort(array, kind="stable")
    stepped = np.minimum(1.0, array[order] * np.arange(len(array), 0, -1))
    adjusted = np.empty_like(array)
    adjusted[order] = np.maximum.accumulate(stepped)
    return [float(value) for value in adjusted]


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation; None for fewer than three pairs, or where one side is constant.

    >>> rank_correlation([0.1, 0.2, 0.9], [1.0, 5.0, 3.0])
    0.5
    >>> rank_correlation([0.1, 0.2], [1.0, 5.0]) is None
    True
    """
    if len(first) < 3 or len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return float(spearmanr(first, second).statistic)


def _chunks(rows: int, columns: int) -> Iterator[int]:
    """Sizes that add up to `rows`, each of at most CHUNK_CELLS numbers (and at least one row)."""
    size = max(1, CHUNK_CELLS // max(columns, 1))
    while rows > 0:
        yield min(size, rows)
        rows -= size
