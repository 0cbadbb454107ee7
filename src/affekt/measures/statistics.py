"""Uncertainty of results: spread, bootstrap intervals over speakers, paired tests. Arrays in, numbers out.

Two paired tests answer two questions. :func:`corrected_resampled_t_test` is over folds: would the system win again with
other splits and trainings? :func:`sign_flip_test` is over speakers: would these trained models win on other speakers? A
claim about a method needs the first, a claim about a model the second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2, norm, spearmanr
from scipy.stats import f as fisher
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
    """Groups of utterances that are resampled together, since utterances of one speaker are not independent.

    Attributes:
        index: the cluster of each utterance.
        count: number of clusters.
        unit: description of a cluster for readers of a result.
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
    for size in _chunk_sizes(replicates, len(counts)):
        draws = rng.integers(len(counts), size=(size, len(counts))) + np.arange(size)[:, None] * len(counts)
        times = np.bincount(draws.ravel(), minlength=size * len(counts)).reshape(size, -1)
        totals = times.astype(np.float64) @ cells  # whole numbers, so no order of summation can change them
        values.append(statistic(totals.reshape(size, *np.shape(counts)[1:])))
    tails = ((1 - level) / 2, (1 + level) / 2)
    return np.asarray(np.quantile(np.concatenate(values), tails, axis=0))


class Interval(NamedTuple):
    """An estimate and the ends of its interval."""

    value: float
    low: float
    high: float


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
    error = corrected_resampled_error(array, test_size, train_size)
    if error == 0:
        return TTest(0.0, 1.0) if array[0] == 0 else TTest(float(np.copysign(np.inf, array[0])), 0.0)
    statistic = float(array.mean() / error)
    return TTest(statistic, float(2 * student_t.sf(abs(statistic), len(array) - 1)))


def corrected_resampled_interval(
    differences: Num[ArrayLike, " folds"], test_size: float, train_size: float, level: float = 0.95
) -> Interval:
    """The mean difference and the interval that inverts :func:`corrected_resampled_t_test`: mean -+ t error.

    Raises:
        ValueError: fewer than two folds.

    >>> interval = corrected_resampled_interval([0.02, 0.04, 0.06], test_size=20, train_size=55)
    >>> [round(end, 4) for end in interval]  # 0.04 -+ 4.3027 * 0.0167
    [0.04, -0.0318, 0.1118]
    """
    array = np.asarray(differences, np.float64)
    reach = student_t.ppf((1 + level) / 2, len(array) - 1) * corrected_resampled_error(array, test_size, train_size)
    return Interval(float(array.mean()), float(array.mean() - reach), float(array.mean() + reach))


def corrected_resampled_error(differences: Num[ArrayLike, " folds"], test_size: float, train_size: float) -> float:
    """The standard error of :func:`corrected_resampled_t_test`.

    Raises:
        ValueError: fewer than two folds.

    >>> round(corrected_resampled_error([0.02, 0.04, 0.06], test_size=20, train_size=55), 4)
    0.0167
    """
    array = np.asarray(differences, np.float64)
    if len(array) < 2:
        raise ValueError("a t-test needs two folds or more")
    # Derivation. Differences of folds whose training parts overlap have a correlation rho, so the variance of their
    # mean is sigma^2 (1 / n + (n - 1) / n rho), while E[s^2] = sigma^2 (1 - rho). Put together, the variance is
    # E[s^2] (1 / n + rho / (1 - rho)). Nadeau & Bengio take rho = n_test / (n_test + n_train), for which
    # rho / (1 - rho) = n_test / n_train.
    return float(np.sqrt((1 / len(array) + test_size / train_size) * array.var(ddof=1)))


def mean_interval(values: Num[ArrayLike, " values"], level: float = 0.95) -> Interval | None:
    """Mean of independent values with Student's interval; None for fewer than two.

    >>> [round(end, 3) for end in mean_interval([1.0, 2.0, 6.0])]  # 3 -+ 4.3027 * 2.6458 / sqrt(3)
    [3.0, -3.572, 9.572]
    """
    array = np.asarray(values, np.float64)
    if len(array) < 2:
        return None
    reach = student_t.ppf((1 + level) / 2, len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array))
    return Interval(float(array.mean()), float(array.mean() - reach), float(array.mean() + reach))


class Components(NamedTuple):
    """Variances of a one-way random-effects model; `within` is None where no group has two values."""

    between: Interval | None
    within: Interval | None


