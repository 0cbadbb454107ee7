"""Options that change a configuration: the same fields, each of which may be left out."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, make_dataclass
from typing import Any, TypeVar, get_type_hints

Config = TypeVar("Config")


def optional_fields(kind: type[Config]) -> type[Config]:
    """A dataclass with the fields of `kind`, every one None unless it is given; nested configurations likewise.

    >>> from affekt.augmentation import AugmentConfig
    >>> optional_fields(AugmentConfig)(warp=0.1).tempo is None
    True
    """
    hints = get_type_hints(kind)
    names = [part.name for part in fields(kind)]  # type: ignore[arg-type]
    parts = [(name, _optional(hints[name]), None) for name in names]
    made: Any = make_dataclass(f"{kind.__name__}Changes", parts, frozen=True)
    made.__doc__, made.__module__ = kind.__doc__, kind.__module__  # in `types`, cyclopts takes it for a builtin
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
