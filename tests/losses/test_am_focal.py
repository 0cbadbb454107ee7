"""The integration of AM-softmax and focal weighting: loops, and the losses that it contains."""

from __future__ import annotations

import math

import pytest
import torch

from affekt.errors import ConfigError
from affekt.losses import AMFocal, AMSoftmax, Focal


def test_am_focal_against_loops(batch) -> None:
    s, m, gamma, alpha = 10.0, 0.4, 2.0, [1.0, 2.0, 0.5, 1.5]
    total = 0.0
    for row, y in zip(batch.cosine.tolist(), batch.labels.tolist(), strict=True):
        exponentials = [math.exp(s * (cosine - m * (j == y))) for j, cosine in enumerate(row)]
        p = exponentials[y] / sum(exponentials)
        total -= alpha[y] * (1 - p) ** gamma * math.log(p)
    actual = AMFocal(4, 6, s, m, gamma, alpha)(batch.cosine, batch.embedding, batch.labels)
    assert float(actual) == pytest.approx(total / len(batch.labels), rel=1e-6)


def test_gamma_0_is_am_softmax(batch) -> None:
    arguments = (batch.cosine, batch.embedding, batch.labels)
    torch.testing.assert_close(AMFocal(4, 6, 30, 0.2, gamma=0)(*arguments), AMSoftmax(4, 6, 30, 0.2)(*arguments))


def test_margin_0_is_focal_loss_of_scaled_cosines(batch) -> None:
    ours = AMFocal(4, 6, scale=10, margin=0, gamma=5, alpha=2)(batch.cosine, batch.embedding, batch.labels)
    torch.testing.assert_close(ours, Focal(4, 6, gamma=5, alpha=2)(10 * batch.cosine, batch.embedding, batch.labels))


def test_faults_of_focal_weighting_are_named_after_this_loss() -> None:
    with pytest.raises(ConfigError, match="loss am-focal: gamma: got -2"):
        AMFocal(4, 6, gamma=-2)
