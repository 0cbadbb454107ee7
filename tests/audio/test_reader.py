"""Audio input: every format, rate and channel count gives the same sound; every fault gives a clear AudioError."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from affekt import audio
from affekt.errors import AudioError

RATE_HZ = 16_000


def tone(seconds: float = 1.0, rate_hz: int = RATE_HZ, hz: float = 440.0, peak: float = 0.5) -> np.ndarray:
    """A sine that starts and ends softly, so that codecs and resamplers have no edge to smear."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    fade = np.minimum(1.0, np.minimum(time, seconds - time) / 0.05)
    return (peak * fade * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def encoded(samples: np.ndarray, rate_hz: int = RATE_HZ, container: str = "WAV", encoding: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=container, subtype=encoding)
    return buffer.getvalue()


def fault(error: pytest.ExceptionInfo[AudioError]) -> str:
    """The one line of an error; its parts are checked by substring."""
    assert len(error.value.faults) == 1
    return str(error.value)


# What is read


@pytest.mark.parametrize(
    ("container", "encoding", "tolerance"),
    [
        ("WAV", "PCM_U8", 2**-7),
        ("WAV", "PCM_16", 2**-15),
        ("WAV", "PCM_24", 2**-23),
        ("WAV", "FLOAT", 0.0),
        ("WAV", "DOUBLE", 0.0),
        ("WAV", "ULAW", 0.02),
        ("AIFF", "PCM_16", 2**-15),
        ("FLAC", "PCM_24", 2**-23),
        ("W64", "PCM_16", 2**-15),
        ("CAF", "PCM_16", 2**-15),
        ("AU", "PCM_16", 2**-15),
        ("OGG", "VORBIS", 0.05),
        ("OGG", "OPUS", 0.05),
        ("MP3", "MPEG_LAYER_III", 0.05),
    ],
)
def test_every_container_gives_the_same_sound(container: str, encoding: str, tolerance: float) -> None:
    data = encoded(tone(), container=container, encoding=encoding)
    samples = audio.load(data, RATE_HZ)
    assert samples.dtype == np.float32
    assert abs(len(samples) - RATE_HZ) <= 0.05 * RATE_HZ  # mp3 pads at its ends
    inner = slice(500, 15_500)  # codecs have their own ideas of where a sound begins and ends
    np.testing.assert_allclose(samples[inner], tone()[inner], rtol=0, atol=tolerance)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 24_000, 44_100, 48_000, 96_000, 192_000])
def test_any_rate_is_resampled_to_the_same_tone(rate_hz: int) -> None:
    samples = audio.load(encoded(tone(rate_hz=rate_hz), rate_hz, encoding="FLOAT"), RATE_HZ)
    assert len(samples) == RATE_HZ
    np.testing.assert_allclose(samples, tone(), rtol=0, atol=2e-3)


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_channels_are_averaged(channels: int) -> None:
    gains = np.linspace(0.2, 1.0, channels, dtype=np.float32)
    samples = audio.load(encoded(tone()[:, None] * gains, encoding="FLOAT"))
    np.testing.assert_allclose(samples, tone() * gains.mean(), rtol=0, atol=1e-6)


def test_sources_of_every_kind_give_the_same_samples(tmp_path: Path) -> None:
    data = encoded(tone())
    path = tmp_path / "Ä file with spaces.WAV"
    path.write_bytes(data)
    expected = audio.load(data)
    readable, writable = os.pipe()
    with os.fdopen(writable, "wb") as pipe:
        pipe.write(data)
    with os.fdopen(readable, "rb") as pipe, path.open("rb") as stream:
        stream.seek(100)  # a stream is read from its start, wherever it stands
        for source in (path, str(path), stream, io.BytesIO(data), pipe):
            np.testing.assert_array_equal(audio.load(source), expected)


def test_content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "really_aiff.wav"
    path.write_bytes(encoded(tone(), container="AIFF"))
    assert audio.probe(path).container == "AIFF"
    np.testing.assert_allclose(audio.load(path), tone(), atol=2**-15)


