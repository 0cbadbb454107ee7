"""Effective numbers against the sum that they abbreviate, and their limits."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affekt.errors import ConfigError
from affekt.losses import class_balanced_alpha


@pytest.mark.parametrize("beta", [0.5, 0.9, 0.999])
def test_effective_number_is_the_geometric_sum(beta: float) -> None:
    """(1 - beta^n) / (1 - beta) = 1 + beta + ... + beta^(n - 1) (Cui et al. 2019, eq. 3)."""
    counts = [127, 71, 62, 79]
    weights = [1 / sum(beta**i for i in range(n)) for n in counts]
    expected = [4 * weight / sum(weights) for weight in weights]
    assert class_balanced_alpha(counts, beta) == pytest.approx(expected)


def test_limits_of_beta() -> None:
    assert class_balanced_alpha([10, 20], beta=0.0) == [1.0, 1.0]
    assert class_balanced_alpha([10, 20], beta=1 - 1e-9) == pytest.approx([4 / 3, 2 / 3], rel=1e-6)


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=9), st.floats(0, 1, exclude_max=True))
def test_rarer_classes_never_weigh_less_and_all_sum_to_their_number(counts: list[int], beta: float) -> None:
    alphas = class_balanced_alpha(counts, beta)
    assert sum(alphas) == pytest.approx(len(counts))
    ordered = [alpha for _, alpha in sorted(zip(counts, alphas, strict=True), key=lambda pair: pair[0])]
    assert all(rarer >= commoner * (1 - 1e-9) for rarer, commoner in pairwise(ordered))


def test_all_faults_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        class_balanced_alpha([3, 0, 5, 0], beta=1.0)
    assert [fault.what for fault in caught.value.faults] == [
        "class-balanced alpha: beta",
        "class 1: training utterances",
        "class 3: training utterances",
    ]
