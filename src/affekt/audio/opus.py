"""Decode short Opus recordings with the system's libopus, if there is one: libsndfile's samples in less time.

The libopus in soundfile's wheels is built without vector instructions and takes about three times as long as the one
that Linux distributions install (`libopus.so.0`). The latter decodes plain recordings: one Ogg stream of one or two
channels, every page whole and in its place. Everything else is left to libsndfile, and so is every recording on a
machine without that library. The two agree to the last bits of float32; where an encoder changes its mode, which is
rare, different versions of libopus may join the modes differently.

A packet usually lasts 20 ms. Calling a C function per packet, which releases and takes the GIL each time, costs a tenth
of the time on one thread and makes several threads wait for each other. So adjacent packets of the same kind are joined
to one of up to 120 ms, as the format allows; the samples are the same, bit for bit.
"""

from __future__ import annotations

import ctypes
import struct
import sys
import zlib
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)
GRANULES_HZ = 48_000  # positions in a file are counted at this rate, whatever the recording's (RFC 7845, section 4)
LONGEST_PACKET_SECONDS = 0.12
LONGEST_SECONDS, LARGEST_BYTES = 60, 1 << 22  # a minute at the codec's highest bit rate, 510 kbit/s
PAGE = struct.Struct("<4sBBqIIIB")  # RFC 3533, section 6
HEAD = struct.Struct("<8sBBHIhB")  # RFC 7845, section 5.1
HEAD_BYTES = 28  # of the first page before the Opus header, if the page holds nothing else
BEGINNING_BYTES = HEAD_BYTES + 8
LENGTH = struct.Struct("<I")
FIRST, LAST, CONTINUED = 2, 4, 1
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
PACKETS_JOINED = (12, 6, 3, 2) * 3 + (12, 6) * 2 + (48, 24, 12, 6) * 4
"""Number of one-frame packets that last 120 ms, by the upper five bits of their first byte (RFC 6716, table 2)."""
LONGEST_FRAME_BYTES = 1_275
FRAME_LENGTHS = tuple(
    bytes((length,)) if length < 252 else bytes((252 + length % 4, (length - 252) // 4))
    for length in range(LONGEST_FRAME_BYTES + 1)
)
"""Encoded frame lengths (RFC 6716, section 3.2.1)."""
SEVERAL, OF_OWN_LENGTHS = 3, 0x80  # frames in a packet (RFC 6716, section 3.2.5)
FIRST_BYTE, ALL_BUT_FIRST_BYTE = itemgetter(slice(1)), itemgetter(slice(1, None))
NAMES = {"linux": "libopus.so.0", "darwin": "libopus.0.dylib"}

Samples = NDArray[np.float32]


class OpusAudio(NamedTuple):
    """A recording: its samples [frames, channels] and the sampling rate in its header."""

    samples: Samples
    rate_hz: int


class _Page(NamedTuple):
    flags: int
    granule: int
    serial: int
    sequence: int
    lacing: bytes
    body: bytes


class _Packet(NamedTuple):
    """The input of one call of libopus: a packet of the file, or several of equal duration joined."""

    data: bytes
    joined: int


class _Recording(NamedTuple):
    """The content of a file: its packets of sound, and the granule position after each page."""

    rate_hz: int
    channels: int
    skipped: int
    packets: list[_Packet]
    packets_until: list[int]
    granules: list[int]


class _NotPlainError(ValueError):
    """A file that is not plain: libsndfile has to decide."""


def version() -> str:
    """The version of the system's libopus; empty if there is none."""
    library = _library()
    return "" if library is None else library.opus_get_version_string().decode()


def may_be(beginning: bytes) -> bool:
    """Whether :func:`decode` may take a file, judged by its first :data:`BEGINNING_BYTES`."""
    return beginning[:4] == b"OggS" and beginning[HEAD_BYTES:BEGINNING_BYTES] == b"OpusHead" and _library() is not None


def decode(content: bytes) -> OpusAudio | None:
    """Decode all samples of an Ogg Opus file, the same number as libsndfile.

    Args:
        content: the whole file.

    Returns:
        None if there is no libopus or anything about the file is unusual.
    """
    library = _library()
    if library is None or len(content) > LARGEST_BYTES:
        return None
    try:
        recording = _parsed(list(_pages(content)))
        return OpusAudio(_decoded(library, recording), recording.rate_hz)
    except (_NotPlainError, struct.error):  # struct.error: a header that breaks off
        return None


@cache
def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(NAMES.get(sys.platform, "opus"))
    except OSError:
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.opus_get_version_string.restype = ctypes.c_char_p
    library.opus_decoder_get_size.argtypes = (number,)
    library.opus_decoder_init.argtypes = (pointer, ctypes.c_int32, number)
    library.opus_decode_float.argtypes = (pointer, ctypes.c_char_p, ctypes.c_int32, pointer, number, number)
    return library


@cache
def _new_decoder(rate_hz: int, channels: int) -> bytes:
    """The state of a decoder before its first packet, one block of memory that may be copied (opus.h).

    Creating it anew is slow in a virtual machine, since libopus queries the processor's features.
    """
    library = _library()
    assert library is not None
    state = ctypes.create_string_buffer(library.opus_decoder_get_size(channels))
    if library.opus_decoder_init(state, rate_hz, channels) != 0:
        raise _NotPlainError
    return state.raw


def _pages(content: bytes) -> Iterator[_Page]:
    """The pages of a file, each with its checksum verified."""
    start = 0
    while start < len(content):
        magic, layout, flags, granule, serial, sequence, checksum, segments = PAGE.unpack_from(content, start)
        head = start + PAGE.size
        lacing = content[head : head + segments]
        end = head + segments + sum(lacing)
        if (magic, layout) != (b"OggS", 0) or end > len(content):
            raise _NotPlainError
        without_sum = content[start : start + 22] + bytes(4) + content[start + 26 : end]
        if _checksum(without_sum) != checksum:
            raise _NotPlainError
        yield _Page(flags, granule, serial, sequence, lacing, content[head + segments : end])
        start = end


def _checksum(data: bytes) -> int:
    """Ogg's CRC: zlib's polynomial, but the highest bit first, and neither start nor end inverted.

    >>> hex(_checksum(b"123456789"))
    '0x89a1897f'
    """
    crc = zlib.crc32(data.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(crc.to_bytes(4, "little").translate(REVERSED), "big")


def _parsed(pages: list[_Page]) -> _Recording:
    """Parse one stream whose pages are numbered without a gap: the header, the comments, then sound."""
    places = [(page.serial, page.sequence) for page in pages]
    flags = [page.flags & (FIRST | LAST) for page in pages]
    plain = len(pages) >= 3 and flags == [FIRST, *(0 for _ in pages[2:]), LAST]
    if not plain or places != [(pages[0].serial, index) for index in range(len(pages))]:
        raise _NotPlainError
    if any(page.granule or page.flags & CONTINUED for page in pages[:2]):  # RFC 7845, section 4
        raise _NotPlainError
    rate_hz, channels, skipped = _header(pages[0])
    _check_comments(pages[1])
    packets, until = _packets(pages[2:])
    granules = [page.granule for page in pages[2:]]
    _check_length(skipped, granules[-1], GRANULES_HZ // rate_hz)
    return _Recording(rate_hz, channels, skipped, packets, until, granules)


def _header(page: _Page) -> tuple[int, int, int]:
    """Sampling rate, channels and granules to skip, for one or two channels without a mapping."""
    magic, layout, channels, skipped, rate_hz, gain, family = HEAD.unpack(page.body)
    known = magic == b"OpusHead" and layout == 1 and channels in (1, 2) and rate_hz in RATES_HZ
    if not known or gain or family:
        raise _NotPlainError
    return rate_hz, channels, skipped


def _check_comments(page: _Page) -> None:
    """Require the comments to end within one page, as libsndfile does (RFC 7845, section 5.2)."""
    body, place = page.body, 8
    if body[:place] != b"OpusTags" or page.lacing[-1] == 255:  # 255: they go on on the next page
        raise _NotPlainError
    place += LENGTH.size + LENGTH.unpack_from(body, place)[0]
    (comments,) = LENGTH.unpack_from(body, place)
    place += LENGTH.size
    for _ in range(comments):
        place += LENGTH.size + LENGTH.unpack_from(body, place)[0]
    if place > len(body):
        raise _NotPlainError


def _check_length(skipped: int, last: int, step: int) -> None:
    """Refuse long recordings, and those for which rounding at both ends would lose a sample."""
    if not skipped < last <= skipped + LONGEST_SECONDS * GRANULES_HZ:
        raise _NotPlainError
    if last // step - skipped // step != (last - skipped) // step:
        raise _NotPlainError


def _packets(pages: list[_Page]) -> tuple[list[_Packet], list[int]]:
    """All packets, and the number of them that have ended by the end of each page."""
    packets: list[_Packet] = []
    until: list[int] = []
    rest = b""
    for page in pages:
        if bool(page.flags & CONTINUED) != bool(rest):
            raise _NotPlainError
        ended, rest = _unpacked(page, rest)
        packets += _joined(ended)
        until.append(len(packets))
    if rest:
        raise _NotPlainError
    return packets, until


def _unpacked(page: _Page, rest: bytes) -> tuple[list[bytes], bytes]:
    """The packets that end on this page, the first of which starts with `rest`, and the start of the next."""
    packets: list[bytes] = []
    body, start, end = page.body, 0, 0
    for length in page.lacing:
        end += length
        if length < 255:
            packets.append(body[start:end])
            start = end
    if packets:
        packets[0] = rest + packets[0]
        rest = b""
    return packets, rest + body[start:end]


def _joined(packets: list[bytes]) -> Iterator[_Packet]:
    """Join adjacent one-frame packets of the same kind up to 120 ms; leave the others as they are."""
    for first, alike in groupby(packets, FIRST_BYTE):
        run = list(alike)
        if not first or first[0] & SEVERAL or len(run) == 1:
            yield from (_Packet(packet, 1) for packet in run)
        else:
            yield from _join(first[0], run, PACKETS_JOINED[first[0] >> 3])


def _join(first: int, packets: list[bytes], most: int) -> Iterator[_Packet]:
    """Packets of up to `most` frames with explicit lengths, except the last one's, which follows (section 3.2.5)."""
    if max(map(len, packets)) > 1 + LONGEST_FRAME_BYTES:  # libopus would refuse it too
        raise _NotPlainError
    lengths = [FRAME_LENGTHS[length - 1] for length in map(len, packets)]
    frames = list(map(ALL_BUT_FIRST_BYTE, packets))
    for start in range(0, len(packets), most):
        end = min(start + most, len(packets))
        head = bytes((first | SEVERAL, OF_OWN_LENGTHS | end - start))
        yield _Packet(b"".join((head, *lengths[start : end - 1], *frames[start:end])), end - start)


def _decoded(library: ctypes.CDLL, recording: _Recording) -> Samples:
    """Decode the packets; drop the samples before the start and past the end."""
    rate_hz, channels = recording.rate_hz, recording.channels
    step = GRANULES_HZ // rate_hz
    longest = round(LONGEST_PACKET_SECONDS * rate_hz)
    enough = recording.granules[-1] // step
    samples = np.empty((enough + longest, channels), np.float32)
    end, ends = 0, [0]
    state = _new_decoder(rate_hz, channels)
    memory = ctypes.create_string_buffer(state, len(state))
    decode, decoder = library.opus_decode_float, ctypes.addressof(memory)
    address, frame_bytes = samples.ctypes.data, 4 * channels
    for data, joined in recording.packets:
        if end > enough:  # more sound than the file says that it has
            raise _NotPlainError
        frames = decode(decoder, data, len(data), address + frame_bytes * end, longest, 0)
        end += frames
        if frames <= 0 or end - frames // joined > enough:  # so too before the last of those that were joined
            raise _NotPlainError
        ends.append(end)
    _check_positions(recording, [ends[packets] * step for packets in recording.packets_until])
    return samples[recording.skipped // step : enough]


def _check_positions(recording: _Recording, decoded: list[int]) -> None:
    """Require each page's position to match the decoded samples; the last may be lower, which trims the end."""
    *inner, last = recording.granules
    if inner != decoded[:-1] or not max([0, *inner]) < last <= decoded[-1]:
        raise _NotPlainError
