"""Focal loss against loops; its limits; and the doubt about the paper's alpha."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from affekt.errors import ConfigError
from affekt.losses import Focal
from affekt.losses.focal import focal_terms


def oracle(scores: list[list[float]], labels: list[int], gamma: float, alpha: list[float]) -> float:
    """Eq. 3 in loops."""
    total = 0.0
    for row, label in zip(scores, labels, strict=True):
        p = math.exp(row[label]) / sum(math.exp(score) for score in row)
        total -= alpha[label] * (1 - p) ** gamma * math.log(p)
    return total / len(labels)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [[1.0] * 4, [4.0] * 4, [0.2, 1.0, 3.0, 0.8]])
def test_focal_against_loops(gamma: float, alpha: list[float], batch) -> None:
    expected = oracle(batch.linear.tolist(), batch.labels.tolist(), gamma, alpha)
    actual = Focal(4, 6, gamma, alpha)(batch.linear, batch.embedding, batch.labels)
    assert float(actual) == pytest.approx(expected, rel=1e-6)


def test_gamma_0_is_cross_entropy(batch) -> None:
    expected = F.cross_entropy(batch.linear, batch.labels)
    torch.testing.assert_close(Focal(4, 6, gamma=0)(batch.linear, batch.embedding, batch.labels), expected)


def test_easy_utterances_fade_as_gamma_grows() -> None:
    """At p = 0.9 cross entropy is 100 times the focal loss of gamma 2 (Lin et al. 2017, section 3.2)."""
    logits = torch.tensor([[math.log(9.0), 0.0]])
    ratio = focal_terms(logits, torch.tensor([0]), 0) / focal_terms(logits, torch.tensor([0]), 2)
    assert float(ratio) == pytest.approx(100, rel=1e-4)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 2.0])
def test_gradient_is_finite_where_p_rounds_to_1(gamma: float) -> None:
    """(1 - p)^gamma has an infinite slope at p = 1 for gamma < 1."""
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    focal_terms(logits, torch.tensor([0]), gamma).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def trained(alpha: float, kind: type[torch.optim.Optimizer], inputs: Tensor, labels: Tensor) -> Tensor:
    weight = torch.zeros(4, inputs.shape[1], dtype=inputs.dtype, requires_grad=True)
    optimizer, loss = kind([weight], lr=0.01), Focal(4, 6, gamma=2, alpha=alpha)
    for _ in range(50):
        optimizer.zero_grad()
        loss(inputs @ weight.T, inputs, labels).backward()
        optimizer.step()
    return weight.detach()


def test_alpha_as_a_number_scales_the_loss_and_adam_does_not_notice(batch) -> None:
    data = (batch.embedding, batch.labels)
    one, four = Focal(4, 6, alpha=1.0), Focal(4, 6, alpha=4.0)
    torch.testing.assert_close(four(batch.linear, *data), 4 * one(batch.linear, *data))
    same = trained(1.0, torch.optim.Adam, *data), trained(4.0, torch.optim.Adam, *data)
    torch.testing.assert_close(*same, atol=1e-5, rtol=0)  # all but Adam's epsilon
    assert same[0].norm() > 1
    slow, fast = trained(1.0, torch.optim.SGD, *data), trained(4.0, torch.optim.SGD, *data)
    assert (fast - slow).norm() > 2 * slow.norm()  # plain gradient descent does notice


def test_all_faults_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Focal(4, 6, gamma=-1, alpha=float("nan"))
    assert [fault.what for fault in caught.value.faults] == ["loss focal: gamma", "loss focal: alpha"]
