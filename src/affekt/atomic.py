"""Files and folders that are either whole or not there, even after a crash of the machine."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def writing(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the place of `path`, synced to disk, when the block ends without an error.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with writing(folder / "a.txt") as file:
    ...     _ = file.write(b"whole")
    >>> [(path.name, path.read_bytes()) for path in folder.iterdir()]
    [('a.txt', b'whole')]

    Raises:
        OSError: with the file's name: no room, no right, no such place.
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
        raise OSError(error.errno, error.strerror, str(path)) from error  # nobody knows the temporary's name
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file in one step."""
    with writing(path) as file:
        file.write(content)


@contextmanager
def filling(folder: str | Path) -> Iterator[Path]:
    """Make a temporary folder that takes the place of `folder`, new or empty, synced to disk, when the block ends well.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "new"
    >>> with filling(folder) as inside:
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
    """Wait until a file's content, or the names in a folder, are on disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _beside(path: Path) -> Path:
    """A name in the same folder that no other process or thread takes."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
