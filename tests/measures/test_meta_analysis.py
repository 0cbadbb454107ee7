"""Random-effects meta-analysis: oracle statsmodels, coverage by simulation, limits that can be reckoned by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from affekt.measures.meta_analysis import random_effects

EFFECTS, VARIANCES = [0.1, 0.3, 0.35, 0.65, 0.45, 0.15], [0.03, 0.03, 0.05, 0.01, 0.05, 0.02]


@pytest.mark.filterwarnings("ignore:`use_t=True` requires")
@pytest.mark.parametrize("scale", [1.0, 1e-4])
@pytest.mark.parametrize("seed", range(5))
def test_it_is_statsmodels_result(scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    variances = scale * rng.uniform(0.5, 3, 7)
    effects = rng.normal(0, 3 * math.sqrt(scale), 7)
    theirs = combine_effects(effects, variances, method_re="iterated", use_t=True)  # iterates to 1e-5
    ours = random_effects(effects, variances)
    assert theirs.tau2 > 0
    assert ours.tau**2 == pytest.approx(theirs.tau2, rel=2e-5)
    assert (ours.q, ours.effect.value) == pytest.approx((theirs.q, theirs.mean_effect_re), rel=2e-5)
    assert ours.i_squared == pytest.approx(theirs.i2, rel=1e-6)
    assert ours.effect[1:] == pytest.approx(theirs.conf_int()[3], rel=5e-5)
    assert ours.q_p_value == pytest.approx(theirs.test_homogeneity().pvalue, rel=1e-6)
    weights = np.asarray(theirs.weights_re)
    assert ours.weights == pytest.approx(weights / weights.sum(), rel=5e-5)


def test_equal_effects_have_the_fixed_effect_s_error_and_no_heterogeneity() -> None:
    """Effects more alike than their variances allow do not narrow the interval: 0.3 -+ t sqrt(0.04 / 3)."""
    result = random_effects([0.3, 0.3, 0.3], [0.04, 0.04, 0.04])
    reach = stats.t.ppf(0.975, 2) * math.sqrt(0.04 / 3)
    assert result.effect == pytest.approx((0.3, 0.3 - reach, 0.3 + reach))
    assert (result.tau, result.q, result.i_squared, result.q_p_value) == pytest.approx((0, 0, 0, 1), abs=1e-12)
    assert result.prediction is not None
    assert result.prediction.low < result.effect.low


def test_the_p_value_belongs_to_the_interval() -> None:
    """At a level of 1 - p the interval ends at 0."""
    result = random_effects(EFFECTS, VARIANCES)
    ends = random_effects(EFFECTS, VARIANCES, level=1 - result.p_value).effect
    assert ends.low == pytest.approx(0, abs=1e-9)


def test_order_shift_and_unit_change_nothing_else() -> None:
    one = random_effects(EFFECTS, VARIANCES)
    other = random_effects(100 * (1 - np.array(EFFECTS[::-1])), 1e4 * np.array(VARIANCES[::-1]))
    assert other.effect == pytest.approx((100 * (1 - one.effect.value), *(100 * (1 - np.array(one.effect[:0:-1])))))
    assert (other.tau, other.i_squared, other.q) == pytest.approx((100 * one.tau, one.i_squared, one.q))


def test_intervals_cover_what_they_promise() -> None:
    """2,000 analyses of 7 studies whose true effects vary more than their errors: both intervals hold 95 %."""
    rng = np.random.default_rng(0)
    covered, predicted = 0, 0
    for _ in range(2_000):
        variances = rng.uniform(0.5, 2.0, 7)
        effects = rng.normal(rng.normal(1.0, 3.0, 7), np.sqrt(variances))
        result = random_effects(effects, variances)
        assert result.prediction is not None
        covered += result.effect.low <= 1.0 <= result.effect.high
        predicted += result.prediction.low <= rng.normal(1.0, 3.0) <= result.prediction.high
    assert 0.935 <= covered / 2_000 <= 0.98
    assert 0.935 <= predicted / 2_000 <= 0.98


def test_two_studies_predict_nothing() -> None:
    assert random_effects([0.0, 1.0], [0.1, 0.1]).prediction is None


@pytest.mark.parametrize(
    ("effects", "variances", "level", "reason"),
    [
        ([1.0], [1.0], 0.95, "two studies or more"),
        ([1.0, 2.0], [1.0], 0.95, "each with a variance"),
        ([1.0, math.nan], [1.0, 1.0], 0.95, "effects must be finite"),
        ([1.0, 2.0], [1.0, 0.0], 0.95, "above 0"),
        ([1.0, 2.0], [1.0, 1.0], 1.0, "the level"),
    ],
)
def test_impossible_input_is_refused(effects: list[float], variances: list[float], level: float, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        random_effects(effects, variances, level)
