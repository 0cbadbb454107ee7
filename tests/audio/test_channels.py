"""Channels of a recording: each by itself, and a mix that cancels is never taken for silence."""

from __future__ import annotations

import io
import logging

import numpy as np
import pytest
import soundfile

from affekt import audio
from affekt.errors import AudioError, ConfigError

RATE_HZ = 16_000


def noise(seed: int, seconds: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE_HZ)).astype(np.float32)


def wav(*channels: np.ndarray, rate_hz: int = RATE_HZ) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack(channels, axis=1), rate_hz, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def test_each_channel_is_heard_by_itself() -> None:
    left, right = noise(0), noise(1)
    data = wav(left, right)
    np.testing.assert_array_equal(audio.load(data, channels="left"), left)
    np.testing.assert_array_equal(audio.load(data, channels="right"), right)
    np.testing.assert_array_equal(audio.load(data, channels=1), right)
    np.testing.assert_array_equal(audio.load(data, channels="each"), [left, right])
    np.testing.assert_allclose(audio.load(data), (left + right) / 2, atol=1e-7)


def test_a_channel_is_resampled_as_a_mono_recording_is() -> None:
    left, right = noise(0), noise(1)
    data = wav(left, right, rate_hz=44_100)
    expected = [audio.load(wav(channel, rate_hz=44_100)) for channel in (left, right)]
    np.testing.assert_array_equal(audio.load(data, channels="right"), expected[1])
    np.testing.assert_allclose(audio.load(data, channels="each"), expected, atol=1e-6)


def test_blocks_and_parts_of_channels() -> None:
    left, right = noise(0), noise(1)
    data = wav(left, right)
    joined = np.concatenate(list(audio.blocks(data, RATE_HZ, 0.3, channels="each")), axis=1)
    np.testing.assert_array_equal(joined, [left, right])
    np.testing.assert_array_equal(audio.load(data, start_seconds=0.5, channels="right"), right[8_000:])
    with audio.reading(data, channels="left") as recording:
        assert recording.info.channels == 2
        np.testing.assert_array_equal(np.concatenate(list(recording.parts())), left)


def test_mono_has_a_left_channel_and_no_right_one() -> None:
    np.testing.assert_array_equal(audio.load(wav(noise(0)), channels="left"), noise(0))
    with pytest.raises(AudioError, match="got 1 channel, expected a right channel; --channels mix"):
        audio.load(wav(noise(0)), channels="right")
    with pytest.raises(AudioError, match="got 2 channels, expected a channel 3"):
        audio.load(wav(noise(0), noise(1)), channels=2)


@pytest.mark.parametrize("channels", ["both", -1, True, None, 0.5])
def test_a_choice_that_is_none(channels: object) -> None:
    with pytest.raises(ConfigError, match="expected mix, each, left, right or an index from 0"):
        audio.load(wav(noise(0)), channels=channels)  # type: ignore[arg-type]


def test_channels_that_cancel_to_silence_are_no_silence() -> None:
    data = wav(noise(0), -noise(0))
    with pytest.raises(AudioError, match=r"channels that cancel each other.*--channels left"):
        audio.load(data)
    with pytest.raises(AudioError, match="cancel"):
        list(audio.blocks(data, block_seconds=0.25))
    np.testing.assert_array_equal(audio.load(data, channels="left"), noise(0))


def test_channels_that_nearly_cancel_are_named(caplog: pytest.LogCaptureFixture) -> None:
    samples = audio.load(wav(noise(0), -0.9 * noise(0)))
    np.testing.assert_allclose(samples, 0.05 * noise(0), atol=1e-6)
    assert "the channels cancel each other: their mix is 26 dB quieter" in caplog.text
    assert "--channels left" in caplog.text


@pytest.mark.parametrize(
    "channels",
    [
        (noise(0), noise(0)),
        (noise(0), noise(1)),
        (noise(0), 0 * noise(0)),
        (noise(0), *(0 * noise(0) for _ in range(7))),
        (0 * noise(0), 0 * noise(0)),
        (1e-5 * noise(0), -1e-5 * noise(0)),
    ],
)
def test_ordinary_channels_are_not(channels: tuple[np.ndarray, ...], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        audio.load(wav(*channels))
    assert not caplog.records


def test_names() -> None:
    assert [audio.channel_name(index, 6) for index in (0, 5)] == ["channel 1", "channel 6"]
