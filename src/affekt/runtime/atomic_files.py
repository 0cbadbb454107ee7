"""Atomic files and folders: after a crash, even of the machine, they are either complete or absent."""

from __future__ import annotations

import os
import secrets
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

OUT_BYTES = 1 << 26


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path`, synced to disk, when the block ends without an error.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_write(folder / "a.txt") as file:
    ...     _ = file.write(b"whole")
    >>> [(path.name, path.read_bytes()) for path in folder.iterdir()]
    [('a.txt', b'whole')]

    Raises:
        OSError: no space, no permission or no such folder; it carries the name of `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        if error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # not that of the temporary file
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def flushing(file: BinaryIO) -> Iterator[Callable[[memoryview | bytes], None]]:
    """Write a large file in parts that are flushed to disk in the background, instead of all at the end.

    Args:
        file: an open file.

    Returns:
        A function that writes one part.

    Raises:
        OSError: the disk refuses a part; raised by a later call or at the end of the block.
    """
    with ThreadPoolExecutor(1) as beside:
        under_way: deque[Future[None]] = deque()
        waiting_bytes = 0

        def write(part: memoryview | bytes) -> None:
            nonlocal waiting_bytes
            waiting_bytes += file.write(part)
            if waiting_bytes >= OUT_BYTES:
                if under_way:
                    under_way.popleft().result()
                under_way.append(beside.submit(os.fsync, file.fileno()))
                waiting_bytes = 0

        yield write
        for future in under_way:
            future.result()


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic_write(path) as file:
        file.write(content)


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """Make a temporary folder that replaces `folder`, absent or empty, synced to disk, when the block ends.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "new"
    >>> with atomic_folder(folder) as inside:
    ...     _ = (inside / "a.txt").write_bytes(b"whole")
    ...     folder.exists()
    False
    >>> [path.name for path in folder.iterdir()]
    ['a.txt']
    """
    folder = Path(folder)
    temporary = _beside(folder)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            sync(path)
        if folder.exists():
            folder.rmdir()
        temporary.replace(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync(path: str | Path) -> None:
    """Flush a file's content, or the entries of a folder, to disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _beside(path: Path) -> Path:
    """A temporary name in the same folder, unique to this call."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
