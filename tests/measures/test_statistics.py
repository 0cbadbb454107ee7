"""Intervals and tests against scipy, and against simulations in which the truth is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats

from affekt.measures import statistics
from affekt.measures.statistics import Clusters, cluster_bootstrap, corrected_resampled_t_test, holm, sign_flip_test

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


# ------------------------------------------------------------------------------------------------ intervals over folds


def test_the_interval_holds_what_the_test_does_not_reject() -> None:
    """The p-value of the differences moved by either end of the interval is 5 %."""
    values = np.random.default_rng(0).normal(0.03, 0.02, size=5)
    interval = statistics.corrected_resampled_interval(values, TEST_SIZE, TRAIN_SIZE)
    for end in (interval.low, interval.high):
        assert corrected_resampled_t_test(values - end, TEST_SIZE, TRAIN_SIZE).p_value == pytest.approx(0.05)
    with pytest.raises(ValueError, match="two folds"):
        statistics.corrected_resampled_interval([0.1], TEST_SIZE, TRAIN_SIZE)


def test_the_interval_over_folds_covers_the_truth_as_often_as_it_says() -> None:
    """Of two equal systems; the plain interval, without the correction, covers it far less often."""
    differences = overlapping_folds(np.random.default_rng(0), experiments=1_500, folds=5)
    covered = np.mean(
        [
            interval.low <= 0 <= interval.high
            for interval in (statistics.corrected_resampled_interval(row, TEST_SIZE, TRAIN_SIZE) for row in differences)
        ]
    )
    plain = np.mean(
        [statistics.mean_interval(row).low <= 0 <= statistics.mean_interval(row).high for row in differences]
    )
    assert 0.93 <= covered <= 0.98
    assert plain < 0.88


def test_mean_interval_oracle_scipy() -> None:
    values = np.random.default_rng(0).normal(size=7)
    oracle = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert statistics.mean_interval(values, 0.9) == pytest.approx((values.mean(), *oracle))
    assert statistics.mean_interval([1.0]) is None


# ----------------------------------------------------------------------------------------------- components of variance


def nested(rng: np.random.Generator, between: float, within: float, sizes: list[int]) -> list[list[float]]:
    """Groups of a random-effects model with these standard deviations."""
    return [(rng.normal(0, between) + rng.normal(0, within, size=size)).tolist() for size in sizes]


def test_components_oracle_scipy() -> None:
    """F of scipy's analysis of variance is 1 + size * between / within."""
    groups = nested(np.random.default_rng(0), 2.0, 1.0, [4] * 5)
    parts = statistics.variance_components(groups)
    assert 1 + 4 * parts.between.value / parts.within.value == pytest.approx(scipy.stats.f_oneway(*groups).statistic)
    assert parts.within.value == pytest.approx(np.mean([np.var(group, ddof=1) for group in groups]))


@pytest.mark.parametrize("sizes", [[3, 3, 3, 3, 3], [1, 2, 3, 4, 5]])
def test_components_are_right_on_average_and_their_intervals_cover(sizes: list[int]) -> None:
    rng = np.random.default_rng(0)
    drawn = [statistics.variance_components(nested(rng, 2.0, 1.0, sizes)) for _ in range(1_000)]
    assert np.mean([parts.between.value for parts in drawn]) == pytest.approx(4.0, rel=0.1)
    assert np.mean([parts.within.value for parts in drawn]) == pytest.approx(1.0, rel=0.05)
    assert np.mean([parts.within.low <= 1 <= parts.within.high for parts in drawn]) == pytest.approx(0.95, abs=0.025)
    assert 0.92 <= np.mean([parts.between.low <= 4 <= parts.between.high for parts in drawn]) <= 0.99


def test_what_cannot_be_told_apart_is_not() -> None:
    assert statistics.variance_components([[1.0], [2.0], [5.0]]) == (None, None)
    assert statistics.variance_components([[1.0, 2.0]]) == (None, None)
    flat = statistics.variance_components([[0.0, 2.0], [0.0, 2.0]])  # less between groups than chance: none
    assert flat.between.value == flat.between.low == 0.0
    same = statistics.variance_components([[1.0, 1.0], [2.0, 2.0]])
    assert (same.within.value, same.between.value) == (0.0, 0.5)


def test_the_interval_of_a_rank_correlation_covers_the_truth() -> None:
    """Normal pairs correlated by r have Spearman's 6 / pi asin(r / 2)."""
    rng, r = np.random.default_rng(0), 0.6
    truth, covered = 6 / np.pi * np.arcsin(r / 2), []
    for _ in range(600):
        first, noise = rng.normal(size=(2, 20))
        interval = statistics.rank_correlation_interval(
            first.tolist(), (r * first + (1 - r**2) ** 0.5 * noise).tolist()
        )
        covered.append(interval.low <= truth <= interval.high)
    assert 0.92 <= np.mean(covered) <= 0.98
    assert statistics.rank_correlation_interval([1, 2, 3], [1, 2, 3]) is None
    assert statistics.rank_correlation_interval([1, 2, 3, 4], [1, 1, 1, 1]) is None
    perfect = statistics.rank_correlation_interval([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])
    assert perfect.value == perfect.high == pytest.approx(1.0)
    assert 0 < perfect.low < 0.9
    reverse = statistics.rank_correlation_interval([1, 2, 3, 4, 5], [5, 4, 3, 2, 1])
    assert reverse == pytest.approx((-1, -1, -perfect.low))


def test_means_that_were_taken_out_widen_the_interval() -> None:
    """Pairs of uncorrelated values, centered in groups of two: half the pairs know nothing that the others do not."""
    rng, covered, narrow = np.random.default_rng(0), [], []
    for _ in range(600):
        values = rng.normal(size=(2, 20, 2))
        first, second = (part.ravel().tolist() for part in values - values.mean(2, keepdims=True))
        interval = statistics.rank_correlation_interval(first, second, means_removed=20)
        plain = statistics.rank_correlation_interval(first, second)
        covered.append(interval.low <= 0 <= interval.high)
        narrow.append(plain.low <= 0 <= plain.high)
    assert 0.92 <= np.mean(covered) <= 0.98
    assert np.mean(narrow) < 0.88
