"""The layout of a recording's bytes: the parts that are decoded one after the other, and whether its end is there.

Decoders read one stream and trust its header. A file may hold several streams (joined MP3 files, chained Ogg), its
header may not state the length (MP3 of variable bit rate, WAV written to a pipe), and the file may have been cut off.
The bytes are examined for all of this before decoding starts.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, cast

ENDLESS_BYTES = 1 << 40
"""The file size reported to a decoder that would estimate a duration from the true size and stop early."""
TAIL_BYTES = 128
"""The last bytes of a file, where an MP3 decoder looks for a tag."""
PIECE_BYTES, CHUNK_BYTES = 1 << 14, 1 << 20
"""Read sizes for single places and for searches."""
SLACK_BYTES = 64
"""Fewer missing bytes are no fault: some writers count their header as data."""


@dataclass(frozen=True, slots=True)
class ByteSpan:
    """A stretch of bytes that is a recording by itself.

    Attributes:
        start, stop: where it lies.
        patch: replaces the bytes from `patched_at` on, counted from the start.
        patched_at: see `patch`.
        endless: whether to report :data:`ENDLESS_BYTES` to the decoder as the length.
        frames: samples per channel, counted; None: the decoder's own count is right.
        promised: samples per channel that the header promises, if these are more than there are.
        share: share of the promised data that is there, at most 1.
        cut: whether its end is missing.
        unwrap: extracts the FLAC file from an Ogg file.
    """

    start: int
    stop: int
    patch: bytes = b""
    patched_at: int = 0
    endless: bool = False
    frames: int | None = None
    promised: int | None = None
    share: float = 1.0
    cut: bool = False
    unwrap: Callable[[BinaryIO], BinaryIO] | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """The parts of a file, in order.

    Attributes:
        parts: at least one.
        unheard: what the file holds beyond them, for a message; empty if nothing.
    """

    parts: tuple[ByteSpan, ...]
    unheard: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a recording.

    Attributes:
        promised_frames: samples per channel that there should be; None where nothing says so.
        cut: whether the end of the file is missing.
        unheard: what the file holds beside the recording, for a message; empty if nothing.
    """

    promised_frames: int | None = None
    cut: bool = False
    unheard: str = ""


class Window(io.RawIOBase):
    """One part of a stream, as a stream of its own.

    >>> Window(io.BytesIO(b"abcdef"), ByteSpan(1, 5, patch=b"X", patched_at=1)).read()
    b'bXde'
    """

    def __init__(self, stream: BinaryIO, part: ByteSpan) -> None:
        super().__init__()
        self._stream = stream
        self._part = part
        self._bytes = part.stop - part.start
        self._position = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        length = ENDLESS_BYTES if self._part.endless else self._bytes
        position = offset + (0, self._position, length)[whence]
        if position < 0:
            raise ValueError("a position before the beginning")
        self._position = position
        return position

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._bytes - self._position)
        if not left and self._part.endless and self._position >= ENDLESS_BYTES - TAIL_BYTES:
            data = bytes(min(size or 0, ENDLESS_BYTES - self._position))  # no tag
        elif not left:
            data = b""
        else:
            self._stream.seek(self._part.start + self._position)
            data = self._patched(self._stream.read(left if size is None or size < 0 else min(size, left)))
        self._position += len(data)
        return data

    def _patched(self, data: bytes) -> bytes:
        """Data read from the current position, with the part's patch in it."""
        offset, patch = self._part.patched_at - self._position, self._part.patch
        first, last = max(0, offset), min(len(data), offset + len(patch))
        if first >= last:
            return data
        return data[:first] + patch[first - offset : last - offset] + data[last:]


class Bytes:
    """Random access to a stream's bytes, read in large pieces.

    >>> held = Bytes(io.BytesIO(b"abcdef"))
    >>> held.at(2, 3), held.at(5, 3), held.find(b"ef", 0), len(held)
    (b'cde', b'f', 4, 6)
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._length = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        self._start = 0
        self._held = b""

    def __len__(self) -> int:
        return self._length

    def at(self, position: int, size: int, ahead: int = PIECE_BYTES) -> bytes:
        """Read so many bytes from a position on, fewer at the end; `ahead` are read if they are not held yet."""
        if position >= self._length:  # perhaps past what a stream can seek to
            return b""
        offset = position - self._start
        if offset < 0 or offset + size > len(self._held):
            self._stream.seek(position)
            self._start, self._held = position, self._stream.read(min(max(size, ahead), self._length - position))
            offset = 0
        return self._held[offset : offset + size]

    def after(self, start: int) -> Bytes:
        """The bytes from a position on, as a file of their own."""
        return Bytes(cast(BinaryIO, Window(self._stream, ByteSpan(start, self._length)))) if start else self

    def piece(self, position: int, size: int) -> tuple[bytes, int]:
        """Held bytes, with `size` or more from a position on (fewer at the end), and the position's place in them."""
        self.at(position, size, CHUNK_BYTES)
        return self._held, position - self._start

    def find(self, pattern: bytes, position: int) -> int:
        """The next position of a pattern; the length for nowhere."""
        return self.find_matching(re.compile(re.escape(pattern)), position, len(pattern))

    def find_matching(self, pattern: re.Pattern[bytes], position: int, longest: int = 4) -> int:
        """The next match of a pattern of at most `longest` bytes; the length for nowhere."""
        while position < self._length:
            self.at(position, longest, CHUNK_BYTES)
            if match := pattern.search(self._held, position - self._start):
                return self._start + match.start()
            position = max(position + 1, self._start + len(self._held) - longest + 1)
        return self._length
