"""Remarks about recordings that are used although something is wrong: a broken-off end, channels that cancel."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

log = logging.getLogger("affekt.audio.reader")

_collected: ContextVar[list[str] | None] = ContextVar("remarks", default=None)


def remark(name: str, text: str) -> None:
    """Log a warning about a recording, and collect it where :func:`remarks` asks for that."""
    log.warning("%s: %s", name, text)
    collected = _collected.get()
    if collected is not None:
        collected.append(text)


@contextmanager
def remarks() -> Iterator[list[str]]:
    """Collect the remarks about recordings that this thread reads meanwhile.

    >>> with remarks() as said:
    ...     remark("call.wav", "breaks off")
    >>> said
    ['breaks off']
    """
    collected: list[str] = []
    token = _collected.set(collected)
    try:
        yield collected
    finally:
        _collected.reset(token)
