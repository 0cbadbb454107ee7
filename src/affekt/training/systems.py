"""Systems: a network, a loss and the features they eat, under one name.

`SYSTEMS` holds the paper's rows and their combinations; `GROUPS` the sets that an experiment asks for. A new system is
one row here. Own systems come from a TOML file (`load_systems`) or are a `System` passed in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from affekt.config import build, is_run_config, read_toml
from affekt.errors import ConfigError, Fault
from affekt.features.frontends import (
    FRONT_ENDS,
    Deltas,
    Descriptors,
    LogMelFunctionals,
    OpenSmile,
    Spectrogram,
    SpeechFunctionals,
    Waveform,
    front_end_name,
)
from affekt.features.log_mel import FeatureConfig, FrontEnd
from affekt.features.pieces import Segments
from affekt.losses import LOSSES, Head, Loss, make_loss
from affekt.nn import Network, NetworkConfig
from affekt.nn.zoo import make_network, zoo_faults

NetworkFactory = Callable[[int, int, Head], nn.Module]
"""An own network: a function or class of (dims, classes, head), whose forward(features, lengths) gives an `Output`."""

GIVEN = ("loss", "classes", "features", "counts")  # what `make_loss` is given anyway, so no options


@dataclass(frozen=True)
class System:
    """What is trained: how features are made, which network reads them, which loss drives it.

    Attributes:
        name: row label in every table; also a folder name, so letters, digits, `-`, `.` and `_` only.
        network: the configuration of the paper's network, a name in :data:`affekt.nn.zoo.ZOO`, or an own network: a
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
        faults = _system_faults(self.name, loss, options)
        if isinstance(self.network, str):
            faults += zoo_faults(self.network, self.network_options)
        if faults:
            raise ConfigError.of(faults)

    @property
    def head(self) -> Head:
        """The scores that the loss wants."""
        kind = LOSSES[self.loss] if isinstance(self.loss, str) else self.loss
        head: Head = getattr(kind, "head", self.loss_options.get("head", "linear"))
        return head

    @property
    def masked(self) -> bool:
        """Whether the network hides padding; own networks are given the lengths and no fixed padding."""
        return self.network.masked if isinstance(self.network, NetworkConfig) else True

    def build(self, classes: int, counts: Sequence[int] | None = None) -> tuple[nn.Module, Loss]:
        """A freshly initialized network and its loss; the caller seeds torch.

        Args:
            classes: number of classes.
            counts: training utterances of each class, for class-balanced weights.

        Returns:
            The network and the loss.

        Raises:
            ConfigError: options that do not fit the number of classes, or an own network without `embedding_size`.
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
        """Plain values, as checkpoints and run directories keep them; own classes by their names."""
        loss = self.loss if isinstance(self.loss, str) else _own_name(self.loss)
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
        return _own_name(network)
    plain = asdict(network)
    if network.initialization == "pytorch":  # as before there was a choice, so that checkpoints and states still match
        del plain["initialization"]
    return plain if isinstance(network.pooling, str) else plain | {"pooling": _own_name(network.pooling)}


def _plain_features(features: FrontEnd) -> dict[str, Any]:
    if isinstance(features, FeatureConfig):
        return asdict(features)
    plain: dict[str, Any] = asdict(features)  # type: ignore[call-overload]
    return {"kind": front_end_name(features) or _own_name(features)} | plain


def _system_faults(name: str, loss: str, options: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with a name, or with a built-in loss and its options for whatever number of classes."""
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


def _own_name(own: Any) -> str:
    """`module:Name` of somebody's own class or function, for people to read: no file brings it back."""
    return f"{own.__module__}:{getattr(own, '__qualname__', type(own).__qualname__)}"


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
    System("am-focal", loss="am-focal", loss_options=_BEST_AM | {"gamma": 2}),
    System("am-softmax-combined", network=_COMBINED, loss="am-softmax", loss_options=_BEST_AM),
    System("focal-combined", network=_COMBINED, loss="focal", loss_options=_BEST_FOCAL),
    System("am-focal-combined", network=_COMBINED, loss="am-focal", loss_options=_BEST_AM | {"gamma": 2}),
)
"""AM-softmax x focal x combined pooling, all eight cells: what section 5 leaves for future work."""

