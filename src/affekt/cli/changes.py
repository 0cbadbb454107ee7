"""Options that change a configuration, each of which may be left out; and options that a configuration stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, make_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

Config = TypeVar("Config")


def optional_fields(kind: type[Config]) -> type[Config]:
    """A dataclass with the fields of `kind`, every one None unless it is given; nested configurations likewise.

    >>> from affekt.training.config import AugmentConfig
    >>> optional_fields(AugmentConfig)(warp=0.1).tempo is None
    True
    """
    hints = get_type_hints(kind)
    names = [part.name for part in fields(kind)]  # type: ignore[arg-type]
    parts = [(name, _optional(hints[name]), None) for name in names]
    made: Any = make_dataclass(f"{kind.__name__}Changes", parts, frozen=True)
    made.__doc__ = kind.__doc__
    return made  # type: ignore[no-any-return]


def _optional(hint: Any) -> Any:
    return (optional_fields(hint) if isinstance(hint, type) and is_dataclass(hint) else hint) | None


def given(changes: object) -> dict[str, Any]:
    """What was given, as nested mappings for :func:`affekt.config.merge`."""
    if changes is None:
        return {}
    values = {part.name: getattr(changes, part.name) for part in fields(changes)}  # type: ignore[arg-type]
    present = {name: value for name, value in values.items() if value is not None}
    return {name: given(value) if is_dataclass(value) else value for name, value in present.items()}


def options_of_run(path: Path, data: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a run directory's `config.toml` stands for, with the folds of the `folds.json` beside it."""
    facts, folds = data["experiment"], path.with_name("folds.json")
    kept = {name: facts[name] for name in ("folds", "fold_seed", "seeds", "threads") if name in facts}
    own = {"systems": str(path), "recipe": str(path)} | ({"labels": str(path)} if "labels" in data else {})
    return kept | own | {"protocol": str(folds) if folds.exists() else facts.get("protocol", "random")}
