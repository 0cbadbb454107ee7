"""Sources of audio bytes: a path, bytes or a binary stream, as a stream in which the reader can seek."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias

from affekt.errors import AudioError, reason

Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO

SPOOL_BYTES = 1 << 26
"""A pipe with more than 64 MiB is kept in a temporary file while it is read."""


def describe(source: Source) -> str:
    """The name of a source in messages: its path, its stream's name, or `audio bytes`."""
    if isinstance(source, bytes):
        return "audio bytes"
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return str(getattr(source, "name", "audio stream"))


@contextmanager
def seekable(source: Source) -> Iterator[BinaryIO]:
    """The source as a binary stream at its beginning in which one can seek; a pipe is read to its end first.

    Raises:
        AudioError: the source is empty, missing, not a regular file or of a wrong type; or, at the end, its file has
            changed in the meantime.
    """
    name = describe(source)
    if isinstance(source, bytes):
        if not source:
            raise AudioError(name, got="nothing", expected="the bytes of an audio file")
        yield io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        with _regular_file(Path(source)) as file:
            yield file
    elif not hasattr(source, "read") or isinstance(source, io.TextIOBase):
        raise AudioError("audio source", got=type(source).__name__, expected="a path, bytes or a binary stream")
    elif source.seekable():
        source.seek(0)
        yield source
    else:
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool:
            shutil.copyfileobj(source, spool)
            spool.seek(0)
            yield spool  # type: ignore[misc]  # a BinaryIO in all but its declared type


@contextmanager
def _regular_file(path: Path) -> Iterator[BinaryIO]:
    """An open file that does not change while it is read."""
    with open_regular(path) as file:
        before = os.fstat(file.fileno())
        yield file
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise AudioError(str(path), got="a file that changed while it was read", remedy="try again when it is complete")


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file that has bytes to read; a device or a pipe is refused without being opened, which could block.

    Raises:
        AudioError: the file is missing, empty, unreadable or not a regular file.
    """
    try:
        _check_regular(path, path.stat())
        return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise AudioError(str(path), got=reason(error), expected="a readable audio file") from error


def _check_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(str(path), got="a directory", expected="an audio file")
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(str(path), got="a device, pipe or socket", expected="a regular file")
    if status.st_size == 0:
        raise AudioError(str(path), got="an empty file", expected="an audio file")
