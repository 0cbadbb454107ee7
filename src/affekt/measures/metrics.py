"""Measures of a classifier: recognition, calibration and the geometry of its features. Arrays in, numbers out.

Recognition is computed from confusion matrices, ``[..., true, predicted]`` with any leading dimensions, so that one
line serves a single fold, a pooled experiment and two thousand bootstrap replicates alike.

A class without a test utterance has no recall. It is left out of UA and, unless it was predicted, of macro-F1, as
scikit-learn does; only :func:`recall` shows it, as NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.metrics import silhouette_score

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Numbers = NDArray[Any]  # integers or floats of any width

SMALLEST_PROBABILITY = 1e-12
"""Lower bound of probabilities in the negative log-likelihood, which would otherwise be infinite."""

TEMPERATURE_RANGE = (0.05, 20.0)
"""Search range of :func:`fit_temperature`: on separable data the likelihood has no maximum and flattens as T falls."""


def confusion_matrix(
    labels: Int[Integers, " utterances"], predicted: Int[Integers, " utterances"], classes: int
) -> Int[Integers, "classes classes"]:
    """Counts of each true class (row) that was predicted as each class (column).

    >>> confusion_matrix(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), classes=2)
    array([[1, 1],
           [0, 2]])
    """
    cells = np.asarray(labels, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def recall(confusion: Num[Numbers, "*batch classes classes"]) -> Float[Floats, "*batch classes"]:
    """Part of each class that was recognized; NaN for a class without an utterance, which has none.

    >>> recall(np.array([[3, 1], [0, 2]]))
    array([0.75, 1.  ])
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return _ratio(hits, np.sum(confusion, -1), empty=np.nan)


def weighted_accuracy(confusion: Num[Numbers, "*batch classes classes"]) -> Float[Floats, "*batch"]:
    """WA: the part of all utterances that was recognized (accuracy); 0 where there is no utterance.

    >>> float(weighted_accuracy(np.array([[3, 1], [0, 1]])))
    0.8
    """
    return _ratio(np.trace(confusion, axis1=-2, axis2=-1), np.sum(confusion, (-2, -1)))


def unweighted_accuracy(confusion: Num[Numbers, "*batch classes classes"]) -> Float[Floats, "*batch"]:
    """UA: mean recall over the classes that have an utterance (balanced accuracy); 0 where none has.

    >>> float(unweighted_accuracy(np.array([[3, 1], [0, 1]])))
    0.875
    >>> float(unweighted_accuracy(np.array([[3, 1], [0, 0]])))
    0.75
    """
    return _mean_where(recall(confusion), np.sum(confusion, -1) > 0)


def macro_f1(confusion: Num[Numbers, "*batch classes classes"]) -> Float[Floats, "*batch"]:
    """Mean over classes of 2 TP / (2 TP + FP + FN), over the classes that were said or predicted.

    >>> float(macro_f1(np.array([[2, 2], [0, 2]])))  # (4 / 6 + 4 / 6) / 2
    0.6666666666666666
    """
    twice_hits = 2 * np.diagonal(confusion, axis1=-2, axis2=-1)
    occurrences = np.sum(confusion, -1) + np.sum(confusion, -2)  # 2 TP + FN + FP
    return _mean_where(_ratio(twice_hits, occurrences), occurrences > 0)


def scores(confusion: Num[Numbers, "classes classes"]) -> dict[str, float]:
    """WA, UA and macro-F1 of one confusion matrix by the names that they have in result files.

    >>> scores(np.array([[2, 0], [1, 1]]))
    {'wa': 0.75, 'ua': 0.75, 'macro_f1': 0.7333333333333334}
    """
    return {name: float(measure(confusion)) for name, measure in MEASURES.items()}


def described(confusion: Int[Integers, "classes classes"], classes: Sequence[str]) -> dict[str, Any]:
    """The entries of a result file: :func:`scores`, the recall of each class by name, and the matrix itself.

    The recall of a class without utterances is None, since JSON has no NaN.

    >>> described(np.array([[3, 1], [0, 0]]), ("angry", "sad"))["recall"]
    {'angry': 0.75, 'sad': None}
    """
    parts = [None if np.isnan(part) else part for part in recall(confusion).tolist()]
    return {**scores(confusion), "recall": dict(zip(classes, parts, strict=True)), "confusion": confusion.tolist()}


