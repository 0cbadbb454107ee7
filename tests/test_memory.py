"""Large blocks of memory: kept while training and given back after it, counted as pages that the system had to make."""

from __future__ import annotations

import ctypes
import resource
import subprocess
import sys
from collections.abc import Callable

import pytest

from affekt import memory

BLOCK_BYTES, PAGE_BYTES = 2**26, resource.getpagesize()


@pytest.fixture(autouse=True)
def glibc() -> None:
    if not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        pytest.skip("another C library than glibc")


def new_pages(work: Callable[[], object]) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def use_a_block() -> None:
    len(b"x" * BLOCK_BYTES)  # not numpy's, which asks for large pages


def test_a_block_that_was_used_once_needs_no_new_pages_within_the_context() -> None:
    needed = new_pages(use_a_block)
    assert needed > 0.5 * BLOCK_BYTES / PAGE_BYTES or huge_pages()
    with memory.kept():
        use_a_block()
        assert new_pages(use_a_block) <= 0.05 * needed


def huge_pages() -> bool:
    """Whether the system makes large pages unasked, of which few are enough."""
    with open("/sys/kernel/mm/transparent_hugepage/enabled") as file:  # noqa: PTH123
        return "[always]" in file.read()


RESIDENT = """
import numpy as np
from affekt import memory
def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * {page} / 2**20
before = resident_mib()
with memory.kept():
    np.ones(2**28, np.uint8)
    assert resident_mib() - before > 200, "it was to be kept"
assert resident_mib() - before < 50, "it was to be given back"
memory.give_back_blocks_of(2**20)
np.ones(2**22, np.uint8)
assert resident_mib() - before < 50
"""


def test_afterwards_the_memory_is_the_system_s_again() -> None:
    """In a process of its own, whose heap nothing else has used."""
    code = RESIDENT.format(page=PAGE_BYTES)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
