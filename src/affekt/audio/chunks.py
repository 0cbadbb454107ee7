"""Compare declared sizes with the bytes of a file: wav, aiff, au, w64, caf, voc, sph, mp4, webm, avi, wma.

Writers that cannot go back, for example to a pipe, leave the size as 0 or as large as it can be: that is no fault, and
such a file ends where its bytes end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Literal, NamedTuple

from affekt.audio.layout import SLACK_BYTES, Bytes, ByteSpan, Layout
from affekt.audio.signatures import (
    AIFF,
    AMR,
    ASF,
    AU,
    AVI,
    CAF,
    FLAC,
    HELD_BYTES,
    MATROSKA,
    MP4,
    NIST,
    VOC,
    W64,
    WAV,
    Kind,
    kind_of,
)

ByteOrder = Literal["little", "big"]

MOST_CHUNKS = 10_000
MOST_PARTS = 1 << 12
OPEN_SIZES = ((0x7FFF_0000, 0x8000_FFFF), (0xFFFF_0000, 0xFFFF_FFFF))
"""Ranges of the placeholders that FFmpeg, SoX, ALSA and others write for an unknown size."""
OPEN_SIZE = b"\xff\xff\xff\xff"
"""The size that libsndfile takes for an unknown one."""
FLAC_HEAD = re.compile(rb"fLaC\0\0\0\x22")
AMR_HEAD = re.compile(rb"#!AMR(-WB)?\n")
MATROSKA_MAGIC = b"\x1a\x45\xdf\xa3"
MATROSKA_HEAD = re.compile(rb"\x1a\x45\xdf\xa3[^\0].{0,44}?\x42\x82.(webm|matroska)", re.DOTALL)
LONGEST_HEAD_BYTES = 64
W64_GUID_BYTES = 16
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


class _Data(NamedTuple):
    """The chunk of samples: where it begins, and its declared size; None where the header leaves that open."""

    start: int
    size: int | None


def lay_out(content: Bytes, kind: Kind) -> Layout:
    """The parts of a file: one, except for joined files."""
    if kind is WAV:
        return _wav(content)
    if kind in FINDERS:
        return _joined_chunks(content, kind)
    if kind in (FLAC, AMR):
        starts, is_cut = _marked(content, FLAC_HEAD if kind is FLAC else AMR_HEAD), False
    elif kind is MP4:
        starts, is_cut = _mp4_files(content)
    elif kind is MATROSKA:
        starts, is_cut = _matroska_files(content)
    else:
        starts, is_cut = [0], kind in CUT and CUT[kind](content)
    *inner, last = [ByteSpan(start, stop) for start, stop in pairwise([*starts, len(content)])]
    return Layout((*inner, replace(last, cut=is_cut)))


def _joined_chunks(content: Bytes, kind: Kind) -> Layout:
    """Joined files of a kind that states the size of its data or of all of it."""
    parts: list[ByteSpan] = []
    start = 0
    while True:
        rest = content.after(start)
        data = FINDERS[kind](rest)
        end = _end(rest, kind, data)
        is_last = end is None or not 0 < end < len(rest) or len(parts) == MOST_PARTS
        if end is None or is_last or kind_of(rest.at(end, HELD_BYTES)) is not kind:
            part = _part(0, len(rest), data)
            return Layout((*parts, replace(part, start=start, stop=len(content))))
        parts.append(ByteSpan(start, start + end))
        start += end


def _end(content: Bytes, kind: Kind, data: _Data | None) -> int | None:
    """The end of a file by its header; None if that is not stated."""
    if kind is AIFF:
        size = _stated(int.from_bytes(content.at(4, 4), "big"))
        return None if size is None else 8 + size + size % 2
    if kind is W64:
        size = int.from_bytes(content.at(W64_GUID_BYTES, 8), "little")
        return size + -size % 8 if size < 1 << 62 else None
    return None if data is None or data.size is None else data.start + data.size


def _part(start: int, stop: int, data: _Data | None) -> ByteSpan:
    """A part whose data end where it stops, or are cut there."""
    if data is None or data.size is None or data.start + data.size - stop <= SLACK_BYTES:
        return ByteSpan(start, stop)
    return ByteSpan(start, stop, share=max(0, stop - data.start) / data.size, cut=True)


def _wav(content: Bytes) -> Layout:
    """Joined WAV files, each from one `RIFF` to the next."""
    parts: list[ByteSpan] = []
    start, unheard = 0, ""
    while start < len(content):
        data = _riff_data(content, start)
        if data is not None and data.size == 0 and _is_open(content, data.start, _order(content, start)):
            parts.append(ByteSpan(start, len(content), OPEN_SIZE, data.start - len(OPEN_SIZE) - start))
            break
        if data is None or data.size is None or data.start + data.size >= len(content) or len(parts) == MOST_PARTS:
            parts.append(_part(start, len(content), data))
            break
        end = data.start + data.size
        following = next((at for at in (end, end + 1) if _is_wav(content, at)), None)
        if following is None:
            following, unheard = _after_chunks(content, end + data.size % 2, _order(content, start))
        parts.append(ByteSpan(start, following))
        start = following if not unheard else len(content)
    return Layout(tuple(parts), unheard)


def _after_chunks(content: Bytes, position: int, order: ByteOrder) -> tuple[int, str]:
    """The end of the chunks from a position on, and a description of other bytes after it."""
    for at, _, size in _riff_chunks(content, position, order):
        if at + 8 + size > len(content) + SLACK_BYTES or not content.at(at, 4).isascii():
            break
        position = min(len(content), at + 8 + size + size % 2)
        if _is_wav(content, position):
            return position, ""
    left = len(content) - position
    is_tag = content.at(position, 3) in (b"ID3", b"TAG", b"APE")
    if left <= SLACK_BYTES or is_tag or not any(content.at(position, 1 << 16)):
        return len(content), ""
    return len(content), f"{left} bytes after the end of the sound that its header states"


def _is_open(content: Bytes, start: int, order: ByteOrder) -> bool:
    """Whether data of a stated size of 0 are followed by sound rather than by other chunks."""
    end = start
    for at, name, size in _riff_chunks(content, start, order):
        if not name.isascii() or at + 8 + size > len(content):
            break
        end = at + 8 + size
    return len(content) - end > SLACK_BYTES


def _is_wav(content: Bytes, at: int) -> bool:
    head = content.at(at, 12)
    return head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE"


def _order(content: Bytes, start: int) -> ByteOrder:
    return "big" if content.at(start, 4) == b"RIFX" else "little"


def _riff_chunks(content: Bytes, position: int, order: ByteOrder) -> Iterator[tuple[int, bytes, int]]:
    """Position, name and size of each chunk from a position on."""
    for _ in range(MOST_CHUNKS):
        head = content.at(position, 8)
        if len(head) < 8:
            return
        size = int.from_bytes(head[4:], order)
        yield position, head[:4], size
        position += 8 + size + size % 2


def _riff_data(content: Bytes, start: int) -> _Data | None:
    long_size = None
    for at, name, size in _riff_chunks(content, start + 12, _order(content, start)):
        if name == b"ds64":  # EBU Tech 3306
            long_size = int.from_bytes(content.at(at + 16, 8), "little")
        elif name == b"data":
            if size == 0xFFFF_FFFF and long_size:
                return _Data(at + 8, long_size)
            return _Data(at + 8, _stated(size))
    return None


def _stated(size: int) -> int | None:
    """A size in 32 bits; None where it stands for an unknown one."""
    return None if any(low <= size <= high for low, high in OPEN_SIZES) else size


def _aiff_data(content: Bytes) -> _Data | None:
    for at, name, size in _riff_chunks(content, 12, "big"):
        if name == b"SSND":
            return _Data(at + 8, _stated(size))
    return None


def _au_data(content: Bytes) -> _Data | None:
    head = content.at(0, 12)
    order: ByteOrder = "big" if head[:4] == b".snd" else "little"
    return _Data(int.from_bytes(head[4:8], order), _stated(int.from_bytes(head[8:12], order)))


def _w64_data(content: Bytes) -> _Data | None:
    position = 40  # "riff", its size, "wave"
    for _ in range(MOST_CHUNKS):
        head = content.at(position, 24)
        size = int.from_bytes(head[W64_GUID_BYTES:], "little")  # with this head
        if len(head) < 24 or size < 24:
            return None
        if head[:4] == b"data":
            return _Data(position + 24, size - 24 if size < 1 << 62 else None)
        position += size + -size % 8
    return None


def _caf_data(content: Bytes) -> _Data | None:
    position = 8
    for _ in range(MOST_CHUNKS):
        head = content.at(position, 12)
        size = int.from_bytes(head[4:], "big", signed=True)
        if len(head) < 12 or head[:4] == b"data" or size < 0:
            return _Data(position + 12, size if size > 0 else None) if head[:4] == b"data" else None
        position += 12 + size
    return None


def _nist_data(content: Bytes) -> _Data | None:
    head = content.at(0, 1 << 12)
    fields = dict(re.findall(rb"^(\w+) -(?:i|s\d+) (\S+)", head, re.MULTILINE))
    names = (b"sample_count", b"sample_n_bytes", b"channel_count")
    try:
        count, width, channels = (int(fields.get(name, b"1")) for name in names)
        start = int(head.split(b"\n", 2)[1])
    except (ValueError, IndexError):
        return None
    is_packed = b"shorten" in fields.get(b"sample_coding", b"") or b"sample_count" not in fields
    return None if is_packed else _Data(start, count * width * channels)


def _voc_data(content: Bytes) -> _Data | None:
    start = int.from_bytes(content.at(20, 2), "little")
    block = content.at(start, 4)
    return _Data(start + 4, int.from_bytes(block[1:], "little")) if block[:1] in (b"\x01", b"\x09") else None


FINDERS: dict[Kind, Callable[[Bytes], _Data | None]] = {
    AIFF: _aiff_data,
    AU: _au_data,
    W64: _w64_data,
    CAF: _caf_data,
    NIST: _nist_data,
    VOC: _voc_data,
}


def _marked(content: Bytes, head: re.Pattern[bytes]) -> list[int]:
    """Starts of joined files whose beginning is a pattern that occurs nowhere else."""
    starts = [0]
    while len(starts) < MOST_PARTS:
        found = content.find_matching(head, starts[-1] + 1, LONGEST_HEAD_BYTES)
        if found >= len(content):
            break
        starts.append(found)
    return starts


def _mp4_files(content: Bytes) -> tuple[list[int], bool]:
    """Starts of joined files, and whether a box at the top ends past the end (ISO/IEC 14496-12, section 4.2)."""
    starts, position = [0], 0
    for _ in range(MOST_CHUNKS):
        head = content.at(position, 16)
        size = int.from_bytes(head[:4], "big")
        size = int.from_bytes(head[8:16], "big") if size == 1 else size
        if len(head) < 8 or size < 8:  # 0: up to the end
            break
        if head[4:8] == b"ftyp" and position:
            starts.append(position)
        position += size
        if position > len(content) + SLACK_BYTES:
            return starts, True
    return starts, False


def _matroska_files(content: Bytes) -> tuple[list[int], bool]:
    """Starts of joined files, and whether the last one's segment ends past the end (RFC 8794, section 6)."""
    starts: list[int] = []
    position = 0
    while content.at(position, 4) == MATROSKA_MAGIC and len(starts) < MOST_PARTS:
        starts.append(position)
        for _ in range(2):  # the head, and the segment with all the rest
            size, start = _ebml_size(content, position + 4)
            if size is None:
                position = content.find_matching(MATROSKA_HEAD, start, LONGEST_HEAD_BYTES)
                break
            position = start + size
    return starts or [0], position > len(content) + SLACK_BYTES


