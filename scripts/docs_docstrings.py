"""A griffe extension: docstrings of this project as the documentation site expects them.

Three things are rewritten: an entry for several parameters (`start, end: ...`) becomes one entry for each; examples
become fenced blocks; roles such as ``:class:`affekt.Manifest``` become code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe

ENTRY = re.compile(r"^( {4})(\w+(?:, \w+)+): (.*)$")
ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`~?([^`]+)`")
DIRECTIVE = re.compile(r" +# doctest: .*$", re.MULTILINE)
TABLE = re.compile(r"^={3,}( +={3,})+$")


class ProjectDocstrings(griffe.Extension):
    """Rewrites the docstring of every object when it is loaded."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one docstring.

        Args:
            obj: a module, class, function or attribute.
        """
        if obj.docstring:
            obj.docstring.value = rewritten(obj.docstring.value)


def rewritten(text: str) -> str:
    """A docstring with one entry per parameter, fenced examples and no roles.

    >>> print(rewritten("Args:\\n    low, high: bounds,\\n        both in Hz."))
    Args:
        low: bounds,
            both in Hz.
        high: bounds,
            both in Hz.

    Args:
        text: the docstring, without its indentation.

    Returns:
        The new docstring.
    """
    lines = DIRECTIVE.sub("", text).splitlines()
    return ROLE.sub(r"`\1`", "\n".join(_fenced(list(_split(lines)))))


def _split(lines: list[str]) -> Iterator[str]:
    """Entries for several parameters, one by one."""
    index = 0
    while index < len(lines):
        entry = ENTRY.match(lines[index])
        if not entry:
            yield lines[index]
            index += 1
            continue
        end = index + 1
        while end < len(lines) and lines[end].startswith(" " * 8):
            end += 1
        for name in entry[2].split(", "):
            yield f"{entry[1]}{name}: {entry[3]}"
            yield from lines[index + 1 : end]
        index = end


def _fenced(lines: list[str]) -> Iterator[str]:
    """Examples and tables of reStructuredText in fences; each ends at an empty line."""
    language = ""
    for line in lines:
        if not language and (line.startswith(">>> ") or TABLE.match(line)):
            language = "pycon" if line.startswith(">") else "text"
            yield f"```{language}"
        if language and not line:
            yield "```"
            language = ""
        yield line
    if language:
        yield "```"
