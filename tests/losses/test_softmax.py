"""Cross entropy against loops, with its two options."""

from __future__ import annotations

import math

import pytest
import torch

from affekt.errors import ConfigError
from affekt.losses import Softmax


def oracle(scores: list[list[float]], labels: list[int], smoothing: float, alpha: list[float]) -> float:
    total = 0.0
    for row, label in zip(scores, labels, strict=True):
        normalizer = sum(math.exp(score) for score in row)
        for j, score in enumerate(row):
            target = (1 - smoothing) * (j == label) + smoothing / len(row)
            total -= alpha[label] * target * math.log(math.exp(score) / normalizer)
    return total / len(labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("alpha", [[1.0] * 4, [0.2, 1.0, 3.0, 0.8]])
def test_softmax_against_loops(smoothing: float, alpha: list[float], batch) -> None:
    loss = Softmax(4, 6, smoothing, alpha)
    expected = oracle(batch.linear.tolist(), batch.labels.tolist(), smoothing, alpha)
    assert float(loss(batch.linear, batch.embedding, batch.labels)) == pytest.approx(expected, rel=1e-6)


def test_defaults_are_plain_cross_entropy(batch) -> None:
    expected = torch.nn.functional.cross_entropy(batch.linear, batch.labels)
    torch.testing.assert_close(Softmax(4, 6)(batch.linear, batch.embedding, batch.labels), expected)


def test_smoothing_keeps_the_best_logits_finite() -> None:
    """With e = 0.2 and two classes the minimum is at p = 0.9: logits log(9) apart."""
    scores = torch.tensor([[math.log(9.0), 0.0]], requires_grad=True)
    Softmax(2, 6, label_smoothing=0.2)(scores, torch.zeros(1, 6), torch.tensor([0])).backward()
    torch.testing.assert_close(scores.grad, torch.zeros(1, 2))


def test_all_faults_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Softmax(4, 6, label_smoothing=1.0, alpha=[1.0, 2.0])
    assert str(caught.value).splitlines() == [
        "loss softmax: label_smoothing: got 1.0, expected a number in [0, 1)",
        "loss softmax: alpha: got [1.0, 2.0], expected a number above 0, or one for each of the 4 classes",
    ]
