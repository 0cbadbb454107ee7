"""Emotion diarization: worked examples, and an oracle that counts milliseconds."""

from __future__ import annotations

import numpy as np
import pytest

from affekt.measures.diarization import Span, diarization_seconds, total


def spans(rng: np.random.Generator) -> list[Span]:
    edges = np.sort(rng.choice(1_000, 8, replace=False)) / 100
    return [(a, b, "abc"[rng.integers(3)]) for a, b in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)]


def test_against_counting() -> None:
    """Oracle: the label of every hundredth of a second."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        reference, found = spans(rng), spans(rng)
        lines = []
        for part in (reference, found):
            line = np.full(1_000, "-")
            for start, end, label in part:
                line[round(100 * start) : round(100 * end)] = label
            lines.append(line)
        true, said = lines
        result = diarization_seconds(reference, found, 10.0)
        assert result.right == pytest.approx(((true == said) & (true != "-")).mean() * 10)
        assert result.missed == pytest.approx(((true != "-") & (said == "-")).mean() * 10)
        assert result.false_alarm == pytest.approx(((true == "-") & (said != "-")).mean() * 10)
        assert result.error_rate == pytest.approx((true != said).mean())


def test_the_same_is_right_and_nothing_is_missed() -> None:
    reference: list[Span] = [(0.0, 1.5, "sad"), (2.0, 4.0, "angry")]
    perfect = diarization_seconds(reference, reference, 5.0)
    nothing = diarization_seconds(reference, [], 5.0)
    assert (perfect.error_rate, perfect.accuracy) == (0, 1)
    assert (nothing.error_rate, nothing.accuracy) == (0.7, 0)
    assert total([perfect, nothing]).accuracy == 0.5
