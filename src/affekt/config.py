"""Configurations: frozen dataclasses as TOML, checked key by key and type by type.

A configuration is a dataclass whose fields are booleans, numbers, texts, paths, choices (`Literal`), tuples, mappings
or further configurations, which become TOML tables. Every unknown key and every value of a wrong type is reported at
once, each with its file and key. TOML has no null, so the text `"none"` stands for None in any field that may be None.
"""

from __future__ import annotations

import difflib
import hashlib
import tomllib
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from affekt.errors import AffektError, ConfigError, Fault, reason
from affekt.runtime.atomic_files import atomic_write

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Config = TypeVar("Config", bound=DataclassInstance)
else:
    Config = TypeVar("Config")

NONE = "none"
"""How TOML writes None."""
SEAL = "# sha256 of all above: "

_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    types.NoneType: f'"{NONE}"',
}
_UNIONS = (Union, types.UnionType)
_LISTS = (tuple, list, Sequence)
_TABLES = (dict, Mapping)


def load(kind: type[Config], path: str | Path) -> Config:
    """Read a configuration from a TOML file.

    Args:
        kind: the dataclass to make.
        path: the file; keys that it leaves out keep their defaults.

    Raises:
        ConfigError: an unreadable file, or every unknown key, missing value, wrong type and value out of range in it.
    """
    return build(kind, read_toml(path), where=str(path))


def build(kind: type[Config], data: Mapping[str, Any], where: str) -> Config:
    """Make a configuration from nested mappings, as TOML holds them.

    >>> from affekt.features.log_mel import FeatureConfig
    >>> build(FeatureConfig, {"mels": 64}, where="own.toml").mels
    64
    >>> build(FeatureConfig, {"mel": 64, "hop_seconds": "10 ms"}, where="own.toml")
    Traceback (most recent call last):
    affekt.errors.ConfigError: own.toml: mel: got an unknown key; did you mean mels?
    own.toml: hop_seconds: got '10 ms', expected a number

    Args:
        kind: the dataclass to make.
        data: values by field name.
        where: the file or place that the data come from, for the messages.

    Raises:
        ConfigError: every fault of the data.
    """
    reader = _Reader(where)
    config = reader.config(kind, data, ())
    if reader.faults:
        raise ConfigError.of(reader.faults)
    return config  # type: ignore[no-any-return]


def read(hints: Mapping[str, Any], data: Mapping[str, Any], where: str) -> tuple[dict[str, Any], list[Fault]]:
    """The values of `data` by the types that `hints` gives its keys, and every fault of it; keys may be missing.

    >>> read({"seed": int | None, "out": Path}, {"seed": "none"}, where="own.toml")
    ({'seed': None}, [])
    """
    reader = _Reader(where)
    return reader.table(hints, data, ()), reader.faults


def merge(config: Config, changes: Mapping[str, Any], where: str = "changes") -> Config:
    """A copy of a configuration with some values changed; nested mappings change nested configurations.

    >>> from affekt.features.log_mel import FeatureConfig
    >>> merge(FeatureConfig(mels=64), {"low_hz": 50.0})
    FeatureConfig(sample_rate_hz=16000, ..., mels=64, low_hz=50.0, ...)

    Raises:
        ConfigError: every fault of the changes.
    """
    return build(type(config), _overlay(config, changes), where)


def dump(config: DataclassInstance, path: str | Path) -> None:
    """Write every value of a configuration to a TOML file, atomically; :func:`load` gives an equal one.

    Raises:
        ConfigError: a value that TOML cannot hold, such as a function, or the text "none" where None may stand.
    """
    import tomli_w  # of the training extra: the core only reads TOML

    with atomic_write(path) as file:
        tomli_w.dump(as_table(config), file)


