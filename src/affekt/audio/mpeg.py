"""MPEG audio (mp3, mp2): count the frames, since many files do not state their length.

A file may start with a frame that holds no sound but says how many frames follow: `Xing` or `Info` (LAME, FFmpeg) or
`VBRI` (Fraunhofer). Without one, libmpg123 estimates the length from the file's size and the first frame's bit rate,
and stops there; so such a file is presented to it as endless. Joined files are decoded one after the other, each with
the delay of its own encoder removed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from affekt.audio.layout import Bytes, ByteSpan, Layout
from affekt.audio.signatures import id3_bytes, is_id3, mpeg_bytes, mpeg_samples

XING, VBRI = (b"Xing", b"Info"), b"VBRI"
HAS_FRAMES, HAS_BYTES = 1, 2
VBRI_AT, VBRI_FRAMES_AT = 36, 50
SIDE_BYTES = {(True, True): 17, (True, False): 32, (False, True): 9, (False, False): 17}
"""Size of the side information by (MPEG 1, mono) (ISO/IEC 11172-3, section 2.4.1.7)."""
ID3V1_BYTES, APE_HEADER_BYTES = 128, 32
HEAD_BYTES = 64
"""The start of a frame up to the end of the fields that count frames."""
SYNC = re.compile(rb"\xff[\xe2-\xff][\x10-\xef]")
LARGEST_GAP_BYTES = 512
"""Damage that libmpg123 steps over in the middle of a run; behind more of it, another run begins."""
MOST_LOST, MOST_RUNS = 1 << 16, 1 << 12
"""Bounds for hostile files: places where no frame is, and runs."""

cached_bytes = lru_cache(1 << 10)(mpeg_bytes)


@dataclass(slots=True)
class _Run:
    """Frames in a row that belong together.

    Attributes:
        start: where it begins, with the tag before its first frame.
        first_frame_at: where its first frame begins.
        signature: the format that its frames have in common.
        samples_per_frame: samples per channel in each.
        counter: the head of the frame that counts the others; empty if there is none.
        frames: how many hold sound.
        last_at: where the last frame begins.
        end: where the last frame ends, which may be past the end of the file.
    """

    start: int
    first_frame_at: int
    signature: bytes
    samples_per_frame: int
    counter: bytes
    frames: int = 0
    last_at: int = 0
    end: int = 0


def lay_out(content: Bytes) -> Layout:
    """The parts of an MPEG audio file; a single part, as it is, where no frames are found in it."""
    runs = _runs(content)
    if not runs:
        return Layout((ByteSpan(0, len(content)),))
    runs[0].start = 0
    return Layout(tuple(_part(run, len(content)) for run in runs))


def _runs(content: Bytes) -> list[_Run]:
    """The file's frames, in runs; a new one begins after a tag or at a frame that counts others or differs."""
    runs: list[_Run] = []
    position, begins_at, lost = 0, 0, 0
    while position + 4 <= len(content) and lost < MOST_LOST:
        head = content.at(position, HEAD_BYTES)
        length = cached_bytes(head[:4])
        if length and (_continues(runs, position, head) or _confirmed(content, position, length, head)):
            counter = head if _counts(head) else b""
            if _begins_run(runs, position, begins_at, head, counter):
                start = begins_at if begins_at > (runs[-1].end if runs else 0) else position
                runs.append(_Run(start, position, _signature(head), mpeg_samples(head), counter))
            runs[-1].frames += not counter and position + length <= len(content)
            runs[-1].last_at = position
            position += length
            if position < len(content) and not counter:
                position = _skip_alike(content, position, runs[-1])
            runs[-1].end = position
        elif tag := _tag_bytes(content, position, head):
            begins_at = begins_at if runs and begins_at >= runs[-1].end else position
            position += tag
        else:
            lost += 1
            position = content.find_matching(SYNC, position + 1)
    return runs


def _skip_alike(content: Bytes, position: int, run: _Run) -> int:
    """Count the frames that follow a run and are like its others; the position of the first that is not, or is cut.

    This is what :func:`_runs` does for each frame, in a loop that is several times as fast.
    """
    xing_at = 4 + SIDE_BYTES[run.signature[0] >> 3 & 3 == 3, bool(run.signature[2])]
    while True:
        held, place = content.piece(position, HEAD_BYTES)
        start, first, end = position - place, place, min(len(held), len(content) - position + place) - HEAD_BYTES
        while place <= end:
            length, signature = _frame(held[place : place + 4])
            is_alike = length and signature == run.signature and start + place + length <= len(content)
            if not is_alike or held.startswith(XING, place + xing_at) or held.startswith(VBRI, place + VBRI_AT):
                return start + place
            run.frames += 1
            run.last_at = start + place
            place += length
        if place == first:  # too near the end of the file
            return position
        position = start + place


