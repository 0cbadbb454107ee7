"""Changes of a recording on its way to a listener: rooms, noise, channels, codecs. All draw from a generator."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import fftconvolve

from bundled.recordings import CLIP_SAMPLES, RATE_HZ, Waveform

Generator = np.random.Generator
MP3_LEVELS = {16: 0.95, 24: 0.9, 32: 0.85, 64: 0.65}
"""libsndfile's compression level for each constant rate in kbit/s."""


def generator(*purpose: object) -> Generator:
    """A generator for one purpose, the same in every run.

    >>> generator("noise", 3).integers(1000) == generator("noise", 3).integers(1000)
    np.True_
    """
    return np.random.default_rng(int.from_bytes(hashlib.sha256(repr(purpose).encode()).digest()[:8], "big"))


def filtered(x: Waveform, gain: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Waveform:
    """The waveform with each frequency multiplied by `gain(hertz)`."""
    size = fft.next_fast_len(len(x), real=True)
    spectrum = fft.rfft(x, size) * gain(fft.rfftfreq(size, 1 / RATE_HZ))
    return fft.irfft(spectrum, size)[: len(x)].astype(np.float32)


def pass_band(x: Waveform, low_hz: float, high_hz: float, order: int = 8) -> Waveform:
    """Butterworth magnitudes: `order` above, 4 below; 0 Hz leaves the low end."""

    def gain(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        upper = 1 / np.sqrt(1 + (hertz / high_hz) ** (2 * order))
        return upper if low_hz <= 0 else upper / np.sqrt(1 + (low_hz / np.maximum(hertz, 1e-3)) ** 8)

    return filtered(x, gain)


def low_pass(x: Waveform, high_hz: int) -> Waveform:
    """Only what a rate of twice `high_hz` carries."""
    return soxr.resample(soxr.resample(x, RATE_HZ, 2 * high_hz), 2 * high_hz, RATE_HZ)[: len(x)]


def equalized(x: Waveform, rng: Generator, deviation_db: float) -> Waveform:
    """A smooth random frequency response, drawn at octaves."""
    gains_db = rng.normal(0, deviation_db, 8)
    octaves = np.log(62.5 * 2.0 ** np.arange(8))
    return filtered(x, lambda hertz: 10 ** (np.interp(np.log(np.maximum(hertz, 40)), octaves, gains_db) / 20))


def colored(rng: Generator, samples: int, fall_db: float = 0.0) -> Waveform:
    """Noise whose power falls by so many dB each octave: 0 is white, 3 pink, 6 brown."""
    size = fft.next_fast_len(samples, real=True)
    hertz = np.maximum(fft.rfftfreq(size, 1 / RATE_HZ), 30.0)
    spectrum = (rng.standard_normal(len(hertz)) + 1j * rng.standard_normal(len(hertz))) * (hertz / 1e3) ** (
        -fall_db / 6.02
    )
    return fft.irfft(spectrum, size)[:samples].astype(np.float32)


def hum(rng: Generator, samples: int) -> Waveform:
    """Mains hum, eight harmonics."""
    hertz, time = rng.choice([50, 60, 100, 120]), np.arange(samples) / RATE_HZ
    parts = [rng.uniform(0, 1) / k * np.sin(2 * np.pi * (hertz * k * time + rng.uniform())) for k in range(1, 9)]
    return np.sum(parts, 0).astype(np.float32)


def babble(rng: Generator, samples: int, voices: Sequence[Waveform], count: int) -> Waveform:
    """Several other recordings at once, each from a random place on."""
    mixed = np.zeros(samples, np.float32)
    for _ in range(count):
        voice = voices[rng.integers(len(voices))]
        mixed += np.resize(np.roll(voice, int(rng.integers(len(voice)))), samples) * np.float32(rng.uniform(0.5, 1))
    return mixed


def with_noise(x: Waveform, noise: Waveform, snr_db: float) -> Waveform:
    """The sum, at a ratio of mean powers."""
    signal, other = (float(np.mean(np.square(part, dtype=np.float64))) + 1e-12 for part in (x, noise))
    return x + noise * np.float32(np.sqrt(signal / other / 10 ** (snr_db / 10)))


def reverberated(x: Waveform, rng: Generator, decay_seconds: float, wet_db: float) -> Waveform:
    """A room: exponentially decaying noise (60 dB in `decay_seconds`) of so much energy beside the direct sound."""
    time = np.arange(int(decay_seconds * RATE_HZ)) / RATE_HZ
    response = rng.standard_normal(len(time)) * 10 ** (-3 * time / decay_seconds)
    response[: RATE_HZ // 500] = 0
    response *= np.sqrt(10 ** (wet_db / 10) / np.sum(response**2))
    response[0] = 1
    return fftconvolve(x, response.astype(np.float32))[: len(x)].astype(np.float32)


def clipped(x: Waveform, share: float) -> Waveform:
    """Cut at the amplitude that this share of the samples exceeds."""
    limit = np.float32(np.quantile(np.abs(x), 1 - share) + 1e-4)
    return np.clip(x, -limit, limit)


def companded(x: Waveform) -> Waveform:
    """8 bits of mu-law at 8 kHz, as telephones have."""
    slow = soxr.resample(x, RATE_HZ, 8_000)
    slow = 0.9 * slow / (np.abs(slow).max() + 1e-6)
    code = np.round(127 * np.sign(slow) * np.log1p(255 * np.abs(slow)) / np.log(256)) / 127
    decoded = np.sign(code) * (256 ** np.abs(code) - 1) / 255
    return soxr.resample(decoded, 8_000, RATE_HZ)[: len(x)].astype(np.float32)


def mp3(x: Waveform, kilobits: int) -> Waveform:
    """LAME at a constant rate."""
    return _coded(x, "MP3", "MPEG_LAYER_III", MP3_LEVELS[kilobits], bitrate_mode="CONSTANT")


def opus(x: Waveform, level: float) -> Waveform:
    """Ogg Opus; level 0.95 is about 16 kbit/s, 0.99 about 8."""
    return _coded(x, "OGG", "OPUS", level)


def _coded(x: Waveform, container: str, encoding: str, level: float, **options: str) -> Waveform:
    buffer = io.BytesIO()
    scaled = 0.8 * x / (np.abs(x).max() + 1e-6)
    soundfile.write(buffer, scaled, RATE_HZ, format=container, subtype=encoding, compression_level=level, **options)
    buffer.seek(0)
    decoded, rate_hz = soundfile.read(buffer, dtype="float32")
    if rate_hz != RATE_HZ:
        decoded = soxr.resample(decoded, rate_hz, RATE_HZ)
    return decoded[: len(x)]


def faster(x: Waveform, factor: float) -> Waveform:
    """Played faster: tempo, pitch and vocal tract change together."""
    ratio = Fraction(factor).limit_denominator(1_000)
    return soxr.resample(x, RATE_HZ * ratio.numerator, RATE_HZ * ratio.denominator)


def some_part(x: Waveform, rng: Generator, seconds: float) -> Waveform:
    """A random stretch of this length, the recording if it is shorter."""
    samples = round(seconds * RATE_HZ)
    start = int(rng.integers(max(1, len(x) - samples + 1)))
    return x[start : start + samples]


def some_noise(rng: Generator, samples: int, voices: Sequence[Waveform]) -> Waveform:
    """White, colored, babble, slowly changing, or hum."""
    kind = rng.integers(5)
    if kind == 0:
        return colored(rng, samples)
    if kind == 1:
        return colored(rng, samples, rng.uniform(2, 8))
    if kind == 2:
        return babble(rng, samples, voices, int(rng.integers(4, 9)))
    if kind == 3:
        loudness = 1 + 0.8 * np.interp(np.arange(samples), np.linspace(0, samples, 12), rng.uniform(-1, 1, 12))
        return colored(rng, samples, rng.uniform(-3, 3)) * loudness.astype(np.float32)
    return hum(rng, samples) + np.float32(0.3) * colored(rng, samples, 6)


def varied(x: Waveform, rng: Generator, voices: Sequence[Waveform]) -> Waveform:
    """One random way through a cut, a room, noise and a channel; what the second copy of the training data is."""
    if rng.random() < 0.3:
        x = some_part(x, rng, rng.uniform(0.8, 2.5))
    if rng.random() < 0.3:
        x = faster(x, rng.uniform(0.94, 1.06))
    if rng.random() < 0.3:
        x = reverberated(x, rng, rng.uniform(0.15, 0.8), rng.uniform(-12, 3))
    if rng.random() < 0.4:
        x = equalized(x, rng, 4)
    if rng.random() < 0.5:
        x = with_noise(x, some_noise(rng, len(x), voices), rng.uniform(3, 30))
    if rng.random() < 0.12:
        x = clipped(x, rng.uniform(0.005, 0.1))
    return _through_channel(x, rng)[:CLIP_SAMPLES]


def _through_channel(x: Waveform, rng: Generator) -> Waveform:
    """A pass band (42 %), a codec (28 %), or neither."""
    drawn = rng.random()
    if drawn < 0.30:
        low_hz = rng.choice([0, 0, 300]) * rng.uniform(0.5, 1.2)
        return pass_band(x, low_hz, rng.uniform(3_000, 7_000), int(rng.choice([4, 8, 24])))
    if drawn < 0.42:
        return low_pass(x, int(rng.uniform(3_200, 6_000)))
    if drawn < 0.55:
        return mp3(x, int(rng.choice([16, 24, 24, 32])))
    if drawn < 0.63:
        return companded(x)
    return opus(x, rng.uniform(0.95, 0.99)) if drawn < 0.70 else x
