"""A recording is heard to its end: joined files, files without a length, and a word about what is missing."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import unittest.mock

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from affekt import audio
from affekt.audio import containers, mpeg, ogg
from affekt.audio.layout import Bytes, ByteSpan, Window
from affekt.errors import AudioError

RATE_HZ = 16_000


def voice(seconds: float, seed: int = 0, rate_hz: int = RATE_HZ, channels: int = 1) -> np.ndarray:
    """Noise whose loudness changes every quarter of a second, which makes a variable bit rate vary."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * rate_hz)
    levels = np.repeat(10 ** rng.uniform(-3, -0.5, samples // (rate_hz // 4) + 1), rate_hz // 4)[:samples]
    noise = rng.uniform(-1, 1, samples) * levels
    return (noise if channels == 1 else np.stack([noise] * channels, axis=1)).astype(np.float32)


def encoded(
    samples: np.ndarray, rate_hz: int = RATE_HZ, container: str = "WAV", encoding: str | None = None, **options: object
) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=container, subtype=encoding, **options)
    return buffer.getvalue()


def mp3(seconds: float, seed: int = 0, rate_hz: int = RATE_HZ, channels: int = 1, mode: str = "VARIABLE") -> bytes:
    return encoded(voice(seconds, seed, rate_hz, channels), rate_hz, "MP3", bitrate_mode=mode, compression_level=0.3)


def frames_of(content: bytes) -> list[bytes]:
    """The frames of an MP3 file without tags."""
    frames, position = [], 0
    while position < len(content):
        length = mpeg.mpeg_bytes(content[position : position + 4])
        assert length
        frames.append(content[position : position + length])
        position += length
    return frames


def without_counter(content: bytes) -> bytes:
    """An MP3 file without the frame that counts the others, as encoders write into pipes."""
    first, *others = frames_of(content)
    assert b"Xing" in first or b"Info" in first
    return b"".join(others)


def by_soundfile(content: bytes) -> np.ndarray:
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        return np.asarray(file.read(dtype="float32"))


# MP3


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE", "AVERAGE"])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_ordinary_mp3_is_what_libsndfile_decodes(mode: str, rate_hz: int, channels: int) -> None:
    content = mp3(3.0, 1, rate_hz, channels, mode)
    expected = by_soundfile(content)
    samples = audio.load(content, rate_hz, channels="each" if channels == 2 else "mix")
    np.testing.assert_array_equal(samples, expected.T)
    assert audio.probe(content).frames == len(expected)


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_a_variable_bit_rate_without_a_count_is_heard_to_its_end(
    rate_hz: int, caplog: pytest.LogCaptureFixture
) -> None:
    loud_then_soft = np.concatenate([voice(1.0, 1, rate_hz), 1e-3 * voice(5.0, 2, rate_hz)])
    for samples in (loud_then_soft, loud_then_soft[::-1].copy()):
        content = without_counter(encoded(samples, rate_hz, "MP3", bitrate_mode="VARIABLE", compression_level=0.3))
        heard = audio.load(content, rate_hz)
        assert 6 * rate_hz <= len(heard) < 6.2 * rate_hz
        assert audio.probe(content).frames == len(heard)
        delay = int(np.argmax(np.correlate(heard[: 2 * rate_hz], samples[:rate_hz], "valid")))
        assert np.corrcoef(heard[delay : delay + len(samples)][: len(heard)], samples[: len(heard) - delay])[0, 1] > 0.8
    assert not caplog.records


def test_a_part_of_it_is_the_slice_of_the_whole() -> None:
    content = without_counter(mp3(8.0))
    whole = audio.load(content)
    for start in (0.5, 3.3, 6.9):
        part = audio.load(content, start_seconds=start, end_seconds=start + 1)
        np.testing.assert_allclose(part, whole[round(start * RATE_HZ) :][:RATE_HZ], atol=1e-5)
    with pytest.raises(AudioError, match=r"start at 20\.000 s, expected less than its length, 8\."):
        audio.load(content, start_seconds=20.0)


def test_a_count_of_zero_or_too_few_is_corrected() -> None:
    content = mp3(4.0)
    at = content.index(b"Xing") + 8
    expected = audio.load(content)
    for count in (0, 10):
        patched = content[:at] + count.to_bytes(4, "big") + content[at + 4 :]
        np.testing.assert_array_equal(audio.load(patched), expected)


def test_mp3_from_a_pipe() -> None:
    content = without_counter(mp3(4.0))
    readable, writable = os.pipe()
    with os.fdopen(writable, "wb") as pipe:
        pipe.write(content)
    with os.fdopen(readable, "rb") as pipe:
        np.testing.assert_array_equal(audio.load(pipe), audio.load(content))


ID3 = b"ID3\x04\0\0\0\0\x02\0" + bytes(256)
ID3V1 = b"TAG" + b"title".ljust(125, b"\0")
APE = b"APETAGEX\xd0\x07\0\0" + (32 + 700).to_bytes(4, "little") + bytes(4) + b"\0\0\0\xa0" + bytes(8) + bytes(732)


@pytest.mark.parametrize("before", [b"", ID3])
@pytest.mark.parametrize("after", [b"", ID3V1, APE, APE + ID3V1])
def test_joined_mp3_files_are_each_decoded(before: bytes, after: bytes, caplog: pytest.LogCaptureFixture) -> None:
    one, two, three = mp3(2.0, 1), mp3(3.0, 2, mode="CONSTANT"), mp3(1.5, 3)
    content = b"".join(before + part + after for part in (one, two, three))
    expected = np.concatenate([audio.load(part) for part in (one, two, three)])
    np.testing.assert_array_equal(audio.load(content), expected)
    assert audio.probe(content).frames == len(expected)
    np.testing.assert_allclose(
        audio.load(content, start_seconds=4.0, end_seconds=6.0), expected[64_000:96_000], atol=1e-6
    )
    assert not caplog.records


def test_joined_mp3_files_of_different_formats() -> None:
    one, two = mp3(2.0, 1, 44_100, 2), mp3(2.0, 2, 16_000)
    samples = audio.load(one + two)
    np.testing.assert_array_equal(samples[:30_000], audio.load(one)[:30_000])
    assert len(samples) == pytest.approx(4 * RATE_HZ, abs=0.05 * RATE_HZ)
    assert np.corrcoef(samples[-20_000:-1_000], audio.load(two)[-20_000:-1_000])[0, 1] > 0.98


def test_joined_files_without_counts_are_one_stream() -> None:
    one, two = (without_counter(mp3(2.0, seed)) for seed in (1, 2))
    assert len(audio.load(one + two)) == len(audio.load(one)) + len(audio.load(two))


@pytest.mark.parametrize("counted", [True, False])
def test_a_cut_mp3_is_named(counted: bool, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    content = mp3(6.0) if counted else without_counter(mp3(6.0))
    samples = audio.load(content[: len(content) // 3 + 7])
    assert RATE_HZ < len(samples) < 5 * RATE_HZ
    assert "breaks off: got" in caplog.text
    assert ("expected 6." in caplog.text) == counted
    assert capfd.readouterr().err == ""  # of libmpg123


def test_mp2_is_read() -> None:
    av = pytest.importorskip("av", reason="PyAV encodes the input: pip install 'affekt[containers]'")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp2") as file:
        stream = file.add_stream("mp2", rate=RATE_HZ, layout="mono")
        frame = av.AudioFrame.from_ndarray((voice(2.0)[None] * 32_767).astype(np.int16), format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        resampler = av.AudioResampler("s16", "mono", RATE_HZ, frame_size=1_152)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    samples = audio.load(buffer.getvalue())
    assert 2 * RATE_HZ <= len(samples) < 2.2 * RATE_HZ
    assert len(audio.load(buffer.getvalue() * 2)) == 2 * len(samples)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_anywhere_raises_or_delivers(data: st.DataObject) -> None:
    content = bytearray(DAMAGED[data.draw(st.sampled_from(sorted(DAMAGED)))])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["replace", "cut", "insert"]))
        if kind == "replace":
            content[at : at + 8] = data.draw(st.binary(min_size=1, max_size=8))
        elif kind == "insert":
            content[at:at] = data.draw(st.binary(max_size=64))
        elif at:
            del content[at:]
    with contextlib.suppress(AudioError):
        assert np.isfinite(audio.load(bytes(content))).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1 << 14), st.binary(max_size=8)), max_size=4), st.integers(1, 1 << 14))