@pytest.mark.parametrize("encoding", [("WAV", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
@pytest.mark.parametrize("channels", [1, 2])
def test_reading_gives_what_probe_and_load_do(encoding: tuple[str, str], channels: int) -> None:
    data = encoded(np.tile(tone(1.3, 24_000)[:, None], channels), 24_000, *encoding)
    with audio.reading(data) as recording:
        samples = np.concatenate(list(recording.parts()))
    assert recording.info == audio.probe(data)
    np.testing.assert_array_equal(samples, audio.load(data, 24_000))


def test_reading_nothing() -> None:
    with audio.reading(encoded(np.zeros(0, np.float32))) as recording:
        assert recording.info.frames == 0
        with pytest.raises(AudioError, match="no samples"):
            list(recording.parts())


def test_probe_reads_the_header() -> None:
    info = audio.probe(encoded(np.zeros((44_100, 2), np.float32), 44_100, "FLAC", "PCM_24"))
    assert info == audio.AudioInfo(44_100, 2, 44_100, 1.0, "FLAC", "PCM_24")


def test_a_part_is_the_slice_of_the_whole() -> None:
    data = encoded(tone(2.0), encoding="FLOAT")
    whole = audio.load(data)
    np.testing.assert_array_equal(audio.load(data, start_seconds=0.5, end_seconds=1.25), whole[8_000:20_000])
    np.testing.assert_array_equal(audio.load(data, start_seconds=1.5, end_seconds=99.0), whole[24_000:])
    np.testing.assert_array_equal(audio.load(data, start_seconds=0.5, max_seconds=0.1), whole[8_000:9_600])
    np.testing.assert_array_equal(audio.load(data, end_seconds=0.2, max_seconds=0.5), whole[:3_200])


@pytest.mark.parametrize(("container", "encoding"), [("OGG", "OPUS"), ("OGG", "VORBIS"), ("FLAC", None)])
def test_a_part_of_a_compressed_file_is_sought_exactly(container: str, encoding: str | None) -> None:
    data = encoded(tone(3.0, hz=300.0), container=container, encoding=encoding)
    part = audio.load(data, start_seconds=1.0, end_seconds=2.0)
    np.testing.assert_allclose(part, audio.load(data)[16_000:32_000], rtol=0, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    rate_hz=st.sampled_from([8_000, 16_000, 22_050, 44_100]),
    frames=st.integers(100, 40_000),
    block_seconds=st.floats(0.01, 3.0),
)
def test_blocks_joined_are_what_load_returns(rate_hz: int, frames: int, block_seconds: float) -> None:
    noise = np.random.default_rng(frames).uniform(-0.5, 0.5, (frames, 2)).astype(np.float32)
    data = encoded(noise, rate_hz, encoding="FLOAT")
    parts = list(audio.blocks(data, RATE_HZ, block_seconds))
    assert {len(part) for part in parts[:-1]} <= {round(block_seconds * RATE_HZ)}
    assert 0 < len(parts[-1]) <= round(block_seconds * RATE_HZ)
    np.testing.assert_array_equal(np.concatenate(parts), audio.load(data, RATE_HZ))


def test_resampling_agrees_with_one_pass_of_soxr() -> None:
    import soxr

    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 70_001).astype(np.float32)
    np.testing.assert_array_equal(
        audio.load(encoded(noise, 44_100, encoding="FLOAT")), soxr.resample(noise, 44_100, RATE_HZ)
    )


# Headers that lie and files that break off


@pytest.mark.parametrize("claimed", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_header_that_claims_gigabytes_delivers_what_is_there(claimed: int) -> None:
    data = bytearray(encoded(tone()))
    data[4:8] = data[40:44] = claimed.to_bytes(4, "little")
    np.testing.assert_array_equal(audio.load(bytes(data)), audio.load(encoded(tone())))


def flac_that_claims(frames: int) -> bytes:
    """A FLAC file whose 36-bit count of frames is replaced; 0 means unknown."""
    data = bytearray(encoded(tone(), container="FLAC"))
    data[21] = data[21] & 0xF0 | frames >> 32
    data[22:26] = (frames & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(data)


def test_a_header_without_a_length_loses_no_sample(caplog: pytest.LogCaptureFixture) -> None:
    info = audio.probe(flac_that_claims(0))
    assert (info.frames, info.duration_seconds) == (None, None)
    np.testing.assert_array_equal(audio.load(flac_that_claims(0)), audio.load(flac_that_claims(RATE_HZ)))
    assert not caplog.records


def test_a_header_that_claims_too_much_is_named(caplog: pytest.LogCaptureFixture) -> None:
    np.testing.assert_array_equal(audio.load(flac_that_claims(2**36 - 1)), audio.load(flac_that_claims(RATE_HZ)))
    assert "breaks off: got 1.000 s" in caplog.text


@pytest.mark.parametrize("container", ["WAV", "FLAC", "MP3", "OGG", "AIFF", "AU", "W64", "CAF", "NIST"])
def test_a_truncated_file_delivers_its_beginning(container: str, caplog: pytest.LogCaptureFixture) -> None:
    chirp = (tone(20.0) * tone(20.0, hz=37.0) * 2).astype(np.float32)
    data = encoded(chirp, container=container)
    samples = audio.load(data[: len(data) // 2])
    assert 5 * RATE_HZ < len(samples) < 15 * RATE_HZ
    np.testing.assert_allclose(samples[:8_000], chirp[:8_000], rtol=0, atol=0.05)
    assert "breaks off: got" in caplog.text
    with audio.reading(data[: len(data) // 2]) as recording:
        assert sum(map(len, recording.parts())) > 5 * RATE_HZ
    assert recording.breaks_off
    caplog.clear()
    audio.load(data)
    audio.load(data[: len(data) // 2], max_seconds=1.0)
    assert not caplog.records


# Faults


def test_text_named_wav(tmp_path: Path) -> None:
    path = tmp_path / "text.wav"
    path.write_text("this is not audio\n" * 100)
    with pytest.raises(AudioError) as error:
        audio.load(path)
    assert "text.wav: got no audio that can be decoded" in fault(error)


def test_missing_empty_and_directory(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    for name, got in {"missing.wav": "No such file: ", "empty.wav": "an empty file", ".": "a directory"}.items():
        with pytest.raises(AudioError) as error:
            audio.probe(tmp_path / name)
        assert got in fault(error)
        assert str(tmp_path) in fault(error)


def test_devices_and_pipes_never_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.wav"))
        for path in (tmp_path / "pipe.wav", tmp_path / "socket.wav", Path("/dev/zero")):
            with pytest.raises(AudioError) as error:
                audio.load(path)
            assert "a device, pipe or socket" in fault(error)


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.wav"
    path.write_bytes(encoded(tone()))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(AudioError) as error:
        audio.load(path)
    assert "locked.wav: got Permission denied" in fault(error)


@pytest.mark.parametrize("path", ["a\0b.wav", "x" * 300])
def test_impossible_paths(path: str) -> None:
    with pytest.raises(AudioError) as error:
        audio.load(path)
    assert "expected a readable audio file" in fault(error)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_located(bad: float) -> None:
    samples = tone()
    samples[12_000] = bad
    with pytest.raises(AudioError) as error:
        audio.load(encoded(samples, encoding="FLOAT"))
    assert "NaN or infinity at 0.750 s" in fault(error)


def test_no_samples() -> None:
    for data in (encoded(np.zeros(0)), encoded(np.zeros(1), 192_000)):  # one sample at 192 kHz is none at 16 kHz
        with pytest.raises(AudioError) as error:
            audio.load(data)
        assert "got no samples" in fault(error)
        with pytest.raises(AudioError):
            list(audio.blocks(data))


def test_damage_before_the_first_sample() -> None:
    data = encoded(tone(), container="FLAC")
    with pytest.raises(AudioError) as error:
        audio.load(data[:100])
    assert "damaged audio" in fault(error)


def test_raw_samples_ask_for_a_header(tmp_path: Path) -> None:
    path = tmp_path / "samples.raw"
    path.write_bytes(bytes(1_000))
    with pytest.raises(AudioError) as error:
        audio.load(path)
    assert "raw samples without a header" in fault(error)
    path.write_bytes(encoded(tone()))  # the content decides
    np.testing.assert_array_equal(audio.load(path), audio.load(encoded(tone())))


@pytest.mark.parametrize("rate_hz", [1, 100_000_000])
def test_rates_beyond_reason_are_refused_before_resampling(rate_hz: int) -> None:
    data = bytearray(encoded(tone()))
    data[24:28] = rate_hz.to_bytes(4, "little")
    with pytest.raises(AudioError) as error:
        audio.load(bytes(data))
    assert f"sample rate: got {rate_hz} Hz" in fault(error)
    with pytest.raises(AudioError, match="wanted sample rate"):
        audio.load(encoded(tone()), rate_hz)


@pytest.mark.parametrize(
    "times",
    [
        {"start_seconds": -1.0},
        {"start_seconds": np.nan},
        {"start_seconds": 2.0, "end_seconds": 1.0},
        {"max_seconds": 0.0},
        {"end_seconds": np.nan},
    ],
)
def test_impossible_times(times: dict[str, float]) -> None:
    with pytest.raises(AudioError, match="times: got"):
        audio.load(encoded(tone()), **times)


def test_a_start_past_the_end_names_the_length() -> None:
    with pytest.raises(AudioError, match=r"start at 1\.500 s, expected less than its length, 1\.000 s"):
        audio.load(encoded(tone()), start_seconds=1.5)


def test_blocks_of_no_length() -> None:
    with pytest.raises(AudioError, match="block length"):
        next(audio.blocks(encoded(tone()), block_seconds=0.0))


def test_sources_that_are_none() -> None:
    with pytest.raises(AudioError, match="got NoneType"):
        audio.load(None)  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="got StringIO"):
        audio.load(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="audio bytes: got nothing"):
        audio.load(b"")


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "growing.wav"
    path.write_bytes(encoded(tone(5.0)))
    stream = audio.blocks(path, block_seconds=0.5)
    assert len(next(stream)) == 8_000
    with path.open("ab") as file:
        file.write(bytes(1_000))
    with pytest.raises(AudioError, match="changed while it was read"):
        list(stream)


def test_a_replaced_file_is_no_change_of_the_open_one(tmp_path: Path) -> None:
    path = tmp_path / "replaced.wav"
    path.write_bytes(encoded(tone(5.0)))
    stream = audio.blocks(path, block_seconds=0.5)
    parts = [next(stream)]
    (tmp_path / "new.wav").write_bytes(encoded(tone(1.0)))
    (tmp_path / "new.wav").replace(path)
    np.testing.assert_allclose(np.concatenate([*parts, *stream]), tone(5.0), atol=2**-15)


def test_flat_memory() -> None:
    import tracemalloc

    data = io.BytesIO(encoded(np.zeros(10 * 60 * 16_000, np.int16)))
    tracemalloc.start()
    assert sum(len(block) for block in audio.blocks(data, 8_000, block_seconds=1.0)) == 10 * 60 * 8_000
    assert tracemalloc.get_traced_memory()[1] < 1_000_000  # the whole would be 19 MB
    tracemalloc.stop()


def test_real_corpora(corpora: Path) -> None:
    """One file of each: the rate, and a length that agrees with the header."""
    for name, container in {
        "emodb/wav/03a01Fa.wav": "WAV",
        "ravdess/Audio_Speech_Actors_01-24/Actor_07/03-01-03-01-02-01-07.flac": "FLAC",
        "nemo/samples/EB0_anger_1.opus": "OGG",
    }.items():
        info = audio.probe(corpora / name)
        assert (info.container, info.channels, info.sample_rate_hz) == (container, 1, 16_000)
        assert len(audio.load(corpora / name)) == info.frames
