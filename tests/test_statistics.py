"""Intervals and tests against scipy, and against simulations in which the truth is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats

from affekt import statistics
from affekt.statistics import Clusters, cluster_bootstrap, corrected_resampled_t_test, holm, sign_flip_test

TEST_SIZE, TRAIN_SIZE = 20, 55  # the paper's split


def overlapping_folds(rng: np.random.Generator, experiments: int, folds: int) -> np.ndarray:
    """Differences [experiments, folds] of two equal systems, correlated by test / (test + train) as folds are."""
    correlation = TEST_SIZE / (TEST_SIZE + TRAIN_SIZE)
    shared = rng.normal(size=(experiments, 1)) * np.sqrt(correlation)
    return shared + rng.normal(size=(experiments, folds)) * np.sqrt(1 - correlation)


def speakers_with_own_accuracy(rng: np.random.Generator, speakers: int, utterances: int) -> np.ndarray:
    """Hits [speakers, utterances] where some speakers are harder than others; 60 % on average."""
    return rng.random((speakers, utterances)) < rng.beta(3, 2, size=(speakers, 1))


def accuracy(totals: np.ndarray) -> np.ndarray:
    return totals[:, 0] / totals[:, 1]


def test_spread_oracle() -> None:
    values = np.random.default_rng(0).normal(size=7)
    assert statistics.spread(values) == pytest.approx((values.mean(), scipy.stats.tstd(values)))


def test_clusters_follow_speakers_not_order() -> None:
    speakers, names = ["b", "", "a", "b", ""], ["1", "2", "3", "4", "5"]
    clusters = Clusters.of(speakers, names)
    assert clusters.count == 4
    assert clusters.index[0] == clusters.index[3]
    assert len({int(clusters.index[i]) for i in (0, 1, 2, 4)}) == 4


def test_one_speaker_falls_back_to_utterances_and_says_so() -> None:
    clusters = Clusters.of(["a"] * 3, ["1", "2", "1"])
    assert clusters.count == 2
    assert clusters.unit == "utterances, since there is one speaker"


def test_bootstrap_oracle_scipy() -> None:
    """With one utterance per cluster it is the ordinary percentile bootstrap."""
    values = np.random.default_rng(0).normal(10, 2, size=50)
    low, high = cluster_bootstrap(
        np.stack([values, np.ones(50)], axis=1), accuracy, seed=1, replicates=20_000, level=0.9
    )
    oracle = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, confidence_level=0.9, rng=np.random.default_rng(2)
    ).confidence_interval
    assert (low, high) == pytest.approx((oracle.low, oracle.high), abs=0.02)


def test_bootstrap_enumeration_oracle() -> None:
    """Three clusters have 27 equally likely draws; their mean is what the replicates' mean must approach."""
    counts = np.array([[1, 4], [3, 4], [8, 10]])
    every = [counts[list(draw)].sum(0) for draw in itertools.product(range(3), repeat=3)]
    exact = np.quantile([hits / total for hits, total in every], [0.1, 0.9])
    np.testing.assert_allclose(cluster_bootstrap(counts, accuracy, seed=0, level=0.8), exact, atol=1e-9)


def test_bootstrap_is_seeded_and_chunks_only_save_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.random.default_rng(0).integers(1, 9, size=(12, 2))
    whole = cluster_bootstrap(counts, accuracy, seed=3)
    np.testing.assert_array_equal(whole, cluster_bootstrap(counts, accuracy, seed=3))
    assert not np.array_equal(whole, cluster_bootstrap(counts, accuracy, seed=4))
    monkeypatch.setattr(statistics, "CHUNK_CELLS", 12 * 500)
    np.testing.assert_allclose(cluster_bootstrap(counts, accuracy, seed=3), whole, atol=0.05)


def test_bootstrap_of_several_tables_and_values() -> None:
    counts = np.random.default_rng(0).integers(1, 9, size=(12, 3, 2))
    bounds = cluster_bootstrap(counts, lambda total: total[..., 0] / total[..., 1], seed=0)
    assert bounds.shape == (2, 3)
    np.testing.assert_array_equal(bounds[:, 1], cluster_bootstrap(counts[:, 1], accuracy, seed=0))


def test_interval_covers_the_truth_by_speakers_but_not_by_utterances() -> None:
    """200 experiments of 40 speakers: 95 % intervals hold the truth about as often as they say, if whole speakers are
    drawn; drawing utterances pretends that there are forty times as many independent witnesses."""
    rng = np.random.default_rng(0)
    covered = {"speakers": 0, "utterances": 0}
    for experiment in range(200):
        hits = speakers_with_own_accuracy(rng, speakers=40, utterances=40)
        by_speaker = np.stack([hits.sum(1), np.full(40, 40)], axis=1)
        by_utterance = np.stack([hits.ravel(), np.ones(1600)], axis=1)
        for unit, counts in (("speakers", by_speaker), ("utterances", by_utterance)):
            low, high = cluster_bootstrap(counts, accuracy, seed=experiment, replicates=250)
            covered[unit] += int(low <= 0.6 <= high)
    assert 0.89 <= covered["speakers"] / 200 <= 0.98
    assert covered["utterances"] / 200 < 0.75