def test_frames_are_counted_in_the_quick_loop_as_one_by_one(edits: list[tuple[int, bytes]], length: int) -> None:
    content = bytearray(DAMAGED["mp3"] + ID3V1 + DAMAGED["mp3"])
    for at, replaced in edits:
        content[at : at + len(replaced)] = replaced
    data = bytes(content[:length])
    quick = mpeg.lay_out(Bytes(io.BytesIO(data)))
    with unittest.mock.patch.object(mpeg, "_skip_alike", lambda _, position, __: position):
        assert mpeg.lay_out(Bytes(io.BytesIO(data))) == quick


# Ogg


@pytest.mark.parametrize("encoding", ["OPUS", "VORBIS"])
@pytest.mark.parametrize("seconds", [1.0, 70.0])
def test_chained_ogg_files_are_each_decoded(encoding: str, seconds: float, caplog: pytest.LogCaptureFixture) -> None:
    links = [
        encoded(voice(length, seed), container="OGG", encoding=encoding)
        for seed, length in enumerate((seconds, 2.0, 0.5))
    ]
    expected = np.concatenate([audio.load(link) for link in links])
    samples = audio.load(b"".join(links))
    np.testing.assert_allclose(samples, expected, atol=1e-6)
    assert audio.probe(b"".join(links)).frames == len(expected)
    part = audio.load(b"".join(links), start_seconds=seconds + 0.5, end_seconds=seconds + 1.5)
    np.testing.assert_allclose(part, expected[round((seconds + 0.5) * RATE_HZ) :][:RATE_HZ], atol=1e-4)
    assert not caplog.records


