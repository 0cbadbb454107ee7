"""Large blocks of memory: kept while training and given back after it, counted as pages that the system had to make."""

from __future__ import annotations

import ctypes
import resource
import subprocess
import sys

import pytest

BLOCK_BYTES, PAGE_BYTES = 2**26, resource.getpagesize()


@pytest.fixture(autouse=True)
def glibc() -> None:
    if not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        pytest.skip("another C library than glibc")


PAGES = """
import resource
from affekt.runtime import allocator
def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    len(b"x" * {size})  # not numpy's, which asks for large pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
needed = new_pages()
with allocator.reuse_freed_memory():
    new_pages()
    again = new_pages()
print(needed, again)
"""


def run(code: str) -> str:
    """In a process of its own, whose heap nothing else has used."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_block_that_was_used_once_needs_no_new_pages_within_the_context() -> None:
    needed, again = map(int, run(PAGES.format(size=BLOCK_BYTES)).split())
    assert needed >= 20  # as many as there are blocks of large pages
    assert again <= 0.05 * needed


RESIDENT = """
import numpy as np
from affekt.runtime import allocator
def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * {page} / 2**20
before = resident_mib()
with allocator.reuse_freed_memory():
    np.ones(2**28, np.uint8)
    assert resident_mib() - before > 200, "it was to be kept"
assert resident_mib() - before < 50, "it was to be given back"
allocator.release_blocks_from(2**20)
np.ones(2**22, np.uint8)
assert resident_mib() - before < 50
"""


def test_afterwards_the_memory_is_the_system_s_again() -> None:
    run(RESIDENT.format(page=PAGE_BYTES))