MEASURES = {"wa": weighted_accuracy, "ua": unweighted_accuracy, "macro_f1": macro_f1}
"""The three headline measures, each a function of ``[..., true, predicted]``."""


@dataclass(frozen=True, slots=True)
class ReliabilityBins:
    """Utterances grouped by confidence; bin i takes in confidences in (i / bins, (i + 1) / bins].

    Attributes:
        count: utterances in each bin.
        confidence: mean probability of the predicted class; the bin's center where it is empty.
        accuracy: part of the bin that was recognized; 0 where it is empty.
    """

    count: Int[Integers, " bins"]
    confidence: Float[Floats, " bins"]
    accuracy: Float[Floats, " bins"]


def reliability_bins(
    probabilities: Num[Numbers, "utterances classes"], labels: Int[Integers, " utterances"], bins: int = 15
) -> ReliabilityBins:
    """Confidence against accuracy in bins of equal width (Guo et al. 2017, section 2).

    >>> groups = reliability_bins(np.array([[0.9, 0.1], [0.7, 0.3], [0.3, 0.7]]), np.array([0, 0, 0]), bins=2)
    >>> groups.count.tolist(), groups.confidence.round(3).tolist(), groups.accuracy.round(3).tolist()
    ([0, 3], [0.25, 0.767], [0.0, 0.667])
    """
    probabilities = np.asarray(probabilities, np.float64)
    top = probabilities.max(1)
    hits = probabilities.argmax(1) == np.asarray(labels)
    index = np.clip(np.ceil(top * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    center = (np.arange(bins) + 0.5) / bins
    confidence = np.where(count > 0, _ratio(np.bincount(index, top, bins), count), center)
    return ReliabilityBins(count, confidence, _ratio(np.bincount(index, hits, bins), count))


def expected_calibration_error(
    probabilities: Num[Numbers, "utterances classes"], labels: Int[Integers, " utterances"], bins: int = 15
) -> float:
    """ECE: mean of abs(accuracy - confidence) over the bins, weighted by their utterances (Guo et al. 2017, eq. 3).

    >>> expected_calibration_error(np.array([[0.75, 0.25]] * 4), np.array([0, 0, 0, 1]))
    0.0
    """
    groups = reliability_bins(probabilities, labels, bins)
    gaps = np.abs(groups.accuracy - groups.confidence)
    return float(gaps @ groups.count / groups.count.sum())


def negative_log_likelihood(
    probabilities: Num[Numbers, "utterances classes"], labels: Int[Integers, " utterances"]
) -> float:
    """Mean of -log p(true class), in nats.

    >>> round(negative_log_likelihood(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0])), 4)  # log(2) / 2
    0.3466
    """
    true = np.take_along_axis(np.asarray(probabilities, np.float64), np.asarray(labels)[:, None], 1)
    return float(-np.log(np.maximum(true, SMALLEST_PROBABILITY)).mean())


def brier_score(probabilities: Num[Numbers, "utterances classes"], labels: Int[Integers, " utterances"]) -> float:
    """Mean squared distance between the probabilities and the truth, summed over classes: 0 (best) to 2.

    >>> round(brier_score(np.array([[0.8, 0.2], [0.4, 0.6]]), np.array([0, 0])), 6)  # (0.04 + 0.04 + 0.36 + 0.36) / 2
    0.4
    """
    probabilities = np.asarray(probabilities, np.float64)
    truth = np.eye(probabilities.shape[1])[np.asarray(labels)]
    return float(np.square(probabilities - truth).sum(1).mean())


def fit_temperature(logits: Num[Numbers, "utterances classes"], labels: Int[Integers, " utterances"]) -> float:
    """The T that maximizes the likelihood of softmax(logits / T) (Guo et al. 2017, section 4.2).

    The likelihood is concave in 1 / T, so it has one maximum in log T and a bounded scalar search finds it.

    Returns:
        T in :data:`TEMPERATURE_RANGE`: above 1 where the model is too sure of itself.

    >>> logits = np.log([[0.9, 0.1]] * 4)  # says 90 %, is right in 75 %
    >>> round(fit_temperature(logits, np.array([0, 0, 0, 1])), 3)  # log(9) / log(3)
    2.0
    """
    logits = np.asarray(logits, np.float64)
    rows = np.arange(len(logits))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels].mean())

    low, high = np.log(TEMPERATURE_RANGE).tolist()
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x))


