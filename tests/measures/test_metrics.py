"""Measures against scikit-learn and audmetric, against slow loops, and against what they must not depend on."""

from __future__ import annotations

import audmetric
import numpy as np
import pytest
import sklearn.metrics
from beartype import beartype
from jaxtyping import jaxtyped
from scipy.special import softmax

from affekt.measures import metrics

SEEDS = range(5)


def draw(seed: int, utterances: int = 200, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted classes of a mediocre classifier on unbalanced data."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, utterances, p=np.arange(1, classes + 1) / sum(range(classes + 1)))
    guesses = rng.integers(classes, size=utterances)
    return labels, np.where(rng.random(utterances) < 0.5, labels, guesses)


def draw_probabilities(seed: int, utterances: int = 300, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Posteriors of a classifier that is too sure of itself."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=utterances)
    logits = rng.normal(size=(utterances, classes)) + np.eye(classes)[labels]
    return softmax(2 * logits, axis=1), labels


def draw_features(seed: int, utterances: int = 120, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(utterances) % classes
    return rng.normal(size=(utterances, 8)) + 2 * rng.normal(size=(classes, 8))[labels], labels


@pytest.mark.parametrize("seed", SEEDS)
def test_recognition_oracle_sklearn(seed: int) -> None:
    labels, predicted = draw(seed)
    confusion = metrics.confusion_matrix(labels, predicted, 4)
    np.testing.assert_array_equal(confusion, sklearn.metrics.confusion_matrix(labels, predicted))
    assert metrics.weighted_accuracy(confusion) == pytest.approx(sklearn.metrics.accuracy_score(labels, predicted))
    assert metrics.unweighted_accuracy(confusion) == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(labels, predicted)
    )
    assert metrics.macro_f1(confusion) == pytest.approx(sklearn.metrics.f1_score(labels, predicted, average="macro"))
    np.testing.assert_allclose(
        metrics.recall(confusion), sklearn.metrics.recall_score(labels, predicted, average=None), atol=1e-12
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_recognition_oracle_audmetric(seed: int) -> None:
    labels, predicted = draw(seed)
    got = metrics.scores(metrics.confusion_matrix(labels, predicted, 4))
    assert got["wa"] == pytest.approx(audmetric.accuracy(labels, predicted))
    assert got["ua"] == pytest.approx(audmetric.unweighted_average_recall(labels, predicted))
    assert got["macro_f1"] == pytest.approx(audmetric.unweighted_average_fscore(labels, predicted))


def test_class_without_utterance_is_left_out_of_ua() -> None:
    labels, predicted = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])  # class 2 is predicted only, 3 does not occur
    confusion = metrics.confusion_matrix(labels, predicted, 4)
    np.testing.assert_array_equal(metrics.recall(confusion), [0.5, 1.0, np.nan, np.nan])
    assert metrics.unweighted_accuracy(confusion) == 0.75
    assert metrics.macro_f1(confusion) == pytest.approx(
        sklearn.metrics.f1_score(labels, predicted, average="macro", zero_division=0.0)
    )


def test_no_utterance_at_all_is_zero_not_nan() -> None:
    assert metrics.scores(np.zeros((4, 4), int)) == {"wa": 0.0, "ua": 0.0, "macro_f1": 0.0}


def test_stacked_confusions_are_measured_one_by_one() -> None:
    stack = np.stack([metrics.confusion_matrix(*draw(seed), 4) for seed in range(6)]).reshape(2, 3, 4, 4)
    for measure in metrics.MEASURES.values():
        alone = [[measure(confusion) for confusion in row] for row in stack]
        np.testing.assert_array_equal(measure(stack), alone)


def test_measures_do_not_depend_on_the_order_of_classes_or_utterances() -> None:
    labels, predicted = draw(0)
    order, rename = np.random.default_rng(1).permutation(len(labels)), np.array([2, 0, 3, 1])
    confusion = metrics.confusion_matrix(labels, predicted, 4)
    renamed = metrics.confusion_matrix(rename[labels[order]], rename[predicted[order]], 4)
    assert metrics.scores(renamed) == pytest.approx(metrics.scores(confusion))
    np.testing.assert_allclose(metrics.recall(renamed)[rename], metrics.recall(confusion))


@pytest.mark.parametrize("seed", SEEDS)
def test_calibration_oracle(seed: int) -> None:
    probabilities, labels = draw_probabilities(seed)
    assert metrics.negative_log_likelihood(probabilities, labels) == pytest.approx(
        sklearn.metrics.log_loss(labels, probabilities)
    )
    squares = [
        (probabilities[i, c] - (labels[i] == c)) ** 2 for i in range(len(labels)) for c in range(probabilities.shape[1])
    ]
    assert metrics.brier_score(probabilities, labels) == pytest.approx(sum(squares) / len(labels))
    assert metrics.expected_calibration_error(probabilities, labels, bins=10) == pytest.approx(
        slow_calibration_error(probabilities, labels, bins=10)
    )


def slow_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> float:
    """Guo et al. 2017, eq. 3, word by word."""
    error = 0.0
    for low in range(bins):
        members = [i for i, row in enumerate(probabilities) if low / bins < max(row) <= (low + 1) / bins]
        if members:
            accuracy = sum(int(np.argmax(probabilities[i])) == labels[i] for i in members) / len(members)
            confidence = sum(max(probabilities[i]) for i in members) / len(members)
            error += len(members) / len(labels) * abs(accuracy - confidence)
    return error


def test_reliability_bins_hold_every_utterance_once() -> None:
    probabilities, labels = draw_probabilities(0)
    bins = metrics.reliability_bins(probabilities, labels)
    assert bins.count.sum() == len(labels)
    assert bins.count @ bins.accuracy == pytest.approx((probabilities.argmax(1) == labels).sum())
    certain = metrics.reliability_bins(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0, 0]), bins=4)
    assert certain.count.tolist() == [0, 1, 0, 1]  # both edges belong to the bin below