def test_links_of_different_rates_and_channels() -> None:
    one = encoded(voice(1.0, 1, 48_000, 2), 48_000, "OGG", "VORBIS")
    two = encoded(voice(1.0, 2), container="OGG", encoding="VORBIS")
    samples = audio.load(one + two, channels="each")
    assert samples.shape == (2, 2 * RATE_HZ)
    assert np.corrcoef(samples[0, RATE_HZ + 500 : -500], audio.load(two)[500:-500])[0, 1] > 0.95


def ogg_pages(content: bytes) -> list[bytes]:
    starts = [at for at in range(len(content)) if content.startswith(b"OggS\0", at)]
    return [content[start:stop] for start, stop in itertools.pairwise([*starts, len(content)])]


@pytest.mark.parametrize("encoding", ["OPUS", "VORBIS"])
def test_ogg_without_its_last_page_is_named(encoding: str, caplog: pytest.LogCaptureFixture) -> None:
    pages = ogg_pages(encoded(voice(20.0), container="OGG", encoding=encoding))
    assert len(audio.load(b"".join(pages[:-1]))) > 5 * RATE_HZ
    assert "its end is missing; what is there is used" in caplog.text


def test_ogg_that_ends_in_its_head_is_named() -> None:
    content = encoded(voice(2.0), container="OGG", encoding="VORBIS")
    with pytest.raises(AudioError, match="an Ogg file that breaks off before its sound can be read"):
        audio.load(content[:1_500])


