"""What the C library does with large blocks of memory that are free: keep them, or give them back to the system.

glibc's choices alone; with another C library nothing happens here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # malloc.h
EVERYTHING, MMAP_MAX = 2**31 - 1, 2**16  # the latter as glibc has it
TRIMMED_BYTES, MAPPED_BYTES = 2**26, 2**25  # as far as glibc would go by itself


def _set(*choices: tuple[int, int]) -> None:
    """Tell `mallopt` of each option's value."""
    with suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in choices:
            mallopt(option, value)


def give_back_blocks_of(size_bytes: int) -> None:
    """Give blocks of so many bytes or more back as soon as they are free.

    glibc otherwise learns from the first large block to keep such of up to 32 MiB on its heap, where what is small and
    stays holds on to what is large and gone.
    """
    _set((M_MMAP_THRESHOLD, size_bytes))


@contextmanager
def kept() -> Iterator[None]:
    """Keep blocks of any size for the next step within the context, in the whole process.

    A step of training frees what the next one needs again, hundreds of megabytes. Given back in between, they come as
    new pages, each of which the system fills with zeros when it is first touched: about a seventh of a step's time.
    """
    _set((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, EVERYTHING))
    try:
        yield
    finally:
        _set((M_MMAP_MAX, MMAP_MAX), (M_MMAP_THRESHOLD, MAPPED_BYTES), (M_TRIM_THRESHOLD, TRIMMED_BYTES))
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
