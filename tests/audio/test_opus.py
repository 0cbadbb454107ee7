"""Oracle: libsndfile, which decodes the same files by a libopus of its own; and what is left to it."""

from __future__ import annotations

import ctypes
import io
import itertools
import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from affekt import audio
from affekt.audio import containers, decoders, opus
from affekt.errors import AudioError

TOLERANCE = 1e-5
"""Both decode in float32, in another order of operations."""

pytestmark = pytest.mark.skipif(not opus.version(), reason="no libopus on this machine")


def encoded(samples: Any, rate_hz: int, quality: float = 0.5) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="OGG", subtype="OPUS", compression_level=quality)
    return file.getvalue()


def decode(content: bytes) -> Any:
    """The samples alone, if it is decoded."""
    sound = opus.decode(content)
    return None if sound is None else sound.samples


def by_libsndfile(content: bytes) -> Any:
    return soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)[0]


@pytest.mark.parametrize("quality", [0.0, 0.5, 0.95])  # high to low rate: CELT, hybrid, SILK
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", opus.RATES_HZ)
def test_equals_libsndfile(babble: Callable[..., Any], rate_hz: int, channels: int, quality: float) -> None:
    seconds = 1.3 + rate_hz / 1e6  # no whole number of packets
    signal = np.stack([babble(seconds, seed, rate_hz) for seed in range(channels)], 1)
    content = encoded(signal, rate_hz, quality)
    expected = by_libsndfile(content)
    got = decode(content)
    assert got is not None
    assert got.shape == expected.shape == signal.shape
    np.testing.assert_allclose(got, expected, atol=TOLERANCE)
    assert np.abs(expected).max() > 0.01


def test_equals_libsndfile_on_real_recordings(corpora: Path) -> None:
    paths = sorted((corpora / "nemo").rglob("*.opus"))
    if not paths:
        pytest.skip("no nemo among the corpora")
    for path in random.Random(0).sample(paths, 20):
        content = path.read_bytes()
        got = decode(content)
        assert got is not None
        np.testing.assert_allclose(got, by_libsndfile(content), atol=TOLERANCE)


@pytest.mark.parametrize("seconds", [0.001, 0.02, 2.5])
def test_recordings_of_any_length_and_silence(seconds: float) -> None:
    content = encoded(np.zeros(round(16_000 * seconds)), 16_000)
    got = decode(content)
    assert got is not None
    np.testing.assert_allclose(got, by_libsndfile(content), atol=TOLERANCE)


@pytest.fixture(scope="module")
def content(babble: Callable[..., Any]) -> bytes:
    return encoded(babble(2.5), 16_000)


