"""Supervised contrastive loss against loops and against pytorch-metric-learning."""

from __future__ import annotations

import math

import pytest
import torch
from pytorch_metric_learning.losses import SupConLoss
from torch.nn import functional as F

from affekt.losses import SupervisedContrastive
from affekt.losses.supervised_contrastive import contrast


def oracle(z: list[list[float]], labels: list[int], tau: float) -> float:
    """Eq. 2 of Khosla et al., mean over the anchors that have a positive."""
    z = [[value / math.hypot(*row) for value in row] for row in z]
    exponentials = [[math.exp(sum(a * b for a, b in zip(i, j, strict=True)) / tau) for j in z] for i in z]
    terms = []
    for i in range(len(z)):
        positives = [p for p in range(len(z)) if p != i and labels[p] == labels[i]]
        everything = sum(exponentials[i][a] for a in range(len(z)) if a != i)
        if positives:
            terms.append(-sum(math.log(exponentials[i][p] / everything) for p in positives) / len(positives))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0])
def test_contrast_against_loops(tau: float, batch) -> None:
    labels = batch.labels.clone()
    labels[0] = labels[4] = 2
    labels[4] = 0  # the only one of its class: an anchor without a positive
    expected = oracle(batch.embedding.tolist(), labels.tolist(), tau)
    assert float(contrast(batch.embedding, labels, tau)) == pytest.approx(expected)


@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_contrast_is_pytorch_metric_learnings(tau: float, batch) -> None:
    expected = SupConLoss(temperature=tau)(batch.embedding, batch.labels)
    torch.testing.assert_close(contrast(batch.embedding, batch.labels, tau), expected)


def test_cross_entropy_and_weight(batch) -> None:
    loss = SupervisedContrastive(4, 6, weight=0.25, temperature=0.2)
    expected = F.cross_entropy(batch.linear, batch.labels) + 0.25 * contrast(batch.embedding, batch.labels, 0.2)
    torch.testing.assert_close(loss(batch.linear, batch.embedding, batch.labels), expected)


@pytest.mark.parametrize("size", [1, 4])
def test_a_batch_without_positives_costs_nothing(size: int, batch) -> None:
    embedding = batch.embedding[:size].clone().requires_grad_()
    value = contrast(embedding, batch.labels[:size], 0.1)
    value.backward()
    assert value == 0
    assert embedding.grad is not None
    assert embedding.grad.abs().sum() == 0
