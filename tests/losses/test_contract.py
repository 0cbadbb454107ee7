"""What every loss promises, whatever its formula."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from affekt.losses import LOSSES, Loss, make_loss

CLASSES, FEATURES = 4, 6
VARIANTS = [
    *((name, {}) for name in LOSSES),
    ("softmax", {"label_smoothing": 0.1, "alpha": [1.0, 2.0, 0.5, 1.0]}),
    ("focal", {"gamma": 0.5, "alpha": [1.0, 2.0, 0.5, 1.0]}),
    ("focal", {"gamma": 5.0}),
    ("am-softmax", {"scale": 30.0, "margin": 0.1}),
    ("am-focal", {"scale": 30.0, "gamma": 0.5}),
    ("aam-softmax", {"scale": 30.0, "margin": 0.5}),
    ("center", {"weight": 1.0}),
]


def make(name: str, options: dict) -> Loss:
    return make_loss(name, CLASSES, FEATURES, **options)


def scores_for(loss: Loss, batch) -> Tensor:
    return batch.cosine if loss.head == "cosine" else batch.linear


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_gradients_numerically(name: str, options: dict, batch) -> None:
    loss = make(name, options).double()
    scores, embedding = scores_for(loss, batch).clone().requires_grad_(), batch.embedding.clone().requires_grad_()

    def mean(scores: Tensor, embedding: Tensor, *parameters: Tensor) -> Tensor:
        return loss(scores, embedding, batch.labels)

    assert torch.autograd.gradcheck(mean, (scores, embedding, *loss.parameters()))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_a_step_downhill_favors_the_true_class(name: str, options: dict, batch) -> None:
    """Eq. 1 and 2 are printed without their minus sign; minimized as printed, they would push the true class away."""
    loss = make(name, options)
    scores = (0.1 * scores_for(loss, batch)).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(scores, batch.embedding, batch.labels), scores)
    true = torch.nn.functional.one_hot(batch.labels, CLASSES).bool()
    assert (gradient[true] < 0).all()
    assert (gradient[~true] > 0).all()


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_order_within_the_batch_does_not_matter(name: str, options: dict, batch) -> None:
    loss, order = make(name, options), torch.tensor([3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
    scores = scores_for(loss, batch)
    straight = loss(scores, batch.embedding, batch.labels)
    torch.testing.assert_close(loss(scores[order], batch.embedding[order], batch.labels[order]), straight)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_bfloat16_autocast_computes_in_float32(name: str, options: dict, batch) -> None:
    loss = make(name, options)
    scores, embedding = scores_for(loss, batch).bfloat16(), batch.embedding.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = loss(scores, embedding, batch.labels)
    assert rough.dtype == loss.logits(scores).dtype == torch.float32
    torch.testing.assert_close(rough, loss(scores.float(), embedding.float(), batch.labels), atol=0, rtol=0)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_extremes_stay_finite(name: str, options: dict, data: st.DataObject) -> None:
    loss = make(name, options)
    limit = 1.0 if loss.head == "cosine" else 2.0**100
    value = st.floats(-limit, limit, width=32) | st.sampled_from([-limit, 0.0, limit])
    row = st.lists(value, min_size=CLASSES, max_size=CLASSES)
    scores = torch.tensor(data.draw(st.lists(row, min_size=1, max_size=3)), requires_grad=True)
    level = data.draw(st.sampled_from([0.0, 1e-30, 1.0, 1e10]))
    embedding = torch.full((len(scores), FEATURES), level, requires_grad=True)
    labels = torch.tensor([data.draw(st.integers(0, CLASSES - 1)) for _ in scores])
    mean = loss(scores, embedding, labels)
    mean.backward()
    assert torch.isfinite(mean)
    assert mean >= 0
    for gradient in (scores.grad, embedding.grad):
        assert gradient is None or torch.isfinite(gradient).all()


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_posteriors_come_from_the_scores_without_a_margin(name: str, options: dict, batch) -> None:
    loss = make(name, options)
    scale = loss.scale if loss.head == "cosine" else 1.0
    torch.testing.assert_close(loss.logits(scores_for(loss, batch)), scale * scores_for(loss, batch))


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "center"])
def test_losses_add_no_parameters_and_nothing_to_a_checkpoint(name: str) -> None:
    loss = make(name, {})
    assert list(loss.parameters()) == []
    assert loss.state_dict() == {}