@lru_cache(1 << 10)
def _frame(header: bytes) -> tuple[int, bytes]:
    """The length of the frame with this header, 0 for none, and its signature."""
    return mpeg_bytes(header), _signature(header)


def _continues(runs: list[_Run], position: int, head: bytes) -> bool:
    """Whether a frame follows the last one and is like it."""
    return bool(runs) and runs[-1].end == position and runs[-1].signature == _signature(head)


def _begins_run(runs: list[_Run], position: int, begins_at: int, head: bytes, counter: bytes) -> bool:
    if not runs or len(runs) == MOST_RUNS:
        return not runs
    last = runs[-1]
    gap = position - last.end
    return bool(counter) or begins_at >= last.end or gap > LARGEST_GAP_BYTES or last.signature != _signature(head)


def _tag_bytes(content: Bytes, position: int, head: bytes) -> int:
    """The length of the tag that begins here; 0 where there is none."""
    if is_id3(head):
        return id3_bytes(head)
    if head[:3] == b"TAG" and position + ID3V1_BYTES <= len(content):
        return ID3V1_BYTES
    if head[:8] == b"APETAGEX" and len(head) >= APE_HEADER_BYTES:
        return APE_HEADER_BYTES + (int.from_bytes(head[12:16], "little") if head[23] & 0x20 else 0)
    return 0


def _confirmed(content: Bytes, position: int, length: int, head: bytes) -> bool:
    """Whether another frame of the same format follows."""
    following = content.at(position + length, 4)
    return bool(cached_bytes(following)) and _signature(following) == _signature(head)


def _signature(head: bytes) -> bytes:
    """Version, layer, rate and whether it is mono: what frames of one stream have in common."""
    return bytes((head[1] & 0xFE, head[2] & 0x0C, head[3] >> 6 == 3))


def _is_layer_3(head: bytes) -> bool:
    return head[1] >> 1 & 3 == 1


def _xing_at(head: bytes) -> int:
    return 4 + SIDE_BYTES[head[1] >> 3 & 3 == 3, head[3] >> 6 == 3]


def _counts(head: bytes) -> bool:
    """Whether this frame holds no sound but the number of the others."""
    if not _is_layer_3(head):
        return False
    at = _xing_at(head)
    is_xing = head[at : at + 4] in XING and head[at + 4 : at + 7] == b"\0\0\0" and head[at + 7] < 16
    return is_xing or head[VBRI_AT : VBRI_AT + 6] == VBRI + b"\0\1"


def _part(run: _Run, length: int) -> ByteSpan:
    """The span to decode for a run: all of its whole frames, and no tag after them."""
    cut, counted = run.end > length, run.frames * run.samples_per_frame
    stop = run.last_at if cut else run.end
    flags, frames_at = _fields(run.counter)
    if not flags & HAS_FRAMES:
        return ByteSpan(run.start, stop, endless=True, frames=counted, cut=cut)
    fields = run.counter[frames_at : frames_at + 8]
    claimed, claimed_bytes = int.from_bytes(fields[:4], "big"), int.from_bytes(fields[4:], "big")
    there = stop - run.first_frame_at
    patched = max(claimed, run.frames).to_bytes(4, "big")
    if flags & HAS_BYTES and abs(claimed_bytes - there) > there // 100:  # libmpg123 would print a warning
        patched += there.to_bytes(4, "big")
    else:
        patched += fields[4:]
    return ByteSpan(
        run.start,
        stop,
        patch=patched if patched != fields else b"",
        patched_at=run.first_frame_at - run.start + frames_at,
        promised=claimed * run.samples_per_frame if claimed > run.frames + 1 else None,
        cut=cut,
    )


def _fields(counter: bytes) -> tuple[int, int]:
    """The fields of a counting frame, and the place of the number of frames in it."""
    if counter[VBRI_AT : VBRI_AT + 4] == VBRI:
        return HAS_FRAMES, VBRI_FRAMES_AT
    return (counter[_xing_at(counter) + 7], _xing_at(counter) + 8) if counter else (0, 0)
