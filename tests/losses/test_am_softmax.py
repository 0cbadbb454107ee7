"""AM-softmax against loops and against pytorch-metric-learning's CosFace, which is the same loss."""

from __future__ import annotations

import math

import pytest
import torch
from pytorch_metric_learning.losses import CosFaceLoss
from torch.nn import functional as F

from affekt.errors import ConfigError
from affekt.losses import AMSoftmax

TABLE2 = [(s, m) for s in (10.0, 30.0) for m in (0.1, 0.2, 0.4)]


def oracle(embedding: list[list[float]], weight: list[list[float]], labels: list[int], s: float, m: float) -> float:
    """Minus eq. 2, in loops."""
    total = 0.0
    for f, y in zip(embedding, labels, strict=True):
        cosines = [sum(a * b for a, b in zip(f, w, strict=True)) / math.hypot(*f) / math.hypot(*w) for w in weight]
        others = sum(math.exp(s * cosine) for j, cosine in enumerate(cosines) if j != y)
        true = math.exp(s * (cosines[y] - m))
        total -= math.log(true / (true + others))
    return total / len(labels)


@pytest.mark.parametrize(("s", "m"), TABLE2)
def test_am_softmax_against_loops(s: float, m: float, batch) -> None:
    expected = oracle(batch.embedding.tolist(), batch.weight.tolist(), batch.labels.tolist(), s, m)
    assert float(AMSoftmax(4, 6, s, m)(batch.cosine, batch.embedding, batch.labels)) == pytest.approx(expected)


@pytest.mark.parametrize(("s", "m"), TABLE2)
def test_am_softmax_is_cosface(s: float, m: float, batch) -> None:
    peer = CosFaceLoss(num_classes=4, embedding_size=6, margin=m, scale=s)
    peer.W.data = batch.weight.T.clone()
    ours = AMSoftmax(4, 6, s, m)(batch.cosine, batch.embedding, batch.labels)
    torch.testing.assert_close(ours, peer(batch.embedding, batch.labels))


def test_without_margin_it_is_cross_entropy_of_scaled_cosines(batch) -> None:
    expected = F.cross_entropy(10 * batch.cosine, batch.labels)
    torch.testing.assert_close(AMSoftmax(4, 6, 10, 0)(batch.cosine, batch.embedding, batch.labels), expected)


def test_the_floor_is_reached_by_the_simplex() -> None:
    """Three classes at 120 degrees: cosines 1, -1/2, -1/2; the docstring's bound with c = 3."""
    scores = torch.full((3, 3), -0.5, dtype=torch.float64).fill_diagonal_(1.0)
    loss = AMSoftmax(3, 2, scale=10, margin=0.4)(scores, torch.zeros(3, 2), torch.arange(3))
    assert float(loss) == pytest.approx(math.log(1 + 2 * math.exp(-10 * (3 / 2 - 0.4))))


def test_all_faults_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        AMSoftmax(4, 6, scale=0, margin="0.4")
    assert [fault.what for fault in caught.value.faults] == ["loss am-softmax: scale", "loss am-softmax: margin"]
