"""AAM-softmax against loops in angles and against pytorch-metric-learning's ArcFace."""

from __future__ import annotations

import math

import pytest
import torch
from pytorch_metric_learning.losses import ArcFaceLoss
from torch.nn import functional as F

from affekt.losses import AAMSoftmax
from affekt.losses.aam_softmax import angular_margin


@pytest.mark.parametrize(("s", "m"), [(10.0, 0.2), (30.0, 0.5), (1.0, 0.0)])
def test_aam_softmax_against_loops(s: float, m: float, batch) -> None:
    total = 0.0
    for row, y in zip(batch.cosine.tolist(), batch.labels.tolist(), strict=True):
        angles = [math.acos(cosine) for cosine in row]
        assert angles[y] < math.pi - m
        exponentials = [math.exp(s * math.cos(angle + m * (j == y))) for j, angle in enumerate(angles)]
        total -= math.log(exponentials[y] / sum(exponentials))
    actual = AAMSoftmax(4, 6, s, m)(batch.cosine, batch.embedding, batch.labels)
    assert float(actual) == pytest.approx(total / len(batch.labels), rel=1e-6)


def test_aam_softmax_is_arcface_also_beyond_pi_minus_m(batch) -> None:
    embedding = torch.cat([batch.embedding, -batch.weight + 0.1 * batch.embedding[:4]])
    labels = torch.cat([batch.labels, torch.arange(4)])
    cosines = F.normalize(embedding) @ F.normalize(batch.weight).T
    assert (cosines[-4:].diagonal() < math.cos(math.pi - 0.5)).all()
    peer = ArcFaceLoss(num_classes=4, embedding_size=6, margin=math.degrees(0.5), scale=10)
    peer.W.data = batch.weight.T.clone()
    torch.testing.assert_close(AAMSoftmax(4, 6, 10, 0.5)(cosines, embedding, labels), peer(embedding, labels))


def test_the_logit_of_the_true_class_falls_with_the_angle_throughout() -> None:
    cosines = torch.cos(torch.linspace(0, math.pi, 1000, dtype=torch.float64))[:, None].expand(-1, 2)
    logits = angular_margin(cosines, torch.zeros(1000, dtype=torch.long), scale=1.0, margin=0.5)[:, 0]
    assert (logits.diff() < 0).all()
    assert (logits <= cosines[:, 0]).all()


def test_without_margin_it_is_cross_entropy_of_scaled_cosines(batch) -> None:
    expected = F.cross_entropy(10 * batch.cosine, batch.labels)
    torch.testing.assert_close(AAMSoftmax(4, 6, 10, 0)(batch.cosine, batch.embedding, batch.labels), expected)
