"""The processor's cores: how many there are to use, and which of them the threads of one piece of work run on."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from threading import Lock


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Apart:
    """A core for each thread of a piece of work that uses all of them; the caller's is one that the others leave.

    A thread that has slept is woken, as often as not, on the core of the one that wakes it. If that one then waits
    actively, for it, both wait for some milliseconds until the system moves one of them. Linux alone; elsewhere, and
    with fewer threads than cores, nothing is done.

    Args:
        threads: how many work together, the caller's among them.
    """

    def __init__(self, threads: int) -> None:
        cores = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
        self._cores = cores if threads == len(cores) > 1 else []
        self._first_taken = Lock()

    @property
    def others(self) -> tuple[int, ...]:
        """The cores of the other threads."""
        return tuple(self._cores[1:])

    @contextmanager
    def caller(self) -> Iterator[None]:
        """Begin the context on the first core, if nobody else is in such a context; from there none is driven away."""
        if not self._cores or not self._first_taken.acquire(blocking=False):
            yield
            return
        try:
            if _core() != self._cores[0]:
                _move_to(self._cores[0])
            yield
        finally:
            self._first_taken.release()


def _core() -> int:
    """The core that this thread runs on; -1 where the C library does not tell."""
    tell: Callable[[], int] | None = getattr(_c_library(), "sched_getcpu", None)
    return tell() if tell else -1


@cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _move_to(core: int) -> None:
    """Go on there, for as long as the system sees fit."""
    before = os.sched_getaffinity(0)
    with suppress(OSError):  # the system does not allow it, or the core is gone
        os.sched_setaffinity(0, {core})
        os.sched_setaffinity(0, before)
