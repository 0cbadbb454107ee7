"""Remarks about recordings that are used although something is wrong: a broken-off end, channels that cancel."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

log = logging.getLogger("affekt.audio.reader")


class _Collection(list[str]):
    """Remarks that are collected, and whether they are logged too."""

    logged = True


_collected: ContextVar[_Collection | None] = ContextVar("remarks", default=None)


def remark(name: str, text: str) -> None:
    """Log a warning about a recording, and collect it where :func:`remarks` asks for that."""
    collected = _collected.get()
    if collected is None or collected.logged:
        log.warning("%s: %s", name, text)
    if collected is not None:
        collected.append(text)


@contextmanager
def remarks(logged: bool = True) -> Iterator[list[str]]:
    """Collect the remarks about recordings that this thread reads meanwhile.

    Args:
        logged: whether they are logged too.

    >>> with remarks(logged=False) as said:
    ...     remark("call.wav", "breaks off")
    >>> said
    ['breaks off']
    """
    collected = _Collection()
    collected.logged = logged
    token = _collected.set(collected)
    try:
        yield collected
    finally:
        _collected.reset(token)