def page(body: bytes, flags: int, granule: int, serial: int, sequence: int) -> bytes:
    """One page of a single packet (RFC 3533, section 6)."""
    lacing = bytes([255] * (len(body) // 255)) + bytes([len(body) % 255])
    head = b"OggS\0" + bytes([flags]) + granule.to_bytes(8, "little") + serial.to_bytes(4, "little")
    head += sequence.to_bytes(4, "little") + bytes(4) + bytes([len(lacing)]) + lacing
    checksum = 0
    for byte in head + body:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1 ^ (0x04C11DB7 if checksum & 1 << 31 else 0)) & 0xFFFFFFFF
    return head[:22] + checksum.to_bytes(4, "little") + head[26:] + body


def flac_in_ogg(flac: bytes, serial: int = 7, last: int = ogg.LAST) -> bytes:
    """A FLAC file in Ogg's mapping: its head, its comments, then frames, which may be cut anywhere for a decoder."""
    pages = [page(b"\x7fFLAC\1\0\0\1" + flac[:42], ogg.FIRST, 0, serial, 0)]
    pieces = [flac[start : start + 3_000] for start in range(42, len(flac), 3_000)]
    for index, piece in enumerate(pieces):
        pages.append(page(piece, last if index == len(pieces) - 1 else 0, index, serial, index + 1))
    return b"".join(pages)


@pytest.mark.parametrize("pyav", [True, False])
def test_flac_in_ogg_is_decoded(pyav: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    if not pyav:
        monkeypatch.setattr(containers, "available", lambda: False)
    flac = encoded(voice(3.0), container="FLAC")
    np.testing.assert_array_equal(audio.load(flac_in_ogg(flac)), audio.load(flac))
    info = audio.probe(flac_in_ogg(flac))
    assert (info.frames, info.container) == (3 * RATE_HZ, "OGG")
    np.testing.assert_array_equal(audio.load(flac_in_ogg(flac) + flac_in_ogg(flac, 8)), np.tile(audio.load(flac), 2))
    assert not caplog.records
    audio.load(flac_in_ogg(flac)[:-4_000])
    assert "breaks off: got" in caplog.text


# WAV and the like


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF - 36])
def test_the_sizes_of_streaming_writers_are_no_fault(size: int, caplog: pytest.LogCaptureFixture) -> None:
    content = bytearray(encoded(voice(2.0)))
    content[4:8] = (size + 36 & 0xFFFFFFFF).to_bytes(4, "little")
    content[40:44] = size.to_bytes(4, "little")
    np.testing.assert_array_equal(audio.load(bytes(content)), audio.load(encoded(voice(2.0))))
    assert not caplog.records


@pytest.mark.parametrize("container", ["WAV", "AIFF", "AU", "W64", "CAF", "NIST"])
@pytest.mark.parametrize("encoding", ["PCM_16", "ULAW"])
def test_a_little_is_missing(container: str, encoding: str, caplog: pytest.LogCaptureFixture) -> None:
    content = encoded(voice(4.0), container=container, encoding=encoding)
    audio.load(content)
    assert not caplog.records
    audio.load(content[:-1_000])
    assert "breaks off: got 3.9" in caplog.text


def test_chunks_after_the_data_are_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    content = encoded(voice(1.0))
    for following in (b"LIST\x04\0\0\0INFO", b"id3 \x04\0\0\0ID3\0", ID3, ID3V1, bytes(5_000)):
        np.testing.assert_array_equal(audio.load(content + following), audio.load(content))
    assert not caplog.records


@pytest.mark.parametrize("between", [b"", b"LIST\x04\0\0\0INFO"])
def test_joined_wav_files_are_each_decoded(between: bytes, caplog: pytest.LogCaptureFixture) -> None:
    one, two = voice(1.0, 1), voice(2.0, 2, 8_000)
    content = encoded(one) + between + encoded(two, 8_000)
    samples = audio.load(content)
    np.testing.assert_array_equal(samples[:RATE_HZ], audio.load(encoded(one)))
    np.testing.assert_allclose(samples[RATE_HZ:], audio.load(encoded(two, 8_000)), atol=1e-6)
    assert not caplog.records


def test_sound_after_the_stated_end_is_said(caplog: pytest.LogCaptureFixture) -> None:
    content = bytearray(encoded(voice(10.0)))
    content[40:44] = (2 * RATE_HZ).to_bytes(4, "little")
    assert len(audio.load(bytes(content))) == RATE_HZ
    assert "got 1.000 s; not heard: 288000 bytes after the end of the sound that its header states" in caplog.text