def fisher_ratio(embeddings: Num[Numbers, "utterances features"], labels: Int[Integers, " utterances"]) -> float:
    """Separation over compactness: trace of the between-class scatter over that of the within-class scatter.

    J = sum_c n_c |m_c - m|^2 / sum_c sum_{i in c} |f_i - m_c|^2 (Fukunaga 1990, section 10.2). It does not change when
    the features are moved, turned or scaled as a whole. 0 where all features are one point, infinite where each class
    is one.

    >>> fisher_ratio(np.array([[0.0], [2.0], [10.0], [12.0]]), np.array([0, 0, 1, 1]))  # 4 * 25 / 4
    25.0
    """
    embeddings = np.asarray(embeddings, np.float64)
    counts, means, index = _class_means(embeddings, labels)
    between = float(counts @ np.square(means - embeddings.mean(0)).sum(1))
    within = float(np.square(embeddings - means[index]).sum())
    if within == 0:
        return float("inf") if between > 0 else 0.0
    return between / within


def silhouette(embeddings: Num[Numbers, "utterances features"], labels: Int[Integers, " utterances"]) -> float:
    """Mean of (b - a) / max(a, b); a: mean distance to the own class, b: to the nearest other class (Rousseeuw 1987).

    Between -1 and 1, scikit-learn's definition with Euclidean distances; 0 where it is not defined, which is with fewer
    than two classes or with a class per utterance.

    >>> round(silhouette(np.array([[0.0], [1.0], [10.0], [11.0]]), np.array([0, 0, 1, 1])), 4)
    0.8997
    """
    classes = len(np.unique(labels))
    if not 2 <= classes < len(labels):
        return 0.0
    return float(silhouette_score(np.asarray(embeddings, np.float64), np.asarray(labels)))


class Cosines(NamedTuple):
    """Mean cosine over all pairs of utterances: of one class, and of two different classes."""

    within: float
    between: float


def mean_cosines(embeddings: Num[Numbers, "utterances features"], labels: Int[Integers, " utterances"]) -> Cosines:
    """Cosine similarity of features within classes and between classes.

    The sum over the ordered pairs of a set is |sum u|^2 - sum |u|^2, so no pair is visited. 0 where there is none.

    >>> mean_cosines(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.0, 1.0]]), np.array([0, 0, 1, 1]))
    Cosines(within=1.0, between=0.0)
    """
    embeddings = np.asarray(embeddings, np.float64)
    units = _ratio(embeddings, np.linalg.norm(embeddings, axis=1, keepdims=True))
    counts, means, _ = _class_means(units, labels)
    sums = means * counts[:, None]
    own = np.square(units).sum()
    within_sum = np.square(sums).sum() - own
    between_sum = np.square(sums.sum(0)).sum() - np.square(sums).sum()
    within_pairs = (counts * (counts - 1)).sum()
    between_pairs = len(units) * (len(units) - 1) - within_pairs
    return Cosines(float(_ratio(within_sum, within_pairs)), float(_ratio(between_sum, between_pairs)))


def _class_means(values: Floats, labels: Integers) -> tuple[Integers, Floats, Integers]:
    """Size and mean of each class that occurs, and the index of each utterance's class among them."""
    _, index, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    members = np.eye(len(counts))[index]  # [utterances, classes]
    return counts, members.T @ values / counts[:, None], index


def _ratio(numerator: ArrayLike, denominator: ArrayLike, empty: float = 0.0) -> Floats:
    """numerator / denominator, and `empty` where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    ratio = np.full(numerator.shape, empty)
    np.divide(numerator, denominator, out=ratio, where=denominator != 0)
    return ratio


def _mean_where(values: Float[Floats, "*batch classes"], keep: Bool[NDArray[np.bool_], "*batch classes"]) -> Floats:
    return _ratio(np.where(keep, values, 0.0).sum(-1), keep.sum(-1))
