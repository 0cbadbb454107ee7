"""Definition of a system: a network, a loss and the features they read, under one name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from affekt.config import as_table
from affekt.errors import ConfigError, Fault
from affekt.features.frontends import front_end_name
from affekt.features.log_mel import FeatureConfig, FrontEnd
from affekt.features.pieces import Segments
from affekt.losses import LOSSES, Head, Loss, make_loss
from affekt.nn import Network, NetworkConfig
from affekt.nn.zoo import make_network, zoo_faults

NetworkFactory = Callable[[int, int, Head], nn.Module]
"""A user-defined network: a function or class of (dims, classes, head), whose forward(features, lengths) gives an
`Output`."""

GIVEN = ("loss", "classes", "features", "counts")  # what `make_loss` is given anyway, so no options


@dataclass(frozen=True)
class System:
    """A system to train: front end, network and loss.

    Attributes:
        name: row label in every table; also a folder name, so letters, digits, `-`, `.` and `_` only.
        network: the configuration of the paper's network, a name in :data:`affekt.nn.zoo.ZOO`, or a user-defined one: a
            function or class of (dims, classes, head).
        loss: a name in :data:`affekt.losses.LOSSES`, a `Loss` class of one's own, or a function of
            (scores, embedding, labels).
        loss_options: the loss's arguments, e.g. ``{"scale": 10, "margin": 0.4}``.
        features: front end: log-mel, another of :mod:`affekt.features.frontends`, or an own one.
        network_options: arguments of a network of the zoo, e.g. ``{"cells": 64}``.
        segments: how utterances are cut for training and their pieces' posteriors combined; None leaves them whole.

    Raises:
        ConfigError: an unusable name, an unknown loss or network, or options that they refuse; all at once.
    """

    name: str
    network: NetworkConfig | str | NetworkFactory = field(default_factory=NetworkConfig)
    loss: str | type[Loss] | Callable[[Tensor, Tensor, Tensor], Tensor] = "softmax"
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    features: FrontEnd = field(default_factory=FeatureConfig)
    network_options: Mapping[str, Any] = field(default_factory=dict)
    segments: Segments | None = None

    def __post_init__(self) -> None:
        loss, options = (self.loss, self.loss_options) if isinstance(self.loss, str) else ("softmax", {})
        faults = loss_and_name_faults(self.name, loss, options)
        if isinstance(self.network, str):
            faults += zoo_faults(self.network, self.network_options)
        if faults:
            raise ConfigError.of(faults)

    @property
    def head(self) -> Head:
        """The kind of scores that the loss expects."""
        kind = LOSSES[self.loss] if isinstance(self.loss, str) else self.loss
        head: Head = getattr(kind, "head", self.loss_options.get("head", "linear"))
        return head

    @property
    def masked(self) -> bool:
        """Whether the network hides padding; user-defined networks get the lengths and no fixed padding."""
        return self.network.masked if isinstance(self.network, NetworkConfig) else True

    def build(self, classes: int, counts: Sequence[int] | None = None) -> tuple[nn.Module, Loss]:
        """A freshly initialized network and its loss; the caller seeds torch.

        Args:
            classes: number of classes.
            counts: training utterances of each class, for class-balanced weights.

        Returns:
            The network and the loss.

        Raises:
            ConfigError: options that do not fit the number of classes, or a user-defined network without
                `embedding_size`.
        """
        if isinstance(self.network, NetworkConfig):
            network: nn.Module = Network(self.network, self.features.dims, classes, self.head)
        elif isinstance(self.network, str):
            network = make_network(self.network, self.features.dims, classes, self.head, **self.network_options)
        else:
            network = self.network(self.features.dims, classes, self.head)
        size = getattr(network, "embedding_size", None)
        if not isinstance(size, int) or size < 1:
            got = f"{type(network).__name__} with embedding_size {size}"
            raise ConfigError(f"network of {self.name}", got=got, expected="the length of its deep feature there")
        return network, make_loss(self.loss, classes, size, counts, **self.loss_options)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for checkpoints and run directories; user-defined classes are given by name."""
        loss = self.loss if isinstance(self.loss, str) else own_name(self.loss)
        plain = {"name": self.name, "loss": loss, "loss_options": dict(self.loss_options)}
        plain |= {"network": _plain_network(self.network), "features": _plain_features(self.features)}
        if self.network_options:
            plain["network_options"] = dict(self.network_options)
        if self.segments is not None:
            plain["segments"] = asdict(self.segments)
        return plain


def _plain_network(network: NetworkConfig | str | NetworkFactory) -> dict[str, Any] | str:
    if isinstance(network, str):
        return network
    if not isinstance(network, NetworkConfig):
        return own_name(network)
    plain = asdict(network)
    if network.initialization == "pytorch":  # omitted, so that checkpoints and states of version 0.1 match
        del plain["initialization"]
    return plain if isinstance(network.pooling, str) else plain | {"pooling": own_name(network.pooling)}


def _plain_features(features: FrontEnd) -> dict[str, Any]:
    if isinstance(features, FeatureConfig):
        return asdict(features)
    plain = as_table(features)  # type: ignore[arg-type]
    return {"kind": front_end_name(features) or own_name(features)} | plain


def loss_and_name_faults(name: str, loss: str, options: Mapping[str, Any]) -> list[Fault]:
    """Faults of a name, and of the options of a built-in loss for any number of classes."""
    faults = []
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        faults.append(Fault("system name", repr(name), "letters, digits, '-', '.' and '_'"))
    if loss not in LOSSES:
        return [*faults, Fault("loss", repr(loss), f"one of {', '.join(LOSSES)}")]
    faults += [Fault(f"loss {loss}: option {key!r}", "an unknown name") for key in GIVEN if key in options]
    rest = {key: value for key, value in options.items() if key not in GIVEN}
    alpha = rest.get("alpha")
    classes = max(1, len(alpha)) if isinstance(alpha, list | tuple) else 2
    try:
        make_loss(loss, classes, 1, [1] * classes, **rest)
    except ConfigError as error:
        faults += error.faults
    return faults


def own_name(own: Any) -> str:
    """`module:Name` of a user-defined class or function, for display: it cannot be loaded from a file."""
    return f"{own.__module__}:{getattr(own, '__qualname__', type(own).__qualname__)}"