def test_t_test_oracle_scipy() -> None:
    """Without a test part the correction vanishes and the plain paired t-test remains."""
    differences = np.random.default_rng(0).normal(0.02, 0.03, size=10)
    oracle = scipy.stats.ttest_1samp(differences, 0.0)
    assert corrected_resampled_t_test(differences, 0, TRAIN_SIZE) == pytest.approx((oracle.statistic, oracle.pvalue))


def test_t_test_of_equal_differences() -> None:
    assert corrected_resampled_t_test([0.0, 0.0], 1, 2) == (0.0, 1.0)
    assert corrected_resampled_t_test([-0.25, -0.25], 1, 2) == (-np.inf, 0.0)
    with pytest.raises(ValueError, match="two folds"):
        corrected_resampled_t_test([0.1], 1, 2)


def test_corrected_p_values_are_uniform_under_the_null_and_plain_ones_are_not() -> None:
    differences = overlapping_folds(np.random.default_rng(0), experiments=2_000, folds=5)
    corrected = [corrected_resampled_t_test(row, TEST_SIZE, TRAIN_SIZE).p_value for row in differences]
    plain = scipy.stats.ttest_1samp(differences, 0.0, axis=1).pvalue
    assert scipy.stats.kstest(corrected, "uniform").pvalue > 0.01
    assert scipy.stats.kstest(plain, "uniform").pvalue < 1e-6
    assert np.mean(np.array(corrected) < 0.05) == pytest.approx(0.05, abs=0.015)
    assert np.mean(plain < 0.05) > 0.1


def test_sign_flip_exact_oracle_scipy() -> None:
    differences = np.random.default_rng(0).normal(0.5, 1, size=9)
    oracle = scipy.stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip_test(differences, seed=0) == pytest.approx(oracle.pvalue)


def test_sign_flip_random_approaches_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(1).normal(0.4, 1, size=14)
    exact = sign_flip_test(differences, seed=0)
    monkeypatch.setattr(statistics, "EXACT_UNITS", 0)
    assert sign_flip_test(differences, seed=0, draws=40_000) == pytest.approx(exact, abs=0.01)


def test_sign_flip_counts_ties_and_ignores_zeros() -> None:
    assert sign_flip_test([0.1, 0.2, 0.3, 0.0], seed=0) == sign_flip_test([0.3, 0.1, 0.2], seed=0) == 0.25
    assert sign_flip_test([0.1, 0.2, 0.3, *[0.0] * 20], seed=0) == 0.25  # exact, however many units do not differ
    assert sign_flip_test([0.0, 0.0], seed=0) == 1.0
    assert sign_flip_test([], seed=0) == 1.0


def test_sign_flip_of_many_tests_is_that_of_each() -> None:
    for units in (8, 40):
        table = np.random.default_rng(units).normal(0.2, 1, size=(units, 3, 2))
        alone = [[sign_flip_test(table[:, i, j], seed=1) for j in range(2)] for i in range(3)]
        np.testing.assert_array_equal(sign_flip_test(table, seed=1), alone)


def test_sign_flip_never_reports_zero() -> None:
    assert sign_flip_test(np.ones(40), seed=0, draws=99) == 0.01


@pytest.mark.parametrize("units", [10, 30])
def test_sign_flip_p_values_are_uniform_under_the_null(units: int) -> None:
    differences = np.random.default_rng(units).normal(size=(400, units))
    p_values = [float(sign_flip_test(row, seed=index, draws=500)) for index, row in enumerate(differences)]
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 0.01


def test_holm_keeps_order_and_never_rejects_more_than_one_by_one() -> None:
    p_values = np.random.default_rng(0).random(8) ** 3
    adjusted = np.array(holm(p_values))
    assert np.all(np.diff(adjusted[np.argsort(p_values)]) >= 0)
    assert np.all(adjusted >= p_values)
    assert adjusted.min() == pytest.approx(min(1, 8 * p_values.min()))
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_step_down_oracle() -> None:
    """Adjusted p <= level exactly where the step-down procedure rejects at that level."""
    p_values = np.random.default_rng(5).random(6) ** 4
    for level in np.linspace(0.01, 0.99, 50):
        rejected = set()
        for step, index in enumerate(np.argsort(p_values)):
            if p_values[index] > level / (len(p_values) - step):
                break
            rejected.add(int(index))
        assert rejected == {i for i, p in enumerate(holm(p_values)) if p <= level}


def test_holm_bounds_false_claims_over_a_family() -> None:
    families = np.random.default_rng(0).random((2_000, 13))
    false_claims = np.mean([min(holm(row)) < 0.05 for row in families])
    assert false_claims == pytest.approx(0.05, abs=0.015)
    assert np.mean(families.min(1) < 0.05) > 0.4
