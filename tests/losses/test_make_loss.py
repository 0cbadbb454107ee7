"""Losses by name, own losses, and what is said about wrong options."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from affekt.errors import ConfigError
from affekt.losses import LOSSES, Focal, Loss, class_balanced_alpha, make_loss


class Power(Loss):
    """A loss as a user would write it."""

    def __init__(self, classes: int, features: int, exponent: float) -> None:
        super().__init__(classes, features)
        self.exponent = exponent

    def batch_mean(self, scores: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
        return scores.abs().pow(self.exponent).mean()


def squares(scores: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
    return scores.square().mean() + embedding.square().mean()


ARGUMENTS = (torch.full((2, 4), 2.0), torch.full((2, 6), 3.0), torch.tensor([0, 1]))


@pytest.mark.parametrize("name", LOSSES)
def test_names_make_their_losses(name: str) -> None:
    assert type(make_loss(name, 4, 6)) is LOSSES[name]


def test_options_are_passed_on() -> None:
    loss = make_loss("focal", 4, 6, gamma=5, alpha=[1, 2, 3, 4])
    assert isinstance(loss, Focal)
    assert (loss.gamma, loss.alpha.tolist()) == (5, [1, 2, 3, 4])


def test_an_own_loss_is_one_class_passed_in() -> None:
    assert float(make_loss(Power, 4, 6, exponent=3)(*ARGUMENTS)) == 8.0


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_an_own_loss_is_one_function_passed_in(head: str) -> None:
    loss = make_loss(squares, 4, 6, head=head)
    assert (float(loss(*ARGUMENTS)), loss.head) == (13.0, head)


@pytest.mark.parametrize("name", ["softmax", "focal", "am-focal"])
def test_class_balanced_alpha_from_the_counts(name: str) -> None:
    loss = make_loss(name, 4, 6, counts=[127, 71, 62, 79], alpha="class-balanced", beta=0.99)
    assert loss.alpha.tolist() == pytest.approx(class_balanced_alpha([127, 71, 62, 79], 0.99))
    default = make_loss(name, 4, 6, counts=[127, 71, 62, 79], alpha="class-balanced")
    assert default.alpha.tolist() == pytest.approx(class_balanced_alpha([127, 71, 62, 79]))


@pytest.mark.parametrize(("counts", "got"), [(None, "no counts"), ([1, 2], "2 counts")])
def test_class_balanced_alpha_needs_the_counts(counts: list[int] | None, got: str) -> None:
    with pytest.raises(ConfigError, match=f"got {got}, expected training utterances of the 4 classes"):
        make_loss("focal", 4, 6, counts=counts, alpha="class-balanced")


def test_unknown_and_wrong_options_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        make_loss("am-softmax", 4, 6, s=10, margin=1.5, gamma=2)
    assert str(caught.value).splitlines() == [
        "loss am-softmax: option 's': got an unknown name, expected one of scale, margin",
        "loss am-softmax: option 'gamma': got an unknown name, expected one of scale, margin",
        "loss am-softmax: margin: got 1.5, expected a number in [0, 1)",
    ]


def test_unknown_options_alone_and_missing_ones() -> None:
    with pytest.raises(ConfigError, match="option 'beta': got an unknown name"):
        make_loss("focal", 4, 6, beta=0.9)
    with pytest.raises(ConfigError, match="loss Power: option 'exponent': got nothing, expected a value"):
        make_loss(Power, 4, 6)


@pytest.mark.parametrize("loss", ["focul", 3, int, None])
def test_what_is_no_loss(loss: object) -> None:
    with pytest.raises(ConfigError, match="loss: got"):
        make_loss(loss, 4, 6)


def test_an_unknown_head_of_a_function() -> None:
    with pytest.raises(ConfigError, match="loss: head: got 'sine', expected one of linear, cosine"):
        make_loss(squares, 4, 6, head="sine")
