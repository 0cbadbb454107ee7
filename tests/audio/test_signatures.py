"""Kinds of file by their first bytes, and raw streams that are such files."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from affekt.audio.raw import RawGuard
from affekt.audio.signatures import BEGINNING_BYTES, ac3_bytes, id3_bytes, kind_in, kind_of, mpeg_bytes, mpeg_samples
from affekt.errors import AudioError

RATE_HZ = 16_000


def encoded(container: str, encoding: str | None = None) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, RATE_HZ)
    soundfile.write(buffer, noise, RATE_HZ, format=container, subtype=encoding)
    return buffer.getvalue()


ADTS_FRAME = bytes.fromhex("fff15040021ffc") + bytes(9)  # 16 bytes
FILES = {
    "a WAV file": encoded("WAV"),
    "a FLAC file": encoded("FLAC"),
    "an Ogg file": encoded("OGG", "OPUS"),
    "an MP3 file": encoded("MP3"),
    "a W64 file": encoded("W64"),
    "an AIFF file": encoded("AIFF"),
    "an AU file": encoded("AU"),
    "a CAF file": encoded("CAF"),
    "a NIST SPHERE file": encoded("NIST"),
    "a VOC file": encoded("VOC"),
    "a WebM or Matroska file (webm, mkv, mka)": bytes.fromhex("1a45dfa39f4286810142f7810142f281"),
    "an MP4 or QuickTime file (mp4, m4a, mov, 3gp)": b"\0\0\0\x1cftypM4A \0\0\0\0" + bytes(99),
    "an AMR file": b"#!AMR-WB\n" + bytes(99),
    "an AAC file": ADTS_FRAME * 3,
    "an AVI file": b"RIFF\0\0\1\0AVI LIST" + bytes(99),
    "a Windows Media file (wma, wmv, asf)": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
    "an MPEG transport stream (ts, mts)": (b"\x47" + bytes(187)) * 6,
    "a SILK recording (WeChat, QQ)": b"\x02#!SILK_V3" + bytes(99),
}


@pytest.mark.parametrize("name", FILES)
def test_kinds_by_content(name: str) -> None:
    kind = kind_in(io.BytesIO(FILES[name]))
    assert kind is not None
    assert kind.name == name


def test_the_file_behind_an_id3_tag_decides() -> None:
    tag = b"ID3\x04\0\0\0\0\x28\0" + bytes(0x28 << 7)
    assert id3_bytes(tag) == len(tag)
    for name in ("an AAC file", "a FLAC file", "an MP3 file"):
        kind = kind_in(io.BytesIO(tag + FILES[name]))
        assert kind is not None
        assert kind.name == name
    unknown = kind_in(io.BytesIO(tag + bytes(100)))
    assert unknown is not None
    assert unknown.name == "an MP3 file"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", [1, 7, 640, 1 << 20])
def test_a_raw_stream_that_is_a_file_is_refused(name: str, size: int) -> None:
    guard, content = RawGuard(), FILES[name] + bytes(16)
    passed: list[bytes] = []
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    with pytest.raises(AudioError, match="expected raw PCM samples without a header; decode it first: ffmpeg") as error:
        passed.extend(map(guard.feed, pieces))
    assert name in str(error.value)
    assert not any(passed)


@given(st.binary(max_size=2 * BEGINNING_BYTES), st.integers(1, 5_000))
def test_samples_pass_unchanged_however_they_are_cut(content: bytes, size: int) -> None:
    guard = RawGuard()
    if kind_of(content) is not None:
        return
    passed = b"".join(guard.feed(content[start : start + size]) for start in range(0, len(content), size))
    assert passed + guard.rest() == content


@pytest.mark.parametrize("level", [1, 30, 3_000, 32_000])
def test_noise_of_any_level_is_no_file(level: int) -> None:
    rng = np.random.default_rng(level)
    for _ in range(300):
        noise = rng.integers(-level, level, BEGINNING_BYTES // 2, dtype="<i2").tobytes()
        assert kind_of(noise) is None
        assert len(RawGuard().feed(noise)) == len(noise)


def test_frames_of_mpeg_audio() -> None:
    """The arithmetic of ISO/IEC 11172-3, section 2.4.3.1: 144 x 128,000 / 44,100 = 417.96 bytes in a frame."""
    assert (mpeg_bytes(bytes.fromhex("fffb9000")), mpeg_samples(bytes.fromhex("fffb9000"))) == (417, 1_152)
    assert mpeg_bytes(bytes.fromhex("fffb9200")) == 418  # padded
    assert (mpeg_bytes(bytes.fromhex("fff38000")), mpeg_samples(bytes.fromhex("fff38000"))) == (208, 576)  # MPEG 2
    assert (mpeg_bytes(bytes.fromhex("fffd8000")), mpeg_samples(bytes.fromhex("fffd8000"))) == (417, 1_152)  # layer II
    for none in ("fffbf000", "fffb0000", "fffb9c00", "ffeb9000", "00000000"):
        assert mpeg_bytes(bytes.fromhex(none)) == 0


def test_frames_of_ac3() -> None:
    """ATSC A/52, table 5.18: 192 kbit/s are 384 words at 48 kHz."""
    assert ac3_bytes(bytes.fromhex("0b7700001440")) == 768
    assert ac3_bytes(bytes(4)) == 0
