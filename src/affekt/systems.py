"""Systems: a network, a loss and the features they eat, under one name.

`SYSTEMS` holds the paper's rows and their combinations; `GROUPS` the sets that an experiment asks for. A new system is
one row here. Own systems come from a TOML file (`load_systems`) or are a `System` passed in.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from affekt.config import from_dict
from affekt.errors import AffektError, ConfigError, Fault
from affekt.features import FeatureConfig
from affekt.losses import LOSSES, Loss
from affekt.nn import Network, NetworkConfig

LossFactory = type[Loss]


@dataclass(frozen=True)
class System:
    """What is trained: how features are made, which network reads them, which loss drives it.

    Attributes:
        name: row label in every table; also a folder name, so letters, digits, `-`, `.` and `_` only.
        network: the network's configuration.
        loss: a name in :data:`affekt.losses.LOSSES`, or a `Loss` class of one's own.
        loss_options: the loss's arguments, e.g. ``{"scale": 10, "margin": 0.4}``.
        features: how a waveform becomes features.

    Raises:
        ConfigError: an unusable name, an unknown loss, or options that the loss refuses.
    """

    name: str
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: str | LossFactory = "softmax"
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    features: FeatureConfig = field(default_factory=FeatureConfig)

    def __post_init__(self) -> None:
        if not self.name or not all(letter.isalnum() or letter in "-._" for letter in self.name):
            raise ConfigError("system name", got=repr(self.name), expected="letters, digits, '-', '.' and '_'")
        if isinstance(self.loss, str) and self.loss not in LOSSES:
            raise ConfigError(f"system {self.name}: loss", got=repr(self.loss), expected=f"one of {', '.join(LOSSES)}")

    def build_loss(self, classes: int) -> Loss:
        """A fresh loss for that many classes."""
        factory = LOSSES[self.loss] if isinstance(self.loss, str) else self.loss
        try:
            return factory(classes=classes, features=self.network.embedding_size, **self.loss_options)
        except TypeError as error:
            options = ", ".join(f"{key}={value!r}" for key, value in self.loss_options.items())
            raise ConfigError(f"system {self.name}: loss options", got=options, expected=str(error)) from error

    def build_network(self, classes: int) -> nn.Module:
        """A freshly initialised network; the caller seeds torch."""
        return Network(self.network, self.features.mels, classes, head=self.build_loss(classes).head)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as checkpoints and run directories keep them; an own class is kept as `module:Name`."""
        loss = self.loss if isinstance(self.loss, str) else f"{self.loss.__module__}:{self.loss.__qualname__}"
        plain = {"name": self.name, "loss": loss, "loss_options": dict(self.loss_options)}
        return plain | {"network": asdict(self.network), "features": asdict(self.features)}


def _am_softmax(scale: int, margin: float) -> System:
    return System(f"am-softmax-s{scale}-m{margin}", loss="am-softmax", loss_options={"scale": scale, "margin": margin})


def _focal(gamma: int, alpha: int) -> System:
    return System(f"focal-g{gamma}-a{alpha}", loss="focal", loss_options={"gamma": gamma, "alpha": alpha})


_COMBINED = NetworkConfig(pooling="combined")
_BEST_AM = {"scale": 10, "margin": 0.4}  # section 4.3: "The best performance for AMS is achieved with s = 10, m = 0.4"
_BEST_FOCAL = {"gamma": 2, "alpha": 2}  # "and gamma = 2, alpha = 2.0 works best for FL"

HEADLINE = (
    System("baseline"),
    System("am-softmax", loss="am-softmax", loss_options=_BEST_AM),
    System("focal", loss="focal", loss_options=_BEST_FOCAL),
    System("combined", network=_COMBINED),
)
"""The paper's four systems, the two losses with the settings that it found best."""

TABLE2 = (
    System("baseline"),
    *(_am_softmax(scale, margin) for scale in (10, 30) for margin in (0.1, 0.2, 0.4)),
    *(_focal(gamma, alpha) for gamma in (2, 5) for alpha in (1, 2, 4)),
    System("combined", network=_COMBINED),
)
"""The 14 rows of Table 2."""

INTEGRATION = (
    *HEADLINE,
    System("am-focal", loss="am-softmax-focal", loss_options=_BEST_AM | {"gamma": 2}),
    System("am-softmax-combined", network=_COMBINED, loss="am-softmax", loss_options=_BEST_AM),
    System("focal-combined", network=_COMBINED, loss="focal", loss_options=_BEST_FOCAL),
    System("am-focal-combined", network=_COMBINED, loss="am-softmax-focal", loss_options=_BEST_AM | {"gamma": 2}),
)
"""AM-softmax x focal x combined pooling, all eight cells: what section 5 leaves for future work."""

POOLINGS = tuple(
    System(f"pool-{pooling}", network=NetworkConfig(pooling=pooling))
    for pooling in ("mean", "max", "statistics", "self-attentive")
)
"""The baseline with other poolings, so that the paper's choice can be compared."""

GROUPS: Mapping[str, tuple[System, ...]] = {
    "headline": HEADLINE,
    "table2": TABLE2,
    "integration": INTEGRATION,
    "poolings": (System("baseline"), System("combined", network=_COMBINED), *POOLINGS),
}
SYSTEMS: Mapping[str, System] = {system.name: system for group in GROUPS.values() for system in group}


def resolve(names: str | Iterable[str]) -> tuple[System, ...]:
    """Systems by name, group or TOML file, in the order asked for, each once.

    Args:
        names: comma-separated text or a list of system names, group names and paths ending in `.toml`.

    >>> [system.name for system in resolve("baseline,combined")]
    ['baseline', 'combined']
    >>> len(resolve("table2"))
    14
    """
    wanted = names.split(",") if isinstance(names, str) else list(names)
    found: dict[str, System] = {}
    faults: list[Fault] = []
    for name in (name.strip() for name in wanted):
        if name in GROUPS:
            found |= {system.name: system for system in GROUPS[name]}
        elif name in SYSTEMS:
            found[name] = SYSTEMS[name]
        elif name.endswith(".toml"):
            found |= {system.name: system for system in load_systems(Path(name))}
        else:
            expected = (
                f"a group ({', '.join(GROUPS)}), a .toml file, or a system such as {', '.join(list(SYSTEMS)[:5])}"
            )
            faults.append(Fault("system", repr(name), expected))
    if faults:
        raise ConfigError.of(faults)
    return tuple(found.values())


def load_systems(path: Path) -> tuple[System, ...]:
    """Own systems from a TOML file; what a table leaves out is the baseline's.

    ::

        [mine]
        loss = "focal"
        loss_options = { gamma = 3.0, alpha = [1.0, 2.0, 1.0, 1.0] }
        network = { pooling = "combined", masked = true }
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"systems {path}", got=str(error), expected="a readable TOML file") from error
    faults: list[Fault] = []
    systems: list[System] = []
    for name, table in tables.items():
        if not isinstance(table, dict):
            faults.append(Fault(f"{path}: {name}", got=repr(table), expected=f"a table [{name}]"))
            continue
        try:
            systems.append(from_system_dict({"name": name} | table))
        except AffektError as error:
            faults += [replace(fault, what=f"{path}: [{name}] {fault.what}") for fault in error.faults]
    if faults or not systems:
        raise ConfigError.of(faults or [Fault(f"systems {path}", got="no table", expected="one table per system")])
    return tuple(systems)


def from_system_dict(data: Mapping[str, Any]) -> System:
    """The system that :meth:`System.to_dict` described."""
    return from_dict(System, dict(data))
