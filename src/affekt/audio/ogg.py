"""Ogg (RFC 3533): pages are walked, since decoders stop at the end of a file's first stream.

Chained files hold several streams, one after the other: radio recordings do, and joined files. FLAC in Ogg
(xiph.org/flac/ogg_mapping.html) is a FLAC file cut into packets. The last page of a stream says that it is the last;
where it is missing, the file was cut off.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

from affekt.audio.byte_streams import SPOOL_BYTES
from affekt.audio.layout import Bytes, ByteSpan, Layout

PAGE_BYTES, LONGEST_HEADER_BYTES = 27, 27 + 255
FIRST, LAST = 2, 4
FLAC_HEAD = b"\x7fFLAC"
FLAC_HEAD_BYTES = 9
"""Bytes of the first packet before those of the FLAC file."""
CODECS = {b"OpusHead": "Opus", b"\x01vorbis": "Vorbis", FLAC_HEAD: "FLAC", b"Speex   ": "Speex"}
MOST_LINKS = 1 << 12
"""Bound for hostile files."""


@dataclass(slots=True)
class Link:
    """One stream of a chained file, or several that are interleaved.

    Attributes:
        start, stop: where it lies.
        codecs: the codec of each serial number, "" for none that is sound.
        ended: serial numbers whose last page is there.
        has_sound: whether a page follows the first ones.
    """

    start: int
    stop: int = 0
    codecs: dict[int, str] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    has_sound: bool = False

    @property
    def sound(self) -> int | None:
        """The serial number of the first stream of sound."""
        return next((serial for serial, codec in self.codecs.items() if codec), None)


@dataclass(frozen=True, slots=True)
class _Page:
    start: int
    stop: int
    flags: int
    serial: int
    body_at: int


def lay_out(content: Bytes) -> Layout:
    """The parts of an Ogg file; a single part, as it is, where no page is found in it."""
    found = links(content)
    if not found:
        return Layout((ByteSpan(0, len(content)),))
    found[0].start = 0
    return Layout(tuple(map(_part, found)))


def links(content: Bytes) -> list[Link]:
    """The links of a chained file, in order; one for other files."""
    found: list[Link] = []
    position = 0
    while position < len(content):
        page = _page(content, position)
        if page is None:
            position = content.find(b"OggS", position + 1)
            continue
        if page.flags & FIRST and (not found or (found[-1].has_sound and len(found) < MOST_LINKS)):
            found.append(Link(page.start))
        position = min(page.stop, len(content))
        if found:
            _take(found[-1], page, content)
            found[-1].stop = position
    return found


def _take(link: Link, page: _Page, content: Bytes) -> None:
    """Note in a link what one of its pages says."""
    if page.flags & FIRST:
        beginning = content.at(page.body_at, 8)
        link.codecs[page.serial] = next((codec for head, codec in CODECS.items() if beginning.startswith(head)), "")
    else:
        link.has_sound = True
    if page.flags & LAST and page.stop <= len(content):
        link.ended.add(page.serial)


def _page(content: Bytes, position: int) -> _Page | None:
    """The page that begins here; None where there is none."""
    header = content.at(position, LONGEST_HEADER_BYTES)
    if header[:5] != b"OggS\0" or len(header) < PAGE_BYTES:
        return None
    segments = header[26]
    body_at = position + PAGE_BYTES + segments
    stop = body_at + sum(header[PAGE_BYTES : PAGE_BYTES + segments])
    return _Page(position, stop, header[5], int.from_bytes(header[14:18], "little"), body_at)


def _part(link: Link) -> ByteSpan:
    serial = link.sound
    cut = serial is not None and serial not in link.ended
    if serial is not None and link.codecs[serial] == "FLAC":
        return ByteSpan(link.start, link.stop, cut=cut, unwrap=partial(unwrapped_flac, serial=serial))
    return ByteSpan(link.start, link.stop, cut=cut)


def unwrapped_flac(stream: BinaryIO, serial: int) -> BinaryIO:
    """The FLAC file in an Ogg file: the bodies of its pages, one after the other, without the head of the first.

    Args:
        stream: the Ogg file.
        serial: the serial number of the FLAC stream in it.
    """
    content, position, head = Bytes(stream), 0, FLAC_HEAD_BYTES
    spool = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115  (the decoder reads on from it)
    while position < len(content):
        page = _page(content, position)
        if page is None:
            position = content.find(b"OggS", position + 1)
            continue
        if page.serial == serial:
            spool.write(content.at(page.body_at, page.stop - page.body_at)[head:])
            head = 0
        position = page.stop
    spool.seek(0)
    return spool  # type: ignore[return-value]  # a BinaryIO in all but its declared type
