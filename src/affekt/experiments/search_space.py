"""Search spaces of hyperparameters: ranges and choices, defaults for each system, and spaces from TOML files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affekt.config import read_toml
from affekt.errors import ConfigError, Fault
from affekt.features.log_mel import FeatureConfig
from affekt.nn import NetworkConfig
from affekt.training.systems import System

if TYPE_CHECKING:
    import optuna

Value = bool | int | float | str
Point = Mapping[str, Value]
"""A value for each hyperparameter, by dotted key."""


@dataclass(frozen=True)
class SearchRange:
    """Numbers from `low` to `high`.

    Attributes:
        low, high: the ends; integers if both are integers.
        log: whether values are drawn on a logarithmic scale.

    Raises:
        ConfigError: ends that are not in order, or not positive on a logarithmic scale.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            expected = "low < high" + (", both above 0" if self.log else "")
            raise ConfigError("range", got=f"low {self.low:g}, high {self.high:g}", expected=expected)

    @property
    def ends(self) -> tuple[Value, ...]:
        """The extreme values, which must be valid for all others to be."""
        return self.low, self.high

    def suggest(self, trial: optuna.Trial, key: str) -> Value:
        """Draw the value of an Optuna trial."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(key, self.low, self.high, log=self.log)
        return trial.suggest_float(key, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class SearchChoice:
    """One of several values."""

    choices: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.choices or not all(isinstance(value, bool | int | float | str) for value in self.choices):
            raise ConfigError("choices", got=repr(list(self.choices)), expected="numbers, texts, true or false")

    @property
    def ends(self) -> tuple[Value, ...]:
        """All values."""
        return self.choices

    def suggest(self, trial: optuna.Trial, key: str) -> Value:
        """Draw the value of an Optuna trial."""
        chosen: Value = trial.suggest_categorical(key, self.choices)  # type: ignore[assignment]  # none of them is None
        return chosen


Space = Mapping[str, SearchRange | SearchChoice]
"""Ranges and choices by dotted key, of the recipe's training (`train.learning_rate`) or of the system
(`system.loss_options.margin`)."""

MARGIN_SPACE: Space = {"scale": SearchRange(5.0, 40.0, log=True), "margin": SearchRange(0.05, 0.5)}
LOSS_SPACES: Mapping[str, Space] = {
    "am-softmax": MARGIN_SPACE,
    "aam-softmax": MARGIN_SPACE,
    "am-focal": {**MARGIN_SPACE, "gamma": SearchRange(0.5, 5.0)},
    "focal": {"gamma": SearchRange(0.5, 5.0), "alpha": SearchRange(0.5, 4.0)},
}
AUGMENT_SPACE: Space = {
    "channel_db": SearchRange(0.0, 4.0),
    "noise_probability": SearchRange(0.0, 0.4),
    "warp": SearchRange(0.0, 0.15),
}


def default_space(system: System) -> Space:
    """Learning rate, dropout, options of the loss and light augmentation, as far as the system has them.

    >>> list(default_space(System("mine", loss="focal")))[:4]
    ['train.learning_rate', 'system.network.dropout', 'system.loss_options.gamma', 'system.loss_options.alpha']
    """
    space: dict[str, SearchRange | SearchChoice] = {"train.learning_rate": SearchRange(1e-4, 1e-2, log=True)}
    if isinstance(system.network, NetworkConfig):
        space["system.network.dropout"] = SearchRange(0.1, 0.5)
    options = LOSS_SPACES.get(system.loss, {}) if isinstance(system.loss, str) else {}
    space |= {f"system.loss_options.{name}": range_ for name, range_ in options.items()}
    if isinstance(system.features, FeatureConfig):
        space |= {f"train.augment.{name}": range_ for name, range_ in AUGMENT_SPACE.items()}
    return space


def load_space(path: str | Path) -> Space:
    """Read a search space from a TOML file.

    ::

        [train]
        learning_rate = { low = 1e-4, high = 1e-2, log = true }
        batch_size = { choices = [16, 32] }
        [system.loss_options]
        margin = { low = 0.1, high = 0.5 }

    Raises:
        ConfigError: every fault of the file.
    """
    space: dict[str, SearchRange | SearchChoice] = {}
    faults: list[Fault] = []
    for key, leaf in _leaves(read_toml(path)):
        try:
            space[key] = _read_dimension(leaf)
        except ConfigError as error:
            faults += [replace(fault, what=f"{path}: {key}") for fault in error.faults]
    if faults or not space:
        raise ConfigError.of(faults or [Fault(f"space {path}", "nothing to search", "a range or choices")])
    return space


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping) and all(isinstance(inner, Mapping) for inner in value.values()) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _read_dimension(leaf: Any) -> SearchRange | SearchChoice:
    keys = set(leaf) if isinstance(leaf, Mapping) else set()
    if keys == {"choices"} and isinstance(leaf["choices"], list):
        return SearchChoice(tuple(leaf["choices"]))
    ends = [leaf.get(name) for name in ("low", "high")] if keys else []
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
    if {"low", "high"} <= keys <= {"low", "high", "log"} and numbers and isinstance(leaf.get("log", False), bool):
        return SearchRange(**leaf)
    raise ConfigError("setting", got=repr(leaf), expected="{ low = 0.1, high = 0.5, log = false } or { choices = [] }")