def test_impossible_truth_has_a_finite_likelihood() -> None:
    loss = metrics.negative_log_likelihood(np.array([[1.0, 0.0]]), np.array([1]))
    assert loss == pytest.approx(-np.log(metrics.SMALLEST_PROBABILITY))


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_temperature_is_recovered(true_temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(20_000, 4))
    posteriors = softmax(logits / true_temperature, axis=1)
    labels = (posteriors.cumsum(1) < rng.random((len(logits), 1))).sum(1)
    assert metrics.fit_temperature(logits, labels) == pytest.approx(true_temperature, rel=0.05)


def test_temperature_is_the_best_of_a_grid() -> None:
    probabilities, labels = draw_probabilities(3)
    logits = np.log(probabilities)
    grid = np.geomspace(*metrics.TEMPERATURE_RANGE, 2_000)
    losses = [metrics.negative_log_likelihood(softmax(logits / t, axis=1), labels) for t in grid]
    assert metrics.fit_temperature(logits, labels) == pytest.approx(grid[np.argmin(losses)], rel=0.005)


def test_temperature_of_separable_data_stays_in_range() -> None:
    logits, labels = 5 * np.eye(3), np.arange(3)
    assert metrics.TEMPERATURE_RANGE[0] <= metrics.fit_temperature(logits, labels) < 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_fisher_ratio_oracle(seed: int) -> None:
    """The Calinski-Harabasz index is this ratio with degrees of freedom."""
    features, labels = draw_features(seed)
    index = sklearn.metrics.calinski_harabasz_score(features, labels)
    classes, utterances = 3, len(labels)
    assert metrics.fisher_ratio(features, labels) == pytest.approx(index * (classes - 1) / (utterances - classes))


def test_geometry_does_not_depend_on_scale_and_rotation() -> None:
    features, labels = draw_features(0)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0]
    for measure in (metrics.fisher_ratio, metrics.silhouette, lambda f, c: metrics.mean_cosines(f, c).within):
        assert measure(7 * features @ rotation, labels) == pytest.approx(measure(features, labels))
    assert metrics.fisher_ratio(features + 100, labels) == pytest.approx(metrics.fisher_ratio(features, labels))


def test_fisher_ratio_of_points() -> None:
    points = np.repeat(np.eye(2), 3, axis=0)
    assert metrics.fisher_ratio(points, np.repeat([0, 1], 3)) == float("inf")
    assert metrics.fisher_ratio(np.ones((4, 2)), np.array([0, 0, 1, 1])) == 0.0


def test_silhouette_oracle_and_where_it_is_not_defined() -> None:
    features, labels = draw_features(0)
    assert metrics.silhouette(features, labels) == pytest.approx(sklearn.metrics.silhouette_score(features, labels))
    assert metrics.silhouette(features, np.zeros(len(labels), int)) == 0.0
    assert metrics.silhouette(features[:3], np.arange(3)) == 0.0


@pytest.mark.parametrize("seed", SEEDS)
def test_mean_cosines_oracle(seed: int) -> None:
    features, labels = draw_features(seed, utterances=60)
    cosines = sklearn.metrics.pairwise.cosine_similarity(features)
    same = labels[:, None] == labels
    pairs = ~np.eye(len(labels), dtype=bool)
    got = metrics.mean_cosines(features, labels)
    assert got.within == pytest.approx(cosines[same & pairs].mean())
    assert got.between == pytest.approx(cosines[~same].mean())


def test_mean_cosines_without_pairs_and_with_a_silent_feature() -> None:
    assert metrics.mean_cosines(np.eye(2), np.array([0, 1])) == (0.0, 0.0)
    assert metrics.mean_cosines(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([0, 0])) == (0.0, 0.0)


def test_shapes_are_as_the_signatures_say() -> None:
    checked = jaxtyped(typechecker=beartype)(metrics.unweighted_accuracy)
    assert checked(np.ones((2, 5, 4, 4), int)).shape == (2, 5)