def variance_components(groups: Sequence[Sequence[float]], level: float = 0.95) -> Components:
    """Variance components between and within groups: y_ij = m + a_i + e_ij.

    The estimates are those of the analysis of variance (Searle, Casella & McCulloch 1992, section 3.6), unbiased also
    for groups of different sizes; a negative one is shown as 0. The interval within is exact for normal errors, the
    one between is that of Williams (1962) and Tukey, which covers a little more often than it says.

    Where no group has two values the two cannot be told apart, and neither is given.

    Args:
        groups: the values of each group, say the UA of every seed on each fold.
        level: of the intervals.

    >>> between, within = variance_components([[1.0, 3.0], [5.0, 7.0]])  # mean squares 16 and 2, two values a group
    >>> between.value, within.value
    (7.0, 2.0)
    >>> variance_components([[1.0], [5.0]])
    Components(between=None, within=None)
    """
    sizes = np.array([len(group) for group in groups])
    rest = int(sizes.sum()) - len(sizes)
    if len(sizes) < 2 or rest < 1:
        return Components(None, None)
    means = np.array([np.mean(group) for group in groups])
    residual = sum(float(np.square(np.asarray(group) - mean).sum()) for group, mean in zip(groups, means, strict=True))
    overall = float((sizes * means).sum() / sizes.sum())
    explained = float((sizes * np.square(means - overall)).sum())
    size = (sizes.sum() - np.square(sizes).sum() / sizes.sum()) / (len(sizes) - 1)
    tails = ((1 + level) / 2, (1 - level) / 2)
    within = Interval(residual / rest, *(residual / float(chi2.ppf(tail, rest)) for tail in tails))
    return Components(_between(explained, len(sizes) - 1, float(size), within.value, rest, tails), within)


def _between(
    explained: float, degrees: int, size: float, within: float, rest: int, tails: tuple[float, float]
) -> Interval:
    """The variance of group means in excess of that from the spread within groups of this (mean) size."""
    value = (explained / degrees - within) / size
    ends = []
    for tail in tails:
        surplus = explained - degrees * within * float(fisher.ppf(tail, degrees, rest))
        ends.append(surplus / (size * float(chi2.ppf(tail, degrees))))
    return Interval(*(max(0.0, each) for each in (value, *ends)))


def sign_flip_test(
    differences: Num[ArrayLike, " units *tests"], *, seed: int, draws: int = 10_000
) -> Float[Floats, "*tests"]:
    """Paired permutation test: two-sided p-value of |sum of differences| under random signs.

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
    for size in _chunk_sizes(draws, len(array)):
        signs = 1.0 - 2.0 * rng.integers(2, size=(size, len(array)), dtype=np.int8)
        extreme += np.sum(np.abs(signs @ array) >= reached, axis=0)
    return ((1 + extreme) / (1 + draws)).reshape(shaped.shape[1:])


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) correction for multiple tests, valid under any dependence.

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


def rank_correlation_interval(
    first: Sequence[float], second: Sequence[float], level: float = 0.95, means_removed: int = 0
) -> Interval | None:
    """Spearman's rank correlation with its interval on Fisher's z scale, error sqrt((1 + r^2 / 2) / (n - 3)).

    (Bonett & Wright 2000, eq. 4.) Each group whose mean was taken out before costs a pair. Since a correlation of 1 has
    an infinite z, it counts as 1 - 1 / n^2 for the other end of its interval.

    Returns:
        None for fewer than four pairs, or where one side is constant.

    >>> interval = rank_correlation_interval([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 6, 5])
    >>> [round(end, 3) for end in interval]
    [0.943, 0.383, 0.996]
    """
    value, pairs = rank_correlation(first, second), len(first) - means_removed
    if value is None or pairs < 4:
        return None
    largest = 1 - 1 / pairs**2
    reach = float(norm.ppf((1 + level) / 2)) * math.sqrt((1 + value**2 / 2) / (pairs - 3))
    center = math.atanh(min(max(value, -largest), largest))
    return Interval(value, min(value, math.tanh(center - reach)), max(value, math.tanh(center + reach)))


def _chunk_sizes(rows: int, columns: int) -> Iterator[int]:
    """Sizes that add up to `rows`, each of at most CHUNK_CELLS numbers (and at least one row)."""
    size = max(1, CHUNK_CELLS // max(columns, 1))
    while rows > 0:
        yield min(size, rows)
        rows -= size
