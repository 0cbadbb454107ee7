"""Losses, one file each. A loss maps scores, embedding and labels of a batch to its mean loss."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from affekt.errors import ConfigError, Fault
from affekt.losses.aam_softmax import AAMSoftmax
from affekt.losses.am_focal import AMFocal
from affekt.losses.am_softmax import AMSoftmax
from affekt.losses.base import FunctionLoss, Head, Loss, check
from affekt.losses.center import Center
from affekt.losses.class_balanced import class_balanced_alpha
from affekt.losses.focal import Focal
from affekt.losses.softmax import Softmax
from affekt.losses.supervised_contrastive import SupervisedContrastive

__all__ = [
    "LOSSES",
    "AAMSoftmax",
    "AMFocal",
    "AMSoftmax",
    "Center",
    "Focal",
    "FunctionLoss",
    "Head",
    "Loss",
    "Softmax",
    "SupervisedContrastive",
    "class_balanced_alpha",
    "make_loss",
]

LOSSES: dict[str, type[Loss]] = {
    "softmax": Softmax,
    "am-softmax": AMSoftmax,
    "focal": Focal,
    "am-focal": AMFocal,
    "aam-softmax": AAMSoftmax,
    "center": Center,
    "supervised-contrastive": SupervisedContrastive,
}
"""Losses by name, each made from the number of classes, the length of the embedding and its own options."""


def make_loss(
    loss: str | type[Loss] | Callable[[Tensor, Tensor, Tensor], Tensor],
    classes: int,
    features: int,
    counts: Sequence[int] | None = None,
    **options: Any,
) -> Loss:
    """Make a loss from its name and options, or from a user-defined class or function.

    Args:
        loss: a name in :data:`LOSSES`, a subclass of :class:`Loss`, or a function of (scores, embedding, labels).
        classes: number of classes.
        features: length of the embedding.
        counts: training utterances of each class; needed by `alpha="class-balanced"` (with its own option `beta`).
        options: of the loss.

    Raises:
        ConfigError: unknown losses and options, and options out of range; all at once.

    >>> make_loss("am-softmax", classes=4, features=64, scale=30).head
    'cosine'
    >>> make_loss("focal", classes=2, features=64, counts=[1, 2], alpha="class-balanced", beta=0.5).alpha.tolist()
    [1.2000000476837158, 0.800000011920929]
    """
    if isinstance(loss, str) and loss not in LOSSES:
        raise ConfigError("loss", got=repr(loss), expected=f"one of {', '.join(LOSSES)}")
    if isinstance(loss, str):
        return _make(LOSSES[loss], f"loss {loss}", classes, features, _balanced(options, classes, counts))
    if isinstance(loss, type) and issubclass(loss, Loss):
        return _make(loss, f"loss {loss.__name__}", classes, features, _balanced(options, classes, counts))
    if callable(loss) and not isinstance(loss, type):
        return _make(FunctionLoss, "loss function", classes, features, {"function": loss, **options})
    raise ConfigError("loss", got=repr(loss), expected="a name, a subclass of affekt.losses.Loss, or a function")


def _make(kind: type[Loss], name: str, classes: int, features: int, options: dict[str, Any]) -> Loss:
    """Make a loss, or raise all faults of its options: unknown, missing and invalid ones."""
    accepted = _own_options(kind)
    unknown = [option for option in options if option not in accepted]
    missing = [option for option, required in accepted.items() if required and option not in options]
    choices = f"one of {', '.join(accepted)}" if accepted else "no options"
    faults = [Fault(f"{name}: option {option!r}", got="an unknown name", expected=choices) for option in unknown]
    faults += [Fault(f"{name}: option {option!r}", got="nothing", expected="a value") for option in missing]
    if missing:
        raise ConfigError.of(faults)
    try:
        made = kind(classes, features, **{option: options[option] for option in options if option in accepted})
    except ConfigError as error:
        raise ConfigError.of([*faults, *error.faults]) from error
    check(faults)
    return made


def _own_options(kind: type[Loss]) -> dict[str, bool]:
    """The options of a loss beside the two sizes, and whether each is required."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        parameter.name: parameter.default is inspect.Parameter.empty
        for parameter in inspect.signature(kind).parameters.values()
        if parameter.kind in named and parameter.name not in ("classes", "features")
    }


def _balanced(options: dict[str, Any], classes: int, counts: Sequence[int] | None) -> dict[str, Any]:
    """The options with alpha = "class-balanced" replaced by its numbers."""
    if options.get("alpha") != "class-balanced":
        return options
    if counts is None or len(counts) != classes:
        got = "no counts" if counts is None else f"{len(counts)} counts"
        raise ConfigError("class-balanced alpha", got=got, expected=f"training utterances of the {classes} classes")
    beta = {"beta": options["beta"]} if "beta" in options else {}
    rest = {name: value for name, value in options.items() if name not in ("alpha", "beta")}
    return {**rest, "alpha": class_balanced_alpha(counts, **beta)}