def as_table(config: DataclassInstance) -> dict[str, Any]:
    """A configuration as nested TOML values, complete and in the order of its fields.

    >>> from affekt.features.log_mel import FeatureConfig
    >>> as_table(FeatureConfig())["hop_seconds"]
    0.01
    """
    hints = get_type_hints(type(config))
    table = {}
    for part in fields(config):
        value = getattr(config, part.name)
        if value == NONE and types.NoneType in get_args(hints[part.name]):
            raise ConfigError(part.name, got=f'the text "{NONE}"', expected=f"another text: {NONE} stands for no value")
        table[part.name] = _plain(value)
    return table


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: a file that cannot be read or is no TOML, with the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        tables = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(str(path), got=reason(error), expected="a TOML file") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, endless digits; lists in lists in lists
        raise ConfigError(str(path), got=str(error), expected="TOML in UTF-8") from error
    _check_seal(text, path)
    return tables


def sealed(text: str) -> bytes:
    """A TOML file whose last line, a comment, is a hash of all above it: :func:`read_toml` then notices any change.

    >>> sealed("mels = 40\\n").splitlines()[-1][:40]
    b'# sha256 of all above: 342d387e4aa655896'
    """
    return f"{text}{SEAL}{hashlib.sha256(text.encode()).hexdigest()}\n".encode()


def _check_seal(text: str, path: str | Path) -> None:
    content, seal, digest = text.rpartition(SEAL)
    if seal and hashlib.sha256(content.encode()).hexdigest() != digest.strip():
        raise ConfigError(
            str(path),
            got="content that is not what was written",
            expected="a file that nothing has changed",
            remedy="delete its last line if it was changed on purpose",
        )


def is_run_config(data: Mapping[str, Any]) -> bool:
    """Whether the tables are those that an experiment keeps in its run directory.

    >>> is_run_config({"experiment": {}, "recipe": {}, "systems": {}}), is_run_config({"systems": "headline"})
    (True, False)
    """
    return all(isinstance(data.get(name), Mapping) for name in ("experiment", "recipe", "systems"))


def _plain(value: Any) -> Any:
    if value is None:
        return NONE
    if is_dataclass(value) and not isinstance(value, type):
        return as_table(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, (bool, int, float, str)):
        return value
    raise ConfigError("configuration", got=repr(value), expected="a value that TOML can hold")


def _overlay(config: DataclassInstance, changes: Mapping[str, Any]) -> dict[str, Any]:
    table = as_table(config)
    for key, change in changes.items():
        inner = getattr(config, key, None)
        nested = is_dataclass(inner) and not isinstance(inner, type) and isinstance(change, Mapping)
        table[key] = _overlay(inner, change) if nested else _plain(change)  # type: ignore[arg-type]
    return table