POOLINGS = tuple(
    System(f"pool-{pooling}", network=NetworkConfig(pooling=pooling))
    for pooling in ("mean", "max", "statistics", "self-attentive")
)
"""The baseline with other poolings, so that the paper's choice can be compared."""

COMPACT = System(
    "compact",
    network=NetworkConfig(
        filters=(32, 64, 96, 128), pools=(2, 2, 2, 2), lstm_cells_per_direction=48, pooling="combined", masked=True
    ),
    features=FeatureConfig(window_seconds=0.032, hop_seconds=0.020),
)
"""For use rather than for comparison: most channels where the image is small, and half as many frames."""

PRIOR = (
    System("lstm", "lstm", features=SpeechFunctionals()),
    System("lstm-attention", "lstm-attention", features=Descriptors()),
    System("rnn-attention", "rnn-attention", features=Descriptors()),
    System("cnn-blstm", "cnn-blstm", features=Spectrogram(), segments=Segments(3.0)),
    System(
        "tdnn-lstm",
        "tdnn-lstm",
        loss_options={"log_posteriors": True},  # every frame is labeled
        features=Waveform(),
        segments=Segments(3.0, "whole"),
    ),
    System(
        "resnet-mha",
        "resnet-mha",
        features=Descriptors(window_seconds=0.040, harmonicity=True, log_pitch=True, deltas=False),
    ),
    System("crnn-3d", "crnn-3d", features=Deltas(), segments=Segments(3.0, "max", overlap=True)),
)
"""The seven prior systems of Table 1, with their input and segmenting; `docs/systems.md` says what was chosen."""

TABLE1 = (*PRIOR, System("baseline"))
"""Table 1."""

YARDSTICKS = (
    System("functionals-svm", "svm", features=LogMelFunctionals()),
    System("descriptors-svm", "svm", features=SpeechFunctionals()),
    System("ecapa", "ecapa"),
)
"""What came before networks, and what came after the paper."""

EGEMAPS = System("egemaps-svm", "svm", features=OpenSmile())
"""Of its own, because openSMILE's license is."""

GROUPS: Mapping[str, tuple[System, ...]] = {
    "headline": HEADLINE,
    "table2": TABLE2,
    "integration": INTEGRATION,
    "table1": TABLE1,
    "yardsticks": YARDSTICKS,
    "study": tuple({system.name: system for system in (*PRIOR, *TABLE2, *INTEGRATION, *YARDSTICKS)}.values()),
    "poolings": (System("baseline"), System("combined", network=_COMBINED), *POOLINGS),
}
SYSTEMS: Mapping[str, System] = {
    system.name: system for system in (*(system for group in GROUPS.values() for system in group), COMPACT, EGEMAPS)
}


def resolve(names: str | Iterable[str]) -> tuple[System, ...]:
    """Systems by name, group or TOML file, in the order asked for, each once.

    Args:
        names: comma-separated text or a list of system names, group names and paths ending in `.toml`.

    Returns:
        The systems.

    Raises:
        ConfigError: unknown names, faults of files, two systems of one name; all at once.

    >>> [system.name for system in resolve("baseline,combined")]
    ['baseline', 'combined']
    >>> len(resolve("table2"))
    14
    """
    wanted = names.split(",") if isinstance(names, str) else list(names)
    found: dict[str, System] = {}
    faults: list[Fault] = []
    for name in map(str.strip, wanted):
        try:
            systems = _find(name)
        except ConfigError as error:
            faults += error.faults
            continue
        for system in systems:
            if found.setdefault(system.name, system) != system:
                remedy = "rename one of them"
                faults.append(Fault(f"system {system.name}", "two that differ", "one of that name", remedy))
    if faults:
        raise ConfigError.of(faults)
    return tuple(found.values())


def _find(name: str) -> tuple[System, ...]:
    if name in GROUPS:
        return GROUPS[name]
    if name in SYSTEMS:
        return (SYSTEMS[name],)
    if name.endswith(".toml"):
        return load_systems(Path(name))
    expected = f"a group ({', '.join(GROUPS)}), a .toml file, or a system such as {', '.join(list(SYSTEMS)[:5])}"
    raise ConfigError("system", got=repr(name), expected=expected)


