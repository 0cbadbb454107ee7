"""Containers of phones, browsers and messengers, decoded by PyAV where it is installed and named where it is not."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from affekt import audio
from affekt.audio import containers
from affekt.errors import AudioError

RATE_HZ = 16_000


def tone(seconds: float = 3.0, rate_hz: int = RATE_HZ, hz: float = 300.0) -> np.ndarray:
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    fade = np.minimum(1.0, np.minimum(time, seconds - time) / 0.05)
    return (0.4 * fade * np.sin(2 * np.pi * hz * time * (1 + time / 10))).astype(np.float32)


def muxed(
    container: str, codec: str, samples: np.ndarray, rate_hz: int = RATE_HZ, options: dict[str, str] | None = None
) -> bytes:
    """Samples [samples] or [channels, samples] encoded by PyAV."""
    av = pytest.importorskip("av", reason="PyAV encodes the inputs: pip install 'affekt[containers]'")
    with tempfile.NamedTemporaryFile() as written:
        with av.open(written.name, "w", format=container, options=options or {}) as file:
            channels = np.atleast_2d(samples).astype(np.float32)
            layout = {1: "mono", 2: "stereo"}[len(channels)]
            stream = file.add_stream(codec, rate=rate_hz, layout=layout)
            stream.bit_rate = 12_200 if codec == "libopencore_amrnb" else 64_000
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels), format="fltp", layout=layout)
            frame.sample_rate = rate_hz
            resampler = av.AudioResampler(stream.format.name, layout, rate_hz, frame_size=stream.frame_size or None)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                file.mux(stream.encode(part))
            file.mux(stream.encode(None))
        return Path(written.name).read_bytes()


def video_alone() -> bytes:
    av = pytest.importorskip("av", reason="PyAV encodes the inputs: pip install 'affekt[containers]'")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(10):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        file.mux(stream.encode(None))
    return buffer.getvalue()


KINDS = [
    ("mp4", "aac", 16_000),
    ("ipod", "aac", 44_100),
    ("mov", "pcm_s16le", 16_000),
    ("3gp", "aac", 16_000),
    ("ipod", "alac", 16_000),
    ("webm", "libopus", 48_000),
    ("matroska", "libmp3lame", 16_000),
    ("matroska", "aac", 16_000),
    ("adts", "aac", 16_000),
    ("amr", "libopencore_amrnb", 8_000),
    ("asf", "wmav2", 16_000),
    ("avi", "pcm_s16le", 16_000),
    ("flv", "aac", 44_100),
    ("mpegts", "aac", 48_000),
    ("ac3", "ac3", 48_000),
    ("tta", "tta", 16_000),
]


def delay_samples(samples: np.ndarray, expected: np.ndarray) -> int:
    """How much later one is than the other, by their cross-correlation."""
    size = 1 << (len(samples) + len(expected)).bit_length()
    product = np.fft.irfft(np.fft.rfft(samples, size) * np.conj(np.fft.rfft(expected, size)))
    shift = int(np.argmax(product))
    return shift if shift < size // 2 else shift - size


@pytest.mark.parametrize(("container", "codec", "rate_hz"), KINDS)
def test_every_container_gives_the_same_sound(container: str, codec: str, rate_hz: int) -> None:
    samples = audio.load(muxed(container, codec, tone(rate_hz=rate_hz), rate_hz))
    expected = tone()
    delay = delay_samples(samples, expected)  # some formats do not say how much their encoder puts before the sound
    assert -0.05 * RATE_HZ < delay < 0.15 * RATE_HZ
    assert len(expected) - 0.01 * RATE_HZ <= len(samples) - delay <= len(expected) + 0.15 * RATE_HZ
    heard = samples[4_000 + delay : 44_000 + delay]
    correlation = np.corrcoef(heard, expected[4_000:44_000])[0, 1]
    assert correlation > 0.98
    assert np.std(heard) == pytest.approx(np.std(expected[4_000:44_000]), rel=0.2)


@pytest.mark.parametrize(("container", "codec", "rate_hz"), KINDS)
def test_a_part_is_the_slice_of_the_whole(container: str, codec: str, rate_hz: int) -> None:
    data = muxed(container, codec, tone(5.0, rate_hz), rate_hz)
    whole = audio.load(data, rate_hz)
    for start in (0.3, 3.1, 4.2):
        part = audio.load(data, rate_hz, start_seconds=start, end_seconds=start + 0.4)
        expected = whole[round(start * rate_hz) :][: round(0.4 * rate_hz)]
        np.testing.assert_allclose(part, expected, rtol=0, atol=1e-4)
    with pytest.raises(AudioError, match=r"start at 9\.000 s"):
        audio.load(data, start_seconds=9.0)


def test_sources_of_every_kind(tmp_path: Path) -> None:
    data = muxed("mp4", "aac", tone())
    path = tmp_path / "voice.wav"  # the content decides
    path.write_bytes(data)
    expected = audio.load(data)
    with path.open("rb") as stream:
        for source in (path, stream, io.BytesIO(data)):
            np.testing.assert_array_equal(audio.load(source), expected)
    np.testing.assert_array_equal(np.concatenate(list(audio.blocks(path, RATE_HZ, 0.7))), expected)


def test_probe_and_channels() -> None:
    data = muxed("ipod", "alac", np.stack([tone(), 0.5 * tone()]))
    info = audio.probe(data)
    assert (info.sample_rate_hz, info.channels, info.container, info.encoding) == (RATE_HZ, 2, "MOV", "ALAC")
    assert info.duration_seconds == pytest.approx(3.0, abs=0.001)
    np.testing.assert_allclose(audio.load(data, channels="right"), 0.5 * tone(), atol=1e-4)
    assert audio.probe(muxed("adts", "aac", tone())).duration_seconds is None


def test_a_video_without_sound_is_named() -> None:
    with pytest.raises(AudioError, match="got a video without an audio track, expected audio"):
        audio.load(video_alone())


def test_a_container_that_breaks_off_is_named(caplog: pytest.LogCaptureFixture) -> None:
    data = muxed("mp4", "aac", tone(10.0), options={"movflags": "faststart"})
    samples = audio.load(data[: len(data) // 2])
    assert RATE_HZ < len(samples) < 8 * RATE_HZ
    assert "breaks off: got" in caplog.text
    with pytest.raises(AudioError, match=r"an MP4 or QuickTime file .* that breaks off before its sound can be read"):
        audio.load(muxed("mp4", "aac", tone())[:3_000])  # its index stands at the end
    for container, codec in (("webm", "libopus"), ("asf", "wmav2"), ("avi", "pcm_s16le"), ("tta", "tta")):
        data = muxed(container, codec, tone(10.0, 48_000), 48_000)
        caplog.clear()
        audio.load(data, max_seconds=20.0)
        assert not caplog.records
        audio.load(data[: len(data) * 2 // 3])
        assert "breaks off: got" in caplog.text, container


def test_no_file_is_opened_that_a_container_refers_to(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "secret.wav", tone(), RATE_HZ)
    playlist = f"#EXTM3U\n#EXTINF:3,\n{tmp_path}/secret.wav\n#EXT-X-ENDLIST\n".encode()
    concat = f"ffconcat version 1.0\nfile {tmp_path}/secret.wav\n".encode()
    for content in (playlist, concat):
        with pytest.raises(AudioError, match="no audio that can be decoded"):
            audio.load(content)


@pytest.mark.parametrize("content", [b"\x1a\x45\xdf\xa3" + bytes(60), b"\0\0\0\x1cftypM4A " + bytes(60), b"#!AMR\n"])
def test_beginnings_alone_are_refused(content: bytes) -> None:
    with pytest.raises(AudioError):
        audio.load(content)


@pytest.mark.parametrize("content", [b"\x1a\x45\xdf\xa3" + bytes(60), b"\0\0\0\x1cftypM4A " + bytes(60), b"#!AMR\n"])
def test_without_pyav_a_container_names_the_extra(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "available", lambda: False)
    with pytest.raises(
        AudioError, match=r"pip install 'affekt\[containers\]' reads it; or convert it: ffmpeg"
    ) as error:
        audio.load(content)
    assert str(error.value).startswith(
        ("audio bytes: got a WebM or", "audio bytes: got an MP4", "audio bytes: got an AMR")
    )


def test_recordings_that_nothing_here_reads_are_named() -> None:
    with pytest.raises(AudioError, match=r"got a SILK recording \(WeChat, QQ\).*convert it to wav"):
        audio.load(b"\x02#!SILK_V3" + bytes(99))


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("ipod", "aac", {}),
        ("mp4", "aac", {"movflags": "frag_keyframe+empty_moov"}),
        ("webm", "libopus", {}),
        ("webm", "libopus", {"live": "1"}),
        ("amr", "libopencore_amrnb", {}),
        ("adts", "aac", {}),
    ],
)
def test_joined_containers_are_each_decoded(
    container: str, codec: str, options: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    rate_hz = 8_000 if container == "amr" else 48_000
    parts = [muxed(container, codec, tone(seconds, rate_hz), rate_hz, options) for seconds in (2.0, 3.0)]
    expected = np.concatenate([audio.load(part, rate_hz) for part in parts])
    joined = audio.load(b"".join(parts), rate_hz)
    assert len(joined) == len(expected)
    if container != "adts":  # one stream, as the format has no beginning
        np.testing.assert_allclose(joined, expected, atol=1e-6)
    assert not caplog.records


def test_damaged_packets_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    data = bytearray(muxed("ipod", "aac", tone(10.0)))
    at = data.index(b"mdat") + len(data) // 2
    data[at : at + 1_500] = np.random.default_rng(0).bytes(1_500)
    assert len(audio.load(bytes(data))) > 8 * RATE_HZ
    assert "damaged packet" in caplog.text or "breaks off" in caplog.text


def test_a_seek_before_the_beginning_fails_by_a_number() -> None:
    """FFmpeg asks for such positions in damaged files; PyAV would print a traceback of an exception."""
    stream = containers._ForFFmpeg(io.BytesIO(b"four"))
    assert stream.seek(-5) == -1
    assert (stream.seek(2), stream.read(), stream.tell()) == (2, b"ur", 4)