@dataclass
class _Reader:
    """Turns TOML values into Python values by their type hints and collects what does not fit."""

    where: str
    faults: list[Fault] = field(default_factory=list)

    def reject(self, keys: Sequence[str], got: str, expected: str = "", remedy: str = "") -> None:
        """Note a fault; what is read is None then, and never used."""
        place = ": ".join(filter(None, (self.where, ".".join(keys))))
        self.faults.append(Fault(place, got, expected, remedy))

    def value(self, hint: Any, value: Any, keys: tuple[str, ...]) -> Any:
        origin, options = get_origin(hint), get_args(hint)
        if origin is Annotated:
            return self.value(options[0], value, keys)
        if origin in _UNIONS:
            return self.union(hint, value, keys)
        if isinstance(hint, type) and is_dataclass(hint) and isinstance(value, Mapping):
            return self.config(hint, value, keys)
        if origin in _TABLES and isinstance(value, Mapping):
            return {key: self.value(options[1], item, (*keys, key)) for key, item in value.items()}
        if origin in _LISTS and isinstance(value, (list, tuple)):
            return self.items(hint, value, keys)
        if _fits(hint, value):
            return hint(value) if hint in (float, Path) else value
        return self.reject(keys, _shown(value), _described(hint))

    def config(self, kind: type, data: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
        before = len(self.faults)
        hints = get_type_hints(kind, include_extras=True)
        parts = [part for part in fields(kind) if part.init]
        values = self.table({part.name: hints[part.name] for part in parts}, data, keys)
        for part in parts:
            if part.name not in data and not _has_default(part):
                self.reject((*keys, part.name), "nothing", _described(hints[part.name]))
        return self.construct(kind, values, keys) if len(self.faults) == before else None

    def construct(self, kind: type, values: dict[str, Any], keys: tuple[str, ...]) -> Any:
        try:
            return kind(**values)
        except AffektError as error:  # the dataclass's own checks of ranges
            for fault in error.faults:
                self.reject((*keys, fault.what), fault.got, fault.expected, fault.remedy)
        except (TypeError, ValueError) as error:
            self.reject(keys, str(error))
        return None

    def table(self, hints: Mapping[str, Any], data: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
        values = {}
        for key, value in data.items():
            if key in hints:
                values[key] = self.value(hints[key], value, (*keys, key))
            else:
                self.reject((*keys, key), "an unknown key", *_suggestion(key, hints))
        return values

    def union(self, hint: Any, value: Any, keys: tuple[str, ...]) -> Any:
        """None comes first, so that "none" is never taken for a text; then the first alternative that fits."""
        if types.NoneType in get_args(hint) and (value is None or value == NONE):
            return None
        options = [option for option in get_args(hint) if option is not types.NoneType]
        if len(options) == 1:
            return self.value(options[0], value, keys)
        for option in options:
            attempt = _Reader(self.where)
            result = attempt.value(option, value, keys)
            if not attempt.faults:
                return result
        return self.reject(keys, _shown(value), _described(hint))

    def items(self, hint: Any, value: Sequence[Any], keys: tuple[str, ...]) -> Any:
        origin, options = get_origin(hint), get_args(hint)
        kinds = options if _is_fixed(hint) else [options[0]] * len(value)
        if len(value) != len(kinds):
            return self.reject(keys, _shown(value), _described(hint))
        read = [
            self.value(kind, item, (*keys[:-1], f"{keys[-1]}[{index}]"))
            for index, (kind, item) in enumerate(zip(kinds, value, strict=True))
        ]
        return read if origin is list else tuple(read)


def _has_default(part: Field[Any]) -> bool:
    return part.default is not MISSING or part.default_factory is not MISSING


def _is_fixed(hint: Any) -> bool:
    """Whether a list type says how many items it has: `tuple[int, str]`, not `tuple[int, ...]`."""
    return get_origin(hint) is tuple and get_args(hint)[-1] is not Ellipsis


def _fits(hint: Any, value: Any) -> bool:
    if get_origin(hint) is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(hint))
    if isinstance(value, bool):
        return hint is bool
    accepted: dict[Any, Any] = {bool: bool, int: int, float: (int, float), str: str, Path: (str, Path)}
    return hint in accepted and isinstance(value, accepted[hint])


def _suggestion(key: str, valid: Iterable[str]) -> tuple[str, str]:
    """The expected keys instead of an unknown one, and a remedy: the nearest valid key, or else all of them."""
    near = difflib.get_close_matches(key.replace("-", "_"), list(valid), n=1)
    return ("", f"did you mean {near[0]}?") if near else (f"one of {', '.join(valid)}", "")


def _shown(value: Any) -> str:
    """A value as TOML would show it."""
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _described(hint: Any) -> str:
    """A type in words.

    >>> _described(tuple[int, ...] | None)
    'a list (each a whole number) or "none"'
    """
    origin, options = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _described(options[0])
    if origin in _UNIONS:
        return " or ".join(map(_described, options))
    if origin is Literal:
        return f"one of {', '.join(map(str, options))}"
    if _is_fixed(hint):
        return f"a list of {len(options)} ({', '.join(map(_described, options))})"
    if origin in _LISTS:
        return f"a list (each {_described(options[0])})"
    if origin in _TABLES:
        return f"a table (each {_described(options[1])})"
    return _WORDS.get(hint) or ("a table" if is_dataclass(hint) else str(hint))
