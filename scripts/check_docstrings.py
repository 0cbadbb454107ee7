"""Fail if a public module, class, function or method has no docstring: `python scripts/check_docstrings.py`.

The sources are read by griffe, as for the documentation site, so nothing is imported. A method that overrides one of
a base class inherits its docstring.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

SOURCES = Path(__file__).parents[1] / "src"


def undocumented(owner: griffe.Object) -> Iterator[str]:
    """Paths of the public objects without a docstring, below and including a module or class."""
    if not owner.has_docstring:
        yield owner.path
    for name, member in owner.members.items():
        if member.is_alias or name.startswith("_"):
            continue
        if member.is_module or member.is_class:
            yield from undocumented(member)
        elif member.is_function and not member.has_docstring and not _inherited(owner, name):
            yield member.path


def _inherited(owner: griffe.Object, name: str) -> bool:
    return isinstance(owner, griffe.Class) and (name in owner.inherited_members or bool(owner.bases))


def main() -> int:
    """List what is missing."""
    package = griffe.load("affekt", search_paths=[str(SOURCES)])
    assert isinstance(package, griffe.Module)
    missing = sorted(undocumented(package))
    for path in missing:
        print(f"no docstring: {path}", file=sys.stderr)
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
