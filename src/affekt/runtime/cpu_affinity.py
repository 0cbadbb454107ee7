"""CPU affinity: the number of available cores, and pinning of the threads that share one computation."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from threading import Lock


def available_cores() -> int:
    """The number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class PinnedThreads:
    """Pin each worker thread to its own core; the caller keeps the remaining one.

    Linux often wakes a sleeping thread on the core of the thread that wakes it. If the waking thread then spins until
    the other is done, both share one core for some milliseconds, until the scheduler moves one. Pinning avoids that. It
    is done on Linux alone, and only if there are as many threads as cores.

    Args:
        threads: number of threads that compute together, including the caller's.
    """

    def __init__(self, threads: int) -> None:
        cores = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
        self._cores = cores if threads == len(cores) > 1 else []
        self._first_taken = Lock()

    @property
    def others(self) -> tuple[int, ...]:
        """Cores for the other threads; empty where nothing is pinned."""
        return tuple(self._cores[1:])

    @contextmanager
    def caller(self) -> Iterator[None]:
        """Move the calling thread to the first core at the start of the block, unless another caller has taken it."""
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
    """The core that this thread runs on; -1 if the C library has no `sched_getcpu`."""
    tell: Callable[[], int] | None = getattr(_c_library(), "sched_getcpu", None)
    return tell() if tell else -1


@cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _move_to(core: int) -> None:
    """Move this thread to a core once, without pinning it there."""
    before = os.sched_getaffinity(0)
    with suppress(OSError):  # not permitted, or the core is offline
        os.sched_setaffinity(0, {core})
        os.sched_setaffinity(0, before)
