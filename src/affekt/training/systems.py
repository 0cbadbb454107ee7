"""All systems, by name and in groups.

`SYSTEMS` holds the paper's systems and combinations of them, `GROUPS` named sets. A new system is one row here.
User-defined systems come from a TOML file (`load_systems`) or are `System` objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from affekt.config import build, is_run_config, read_toml
from affekt.errors import ConfigError, Fault
from affekt.features.frontends import (
    FRONT_ENDS,
    Deltas,
    Descriptors,
    EncoderStates,
    LogMelFunctionals,
    OpenSmile,
    Spectrogram,
    SpeechFunctionals,
    Waveform,
    WhisperLogMel,
)
from affekt.features.frontends.encoder_states import TOP
from affekt.features.log_mel import FeatureConfig, FrontEnd
from affekt.features.pieces import Segments
from affekt.nn import NetworkConfig
from affekt.nn.zoo import zoo_faults
from affekt.training.system_definition import System, loss_and_name_faults

__all__ = [
    "COMPACT",
    "EGEMAPS",
    "ENCODER_HEADLINE",
    "ENCODER_LINEAR",
    "ENCODER_STUDY",
    "GROUPS",
    "HEADLINE",
    "INTEGRATION",
    "POOLINGS",
    "PRIOR",
    "SYSTEMS",
    "TABLE1",
    "TABLE2",
    "TUNED",
    "YARDSTICKS",
    "System",
    "from_system_dict",
    "load_systems",
    "read_front_end",
    "resolve",
]


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

STATES = EncoderStates(pool=8)
"""States of the first layer of Whisper's encoder, which stays as it is, averaged over 160 ms: 47 for a clip of 7.5 s.

The LSTM of the paper's network reads 24 for a clip.
"""


def _on_encoder(system: System) -> System:
    """A row of the paper with its pooling and loss, on the encoder's states in place of log-mel and convolutions."""
    assert isinstance(system.network, NetworkConfig)
    return replace(
        system,
        name="encoder" if system.name == "baseline" else f"encoder-{system.name}",
        network="encoder-back-end",
        network_options={"pooling": system.network.pooling},
        features=STATES,
    )


ENCODER_HEADLINE = tuple(map(_on_encoder, HEADLINE))
"""The paper's four systems on the encoder."""

ENCODER_STUDY = tuple(map(_on_encoder, (*TABLE2, *INTEGRATION[4:])))
"""Every row of Table 2 and the four other cells of the integration on the encoder: 18 systems, no two the same."""

ENCODER_LINEAR = System("encoder-linear", "linear", features=EncoderStates(pooled=True, trim_db=35.0))
"""Mean and deviation of the states and a strongly shrunk linear model: the kind of the bundled model."""

TUNED = tuple(
    System(name, "tuned-encoder", network_options={"pooling": pooling}, features=WhisperLogMel(top=TOP))
    for name, pooling in (("encoder-tuned", "attention"), ("encoder-tuned-combined", "combined"))
)
"""The encoder trained too, at a rate of its own."""

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
"""For deployment rather than comparison: most channels where the feature map is small, and half as many frames."""

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
"""Systems before neural networks, and systems after the paper."""

EGEMAPS = System("egemaps-svm", "svm", features=OpenSmile())
"""Separate, because of openSMILE's license."""

GROUPS: Mapping[str, tuple[System, ...]] = {
    "headline": HEADLINE,
    "table2": TABLE2,
    "integration": INTEGRATION,
    "table1": TABLE1,
    "yardsticks": YARDSTICKS,
    "study": tuple({system.name: system for system in (*PRIOR, *TABLE2, *INTEGRATION, *YARDSTICKS)}.values()),
    "encoder-headline": ENCODER_HEADLINE,
    "encoder-study": ENCODER_STUDY,
    "poolings": (System("baseline"), System("combined", network=_COMBINED), *POOLINGS),
}
SYSTEMS: Mapping[str, System] = {
    system.name: system
    for system in (
        *(system for group in GROUPS.values() for system in group),
        COMPACT,
        EGEMAPS,
        ENCODER_LINEAR,
        *TUNED,
    )
}


def resolve(names: str | Iterable[str]) -> tuple[System, ...]:
    """Systems by name, group or TOML file, in the given order, without repetitions.

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
    """Read systems from a TOML file; omitted values are the baseline's.

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
        ConfigError: every unknown key and value; or a user-defined network, pooling or loss, which no file can
            restore: pass the `System` itself.
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
        faults += [replace(fault, what=f"{where}: {fault.what}") for fault in loss_and_name_faults(name, loss, options)]
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