def load_systems(path: Path) -> tuple[System, ...]:
    """Own systems from a TOML file; what a table leaves out is the baseline's.

    ::

        [mine]
        loss = "focal"
        loss_options = { gamma = 3.0, alpha = [1.0, 2.0, 1.0, 1.0] }
        network = { pooling = "combined", masked = true }

    The `config.toml` of a run directory is such a file too: its systems, as the recipe made them.

    Raises:
        ConfigError: every fault of the file.
    """
    faults: list[Fault] = []
    systems: list[System] = []
    for name, table in _system_tables(read_toml(path)).items():
        try:
            systems.append(_read_system(name, table, where=f"{path}: [{name}]"))
        except ConfigError as error:
            faults += error.faults
    if faults or not systems:
        raise ConfigError.of(faults or [Fault(f"systems {path}", got="no table", expected="one table per system")])
    return tuple(systems)


def _system_tables(data: dict[str, Any]) -> dict[str, Any]:
    """One table per system, whether the file holds nothing else or is the configuration of a run."""
    if not is_run_config(data):
        return data
    tables: dict[str, Any] = data["systems"]
    return {name: {key: table[key] for key in table if key != "name"} for name, table in tables.items()}


def from_system_dict(data: Mapping[str, Any]) -> System:
    """The system that :meth:`System.to_dict` described.

    Raises:
        ConfigError: every unknown key and value; or an own network, pooling or loss, which no file can bring back: pass
            the `System` itself.
    """
    return _read_system(str(data.get("name", "")), {key: data[key] for key in data if key != "name"}, where="system")


_Option = bool | int | float | str | tuple[int, ...] | tuple[float, ...]


@dataclass(frozen=True)
class _Row:
    """A system as files hold it, with the paper's network and log-mel features."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: str = "softmax"
    loss_options: Mapping[str, bool | int | float | str | tuple[float, ...]] = field(default_factory=dict)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    network_options: Mapping[str, _Option | Mapping[str, _Option]] = field(default_factory=dict)
    segments: Segments | None = None


def _read_system(name: str, table: Any, where: str) -> System:
    if not isinstance(table, Mapping):
        raise ConfigError(where, got=repr(table), expected="a table")
    faults: list[Fault] = []
    row = _Row()
    others: dict[str, Any] = {}
    try:
        table, others = _take_others(table, where)
        row = build(_Row, table, where)
    except ConfigError as error:
        faults += error.faults
    loss, options = table.get("loss", "softmax"), table.get("loss_options", {})
    if isinstance(loss, str) and isinstance(options, Mapping):
        faults += [replace(fault, what=f"{where}: {fault.what}") for fault in _system_faults(name, loss, options)]
    if faults:
        raise ConfigError.of(faults)
    return System(name, **{**vars(row), **others})


def _take_others(table: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A table without its network of the zoo and its front end of another kind, and these two."""
    rest, others = dict(table), {}
    if isinstance(rest.get("network"), str):
        others["network"] = rest.pop("network")
        if faults := zoo_faults(others["network"], rest.get("network_options", {})):
            raise ConfigError.of(replace(fault, what=f"{where}: {fault.what}") for fault in faults)
    if isinstance(rest.get("features"), Mapping) and "kind" in rest["features"]:
        others["features"] = read_front_end(rest.pop("features"), where=f"{where}: features")
    return rest, others


def read_front_end(table: Mapping[str, Any], where: str) -> FrontEnd:
    """The front end that a table of a file describes; log-mel where it names no kind.

    Raises:
        ConfigError: every unknown key and value, or an own kind, which no file can bring back.

    >>> read_front_end({"kind": "spectrogram", "high_hz": 8000.0}, where="mine.toml").dims
    400
    """
    kind = table.get("kind", "log-mel")
    if kind not in FRONT_ENDS:
        expected = f"one of {', '.join(FRONT_ENDS)}"
        raise ConfigError(f"{where}.kind", got=repr(kind), expected=expected, remedy="pass the System in Python")
    values = {key: value for key, value in table.items() if key != "kind"}
    front_end: FrontEnd = build(FRONT_ENDS[kind], values, where)  # type: ignore[type-var]
    return front_end