def _avi_is_cut(content: Bytes) -> bool:
    """Whether the RIFF form ends past the file's end."""
    size = _stated(int.from_bytes(content.at(4, 4), "little"))
    return size is not None and 8 + size > len(content) + SLACK_BYTES


def _asf_is_cut(content: Bytes) -> bool:
    """Whether the file is shorter than its File Properties Object says (ASF specification, section 3.2)."""
    head = content.at(0, 1 << 14)
    at = head.find(ASF_PROPERTIES)
    properties = head[at : at + 92] if at >= 0 else b""
    if len(properties) < 92 or properties[88] & 1:  # bit 0: the sizes are not known yet
        return False
    return int.from_bytes(properties[40:48], "little") > len(content) + SLACK_BYTES


def _ebml_size(content: Bytes, at: int) -> tuple[int | None, int]:
    """The size of an element, None for unknown, and where its content begins."""
    first = content.at(at, 1)
    if not first or not first[0]:
        return None, at
    length = 9 - first[0].bit_length()
    value = int.from_bytes(content.at(at, length), "big") & ((1 << 7 * length) - 1)
    return (None if value == (1 << 7 * length) - 1 else value), at + length


CUT: dict[Kind, Callable[[Bytes], bool]] = {AVI: _avi_is_cut, ASF: _asf_is_cut}