def test_what_is_not_whole_is_left_to_libsndfile(content: bytes) -> None:
    assert decode(content) is not None
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for damaged in (bytes(flipped), content[:-1], content[: len(content) // 2], content[50:], content + b"more", b""):
        assert decode(damaged) is None


def test_what_is_not_plain_is_left_to_libsndfile(content: bytes) -> None:
    assert decode(content + content) is None  # one stream after the other
    for place, value in ((16, 1), (12, 22_050), (9, 3), (18, 1)):  # gain, rate, channels, mapping
        assert decode(patched_header(content, place, value)) is None


def patched_header(content: bytes, place: int, value: int) -> bytes:
    """Another value in the header's body, with the sum that makes it valid."""
    page = bytearray(content[: 28 + 19])
    struct.pack_into({16: "<h", 12: "<I"}.get(place, "B"), page, 28 + place, value)
    struct.pack_into("<I", page, 22, 0)
    struct.pack_into("<I", page, 22, opus._checksum(bytes(page)))
    return bytes(page) + content[28 + 19 :]


def test_many_empty_packets_take_no_memory(content: bytes) -> None:
    """A page that says little and holds a packet a byte: more sound than it says is not decoded."""
    head = content[: content.index(b"OggS", content.index(b"OpusTags"))]
    (serial,) = struct.unpack_from("<I", content, 14)
    page = struct.pack("<4sBBqIIIB", b"OggS", 0, 4, 960, serial, 2, 0, 255) + b"\x01" * 255 + b"\x00" * 255
    page = page[:22] + struct.pack("<I", opus._checksum(page)) + page[26:]
    assert decode(head + page) is None


# Packets that are joined. Oracle: the same library, packet by packet.

SILK, HYBRID, CELT = 1_000, 1_001, 1_002  # how libopus encodes
SPEECH, LARGEST, WIDE_BAND, FULL_BAND = 2048, -1, 1_103, 1_105
SET_BITRATE, SET_LARGEST_BAND, SET_VARIABLE_RATE, SET_MODE = 4_002, 4_004, 4_006, 11_002
SECTIONS = {  # of 20 ms unless the name says otherwise; bytes of each packet, its first one included
    "CELT, lengths at each bound of their coding": (CELT, 20, [20, 251, 252, 253, 254, 255, 256, 257, 508, 512]),
    "CELT, longest": (CELT, 20, [1_275, 1_276, 1_276, 1_275, 20, 1_276]),
    "CELT, 2.5 ms": (CELT, 2.5, [12, 30] * 55),
    "CELT, 5 ms": (CELT, 5, [20] * 26),
    "CELT, 10 ms": (CELT, 10, [40] * 25),
    "CELT, several frames in each packet": (CELT, 60, [260] * 4),
    "SILK": (SILK, 20, [40, 41, 42, 43, 44, 45, 46]),
    "SILK, 10 ms": (SILK, 10, [25] * 14),
    "SILK, 40 ms": (SILK, 40, [90] * 5),
    "SILK, 60 ms": (SILK, 60, [130] * 5),
    "hybrid": (HYBRID, 20, [90] * 9),
}


def packets_of(mode: int, milliseconds: float, sizes: Sequence[int], signal: Any) -> list[bytes]:
    """Packets of exactly these sizes; of SILK, which would pad them, of at most these."""
    library, channels = opus._library(), signal.shape[1]
    assert library is not None
    library.opus_encoder_create.restype = ctypes.c_void_p
    encoder = ctypes.c_void_p(library.opus_encoder_create(48_000, channels, SPEECH, ctypes.byref(ctypes.c_int())))
    band = WIDE_BAND if mode == SILK else FULL_BAND
    settings = {SET_MODE: mode, SET_LARGEST_BAND: band, SET_VARIABLE_RATE: int(mode == SILK), SET_BITRATE: LARGEST}
    for request, value in settings.items():
        assert library.opus_encoder_ctl(encoder, request, value) == 0
    frames, packets = round(48 * milliseconds), []
    for index, size in enumerate(sizes):
        part = np.ascontiguousarray(signal[index * frames : (index + 1) * frames], np.float32)
        room = ctypes.create_string_buffer(size)
        written = library.opus_encode_float(encoder, ctypes.c_void_p(part.ctypes.data), frames, room, size)
        assert written == size or mode == SILK
        packets.append(room.raw[:written])
    library.opus_encoder_destroy(encoder)
    return packets


def mode_of(packet: bytes) -> str:
    """RFC 6716, table 2."""
    return "SILK" if packet[0] >> 3 < 12 else "hybrid" if packet[0] >> 3 < 16 else "CELT"


def one_by_one(packets: Sequence[bytes], rate_hz: int, channels: int) -> list[Any]:
    """The samples of each packet."""
    library = opus._library()
    assert library is not None
    library.opus_decoder_create.restype = ctypes.c_void_p
    decoder = ctypes.c_void_p(library.opus_decoder_create(rate_hz, channels, ctypes.byref(ctypes.c_int())))
    samples = []
    for packet in packets:
        room = np.empty((rate_hz, channels), np.float32)
        frames = library.opus_decode_float(decoder, packet, len(packet), room.ctypes.data, rate_hz * 12 // 100, 0)
        samples.append(room[:frames])
    library.opus_decoder_destroy(decoder)
    return samples


def ogg(
    pages: Sequence[Sequence[bytes]], granules: Sequence[int], rate_hz: int, channels: int, head: bytes = b""
) -> bytes:
    """A file of whole packets; unless there is another head, no samples of them are skipped."""
    bodies = [[segment for packet in packets for segment in segments(packet)] for packets in pages]
    return (head or head_pages(rate_hz, channels)) + b"".join(
        page(opus.LAST if body is bodies[-1] else 0, granule, index, body)
        for index, (body, granule) in enumerate(zip(bodies, granules, strict=True), 2)
    )


PLAIN_COMMENTS = b"OpusTags" + struct.pack("<I4sI", 4, b"test", 0)


def head_pages(
    rate_hz: int, channels: int, *, skipped: int = 0, version: int = 1, comments: bytes = PLAIN_COMMENTS
) -> bytes:
    head = struct.pack("<8sBBHIhB", b"OpusHead", version, channels, skipped, rate_hz, 0, 0)
    return page(opus.FIRST, 0, 0, [head]) + page(0, 0, 1, segments(comments))


def segments(packet: bytes) -> list[bytes]:
    """Pieces of 255 bytes and a shorter one, perhaps empty, which ends the packet."""
    return [packet[start : start + 255] for start in range(0, len(packet) + 1, 255)]


def page(flags: int, granule: int, index: int, body: Sequence[bytes]) -> bytes:
    bare = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, 7, index, 0, len(body))
    bare += bytes(map(len, body)) + b"".join(body)
    return bare[:22] + struct.pack("<I", opus._checksum(bare)) + bare[26:]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("section", SECTIONS)
def test_joined_packets_give_the_same_samples(babble: Callable[..., Any], section: str, channels: int) -> None:
    signal = np.stack([babble(1.0, seed, 48_000) for seed in range(channels)], 1)
    packets = packets_of(*SECTIONS[section], signal)
    assert [packet[0] & 3 > 0 for packet in packets] == ["several" in section] * len(packets)
    assert {mode_of(packet) for packet in packets} == {section.split(",")[0]}
    content, got = check_packets([packets], 16_000, channels)
    np.testing.assert_allclose(got, by_libsndfile(content), atol=TOLERANCE)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", opus.RATES_HZ)
def test_packets_of_all_kinds_after_one_another(babble: Callable[..., Any], rate_hz: int, channels: int) -> None:
    """A page each, then all of them in an order of chance, with silence that is a byte long.

    Not beside libsndfile: its libopus 1.4 goes over from SILK to CELT and from speech to silence in another way.
    """
    signal = np.stack([babble(1.0, seed, 48_000) for seed in range(channels)], 1)
    pages = [packets_of(*section, signal) for section in SECTIONS.values()]
    mixed = [packet for page in pages for packet in page]
    random.Random(rate_hz).shuffle(mixed)
    silence = [packet[:1] for packet in mixed if not packet[0] & 3][:5]
    check_packets([*pages, mixed[:20], silence, mixed[20:60]], rate_hz, channels)


def check_packets(pages: Sequence[Sequence[bytes]], rate_hz: int, channels: int) -> tuple[bytes, Any]:
    """A file of these pages, and what is decoded from it."""
    separate = one_by_one([packet for page in pages for packet in page], rate_hz, channels)
    lengths = iter(separate)
    ends = itertools.accumulate(sum(len(next(lengths)) for _ in page) for page in pages)
    content = ogg(pages, [end * 48_000 // rate_hz for end in ends], rate_hz, channels)
    got = decode(content)
    assert got is not None
    np.testing.assert_array_equal(got, np.concatenate(separate))
    assert np.abs(got).max() > 0.01
    return content, got


def test_packets_that_go_on_on_the_next_page(babble: Callable[..., Any]) -> None:
    packets = packets_of(CELT, 20, [600, 700, 509, 510, 511, 254, 255, 256] * 6, babble(1.0, 0, 48_000)[:, None])
    body = [segment for packet in packets for segment in segments(packet)]
    cuts = [body[start : start + 7] for start in range(0, len(body), 7)]
    file, ended, going_on = head_pages(16_000, 1), 0, 0
    for index, cut in enumerate(cuts, 2):
        ended += sum(len(segment) < 255 for segment in cut)
        file += page(going_on | (opus.LAST if index == len(cuts) + 1 else 0), 960 * ended, index, cut)
        going_on = opus.CONTINUED if len(cut[-1]) == 255 else 0
    np.testing.assert_array_equal(decode(file), np.concatenate(one_by_one(packets, 16_000, 1)))


def test_how_packets_are_joined() -> None:
    """Worked example: 20 ms of CELT (0xB8), lengths of one byte and of two, and what stays as it is."""
    three = [b"\xb8" + b"x" * 3, b"\xb8" + b"y" * 252, b"\xb8" + b"z" * 700]
    joined = b"\xbb\x83" + b"\x03" + b"\xfc\x00" + b"xxx" + b"y" * 252 + b"z" * 700
    others = [b"\xb9aa", b"\xb9bb", b"\xb0c", b"", b""]
    assert list(opus._joined([*three, *others])) == [(joined, 3), *((packet, 1) for packet in others)]
    assert [packet.joined for packet in opus._joined([b"\xb8a"] * 14)] == [6, 6, 2]
    assert [packet.joined for packet in opus._joined([b"\x10a", b"\x10b"] * 2)] == [3, 1]  # SILK, 40 ms
    assert opus.FRAME_LENGTHS[255] == b"\xff\x00"
    assert opus.FRAME_LENGTHS[1_275] == b"\xff\xff"


def test_frames_that_are_too_long_are_left_to_libsndfile() -> None:
    packet = b"\xb8" + bytes(1_276)
    assert decode(ogg([[packet, packet]], [1_920], 16_000, 1)) is None


def test_joined_packets_past_the_end_are_not_decoded(babble: Callable[..., Any]) -> None:
    """The last of six packets may begin where the file says that it ends, and no later, as if each were alone."""
    packets = packets_of(CELT, 20, [60] * 6, babble(1.0, 0, 48_000)[:, None])
    decoded = {frames: decode(ogg([packets], [960 * frames], 16_000, 1)) for frames in range(1, 8)}
    assert [frames for frames, samples in decoded.items() if samples is not None] == [5, 6]
    np.testing.assert_array_equal(decoded[5], decoded[6][: 5 * 320])


# What libsndfile says of a file is known without asking it


@pytest.fixture(scope="module")
def packets(babble: Callable[..., Any]) -> list[bytes]:
    """A quarter of a second."""
    return packets_of(CELT, 20, [60] * 12, babble(1.0, 0, 48_000)[:, None])


@pytest.mark.parametrize("rate_hz", opus.RATES_HZ)
def test_as_many_samples_as_libsndfile_counts(packets: list[bytes], rate_hz: int) -> None:
    decoded = 0
    for skipped, last in itertools.product(range(310, 318), range(11_510, 11_521)):
        content = ogg([packets], [last], rate_hz, 1, head_pages(rate_hz, 1, skipped=skipped))
        got = decode(content)
        assert got is None or len(got) == len(by_libsndfile(content))
        decoded += got is not None
    assert decoded >= 8 * 11 / 2


@pytest.mark.parametrize(
    "comments",
    [
        b"OpusTags",
        b"OpusTags" + bytes(3),
        b"OpusTags" + struct.pack("<II", 1_000, 0),
        b"OpusTags" + struct.pack("<II", 0, 5),
        b"OpusTags" + struct.pack("<III", 0, 1, 100),
        b"OpusTags" + struct.pack("<II", 0xFFFF_FFFF, 0),
        b"OpusTalk" + bytes(8),
    ],
)
def test_comments_that_libsndfile_refuses_are_left_to_it(
    packets: list[bytes], comments: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "available", lambda: False)
    content = ogg([packets], [11_520], 16_000, 1, head_pages(16_000, 1, comments=comments))
    assert opus.decode(content) is None
    with pytest.raises(AudioError):
        audio.load(content)


def test_comments_and_what_follows_them(packets: list[bytes]) -> None:
    comments = b"OpusTags" + struct.pack("<I4sII3s", 4, b"test", 1, 3, b"a=b") + bytes(700)
    content = ogg([packets], [11_520], 16_000, 1, head_pages(16_000, 1, comments=comments))
    np.testing.assert_allclose(decode(content), by_libsndfile(content), atol=TOLERANCE)


def test_other_versions_and_odd_header_pages_are_left_to_libsndfile(packets: list[bytes]) -> None:
    plain = head_pages(16_000, 1)
    head, comments = [plain[28:47]], [plain[47 + 28 :]]
    heads = [
        head_pages(16_000, 1, version=3),
        page(opus.FIRST, 960, 0, head) + page(0, 0, 1, comments),
        page(opus.FIRST, 0, 0, head) + page(0, 960, 1, comments),
        page(opus.FIRST, 0, 0, head) + page(opus.CONTINUED, 0, 1, comments),
    ]
    assert [decode(ogg([packets], [11_520], 16_000, 1, other)) for other in heads] == [None] * 4
    assert decode(ogg([packets], [11_520], 16_000, 1, plain)) is not None


def test_a_short_opus_recording_is_not_opened_by_libsndfile(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfile, "SoundFile", None)
    monkeypatch.setattr("affekt.audio.decoders._ForwardFile", None)
    assert len(audio.load(content)) == 40_000


def test_other_ogg_files_are_read_from_their_beginning(babble: Callable[..., Any]) -> None:
    file = io.BytesIO()
    soundfile.write(file, babble(1.0), 16_000, format="OGG", subtype="VORBIS")
    np.testing.assert_array_equal(audio.load(file.getvalue())[:, None], by_libsndfile(file.getvalue()))


def test_loading_does_not_depend_on_it(
    content: bytes, babble: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stereo = encoded(np.stack([babble(2.5, 1, 48_000), babble(2.5, 2, 48_000)], 1), 48_000)
    (tmp_path / "a.opus").write_bytes(content)
    calls: list[Callable[[], Any]] = [
        lambda: audio.load(tmp_path / "a.opus"),
        lambda: audio.load(stereo, 16_000),
        lambda: audio.load(content, max_seconds=0.7),
        lambda: audio.load(content, start_seconds=0.5, end_seconds=1.5),
        lambda: np.concatenate(list(audio.blocks(content, block_seconds=0.3))),
    ]
    ahead = [call() for call in calls]
    monkeypatch.setattr(opus, "_library", lambda: None)
    for got, call in zip(ahead, calls, strict=True):
        np.testing.assert_allclose(got, call(), atol=TOLERANCE)


def test_it_is_used(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opus, "decode", lambda content: opus.OpusAudio(np.full((40_000, 1), 0.25, np.float32), 16_000))
    assert np.all(audio.load(content) == 0.25)
    assert not np.any(audio.load(content, start_seconds=0.5) == 0.25)


def test_damage_is_reported_as_before(content: bytes) -> None:
    half = audio.load(content[: len(content) // 2])
    assert 0 < len(half) < 40_000
    with pytest.raises(AudioError):
        audio.load(content[:100])


def test_no_recording_is_heard_in_the_next(content: bytes, babble: Callable[..., Any]) -> None:
    """Each decoder starts anew, although its memory is a copy."""
    other = encoded(babble(1.0, 5, 48_000), 48_000, 0.0)
    first = [decode(content), decode(other)]
    for again in (decode(other), decode(content)):
        np.testing.assert_array_equal(again, first.pop())


def test_all_of_a_file_is_read_that_is_longer_than_most(tmp_path: Path) -> None:
    noise = encoded(np.random.default_rng(0).uniform(-0.5, 0.5, 25 * 48_000), 48_000, 0.0)
    assert len(noise) > 3 * decoders.SHORT_BYTES
    (tmp_path / "a.opus").write_bytes(noise)
    np.testing.assert_array_equal(audio.load(tmp_path / "a.opus", 48_000), decode(noise)[:, 0])