@pytest.mark.parametrize("container", ["W64", "CAF", "WAV", "AIFF"])
def test_sizes_beyond_all_files_deliver_what_is_there(container: str) -> None:
    content = encoded(voice(1.0), container=container)
    data = {"W64": b"data\xf3\xac", "CAF": b"data", "WAV": b"data", "AIFF": b"SSND"}[container]
    at = content.index(data) + (16 if container == "W64" else 4)
    width = 8 if container in ("W64", "CAF") else 4
    for claimed in (2 ** (8 * width) - 1, 2 ** (8 * width - 1) - 1, 2 ** (8 * width - 1)):
        order = "little" if container in ("W64", "WAV") else "big"
        with contextlib.suppress(AudioError):  # libsndfile refuses some
            assert (
                len(audio.load(content[:at] + claimed.to_bytes(width, order) + content[at + width :])) > 0.9 * RATE_HZ
            )


def test_joined_flac_files_are_each_decoded(caplog: pytest.LogCaptureFixture) -> None:
    one, two = (encoded(voice(2.0, seed), container="FLAC") for seed in (1, 2))
    np.testing.assert_array_equal(audio.load(one + two), np.concatenate([audio.load(one), audio.load(two)]))
    assert not caplog.records


@pytest.mark.parametrize("container", ["AIFF", "AU", "W64", "NIST", "CAF"])
def test_other_joined_files_are_each_decoded(container: str, caplog: pytest.LogCaptureFixture) -> None:
    parts = [encoded(voice(seconds, 1), container=container) for seconds in (1.0, 2.0, 0.3)]
    np.testing.assert_array_equal(audio.load(b"".join(parts)), np.concatenate([audio.load(part) for part in parts]))
    assert not caplog.records
    audio.load(b"".join(parts)[:-2_000])
    assert "breaks off: got 3.2" in caplog.text


def test_damage_in_the_middle_is_said(caplog: pytest.LogCaptureFixture) -> None:
    content = encoded(voice(10.0), container="FLAC")
    samples = audio.load(content[: len(content) // 2] + bytes(50_000) + content[len(content) // 2 :])
    with caplog.at_level(logging.WARNING):
        assert len(samples) < 10 * RATE_HZ
    assert "breaks off: got" in caplog.text


# Streams


@given(st.binary(min_size=1, max_size=40), st.data())
def test_a_window_is_a_slice_with_its_patch(content: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(content)))
    stop = data.draw(st.integers(start, len(content)))
    patch = data.draw(st.binary(max_size=stop - start))
    at = data.draw(st.integers(0, stop - start - len(patch)))
    expected = bytearray(content[start:stop])
    expected[at : at + len(patch)] = patch
    window = Window(io.BytesIO(content), ByteSpan(start, stop, patch, at))
    for _ in range(5):
        position, size = data.draw(st.integers(0, 45)), data.draw(st.integers(0, 45))
        assert window.seek(position) == position
        assert window.read(size) == expected[position : position + size]


@given(st.binary(max_size=60), st.lists(st.tuples(st.integers(0, 70), st.integers(0, 20)), max_size=6))
def test_random_access(content: bytes, places: list[tuple[int, int]]) -> None:
    held = Bytes(io.BytesIO(content))
    for position, size in places:
        assert held.at(position, size, ahead=8) == content[position : position + size]
    found = content.find(b"\1\2", 3)
    assert held.find(b"\1\2", 3) == (len(content) if found < 0 else found)


DAMAGED = {
    "mp3": mp3(1.0, 1) + mp3(1.0, 2),
    "opus": encoded(voice(1.0, 1), container="OGG", encoding="OPUS") * 2,
    "wav": encoded(voice(0.1, 1)) * 2,
    "flac": flac_in_ogg(encoded(voice(0.3, 1), container="FLAC")),
}
