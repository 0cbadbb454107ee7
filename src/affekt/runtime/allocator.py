"""glibc's memory allocator: whether large freed blocks are kept for reuse or returned to the system.

`mallopt` is glibc's own; with another C library all functions here do nothing.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # malloc.h
EVERYTHING, MMAP_MAX = 2**31 - 1, 2**16  # the second is glibc's default
TRIMMED_BYTES, MAPPED_BYTES = 2**26, 2**25  # the largest values that glibc's dynamic thresholds reach by themselves


def _set(*choices: tuple[int, int]) -> None:
    """Set options of `mallopt`."""
    with suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in choices:
            mallopt(option, value)


def release_blocks_from(size_bytes: int) -> None:
    """Return freed blocks of a size to the system at once, for the rest of the process.

    By default glibc raises its mmap threshold (up to 32 MiB) when the first large block is freed, and then serves such
    blocks from the heap. Small long-lived blocks between them fragment the heap, so that a server's resident memory
    grows. A fixed threshold keeps large blocks in mappings of their own.

    Args:
        size_bytes: the smallest block to return.
    """
    _set((M_MMAP_THRESHOLD, size_bytes))


@contextmanager
def reuse_freed_memory() -> Iterator[None]:
    """Keep freed blocks of any size on the heap inside the block, in the whole process.

    A training step frees hundreds of megabytes that the next step allocates again. Returned in between, they come back
    as new pages, which the kernel fills with zeros at the first access: about a seventh of the time of a step.
    """
    _set((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, EVERYTHING))
    try:
        yield
    finally:
        _set((M_MMAP_MAX, MMAP_MAX), (M_MMAP_THRESHOLD, MAPPED_BYTES), (M_TRIM_THRESHOLD, TRIMMED_BYTES))
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
