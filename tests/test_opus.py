"""Oracle: libsndfile, which decodes the same files by a libopus of its own; and what is left to it."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from affekt import audio, opus
from affekt.errors import AudioError

TOLERANCE = 1e-5
"""Both decode in float32, in another order of operations."""

pytestmark = pytest.mark.skipif(not opus.version(), reason="no libopus on this machine")


def encoded(samples: Any, rate_hz: int, quality: float = 0.5) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="OGG", subtype="OPUS", compression_level=quality)
    return file.getvalue()


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
    got = opus.decode(content)
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
        got = opus.decode(content)
        assert got is not None
        np.testing.assert_allclose(got, by_libsndfile(content), atol=TOLERANCE)


@pytest.mark.parametrize("seconds", [0.001, 0.02, 2.5])
def test_recordings_of_any_length_and_silence(seconds: float) -> None:
    content = encoded(np.zeros(round(16_000 * seconds)), 16_000)
    got = opus.decode(content)
    assert got is not None
    np.testing.assert_allclose(got, by_libsndfile(content), atol=TOLERANCE)


@pytest.fixture(scope="module")
def content(babble: Callable[..., Any]) -> bytes:
    return encoded(babble(2.5), 16_000)


def test_what_is_not_whole_is_left_to_libsndfile(content: bytes) -> None:
    assert opus.decode(content) is not None
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for damaged in (bytes(flipped), content[:-1], content[: len(content) // 2], content[50:], content + b"more", b""):
        assert opus.decode(damaged) is None


def test_what_is_not_plain_is_left_to_libsndfile(content: bytes) -> None:
    assert opus.decode(content + content) is None  # one stream after the other
    for place, value in ((16, 1), (12, 22_050), (9, 3), (18, 1)):  # gain, rate, channels, mapping
        assert opus.decode(patched_header(content, place, value)) is None


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
    assert opus.decode(head + page) is None


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
    monkeypatch.setattr(opus, "decode", lambda content: np.full((40_000, 1), 0.25, np.float32))
    assert np.all(audio.load(content) == 0.25)
    monkeypatch.setattr(opus, "decode", lambda content: np.full((39_999, 1), 0.25, np.float32))  # another length
    assert not np.any(audio.load(content) == 0.25)


def test_damage_is_reported_as_before(content: bytes) -> None:
    half = audio.load(content[: len(content) // 2])
    assert 0 < len(half) < 40_000
    with pytest.raises(AudioError):
        audio.load(content[:100])
