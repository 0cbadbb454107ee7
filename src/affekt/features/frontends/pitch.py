"""Pitch and harmonicity of frames, from the autocorrelation (Boersma 1993).

"Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a sampled sound": the
autocorrelation of a windowed frame divided by that of its window is near that of the sound itself; its highest maximum
lies at the period and is as high as the sound is periodic. Frames are decided independently, without a path search.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LOWEST_HZ, HIGHEST_HZ = 55.0, 500.0
WINDOW_SECONDS = 0.064  # three and a half periods of the lowest pitch
OCTAVE_COST = 0.02  # advantage that a period twice as long needs
VOICED_STRENGTH = 0.5  # of the autocorrelation
QUIET = 0.03  # of the recording's peak: frames below are unvoiced
HIGHEST_STRENGTH = 0.9999  # 40 dB of harmonicity

Floats = NDArray[np.float64]


class Pitch(NamedTuple):
    """Fundamental frequency of every frame, 0 where unvoiced, and the autocorrelation at the best period, 0 to 1."""

    hz: Floats
    strength: Floats

    @property
    def harmonicity_db(self) -> Floats:
        """Harmonics-to-noise ratio 10 log10(r / (1 - r)) (Boersma 1993, eq. 4); 0 where unvoiced.

        >>> Pitch(np.array([100.0, 0.0]), np.array([0.99, 0.3])).harmonicity_db.round(2).tolist()
        [19.96, 0.0]
        """
        strength = np.clip(self.strength, 0.5, HIGHEST_STRENGTH)
        return np.where(self.hz > 0, 10 * np.log10(strength / (1 - strength)), 0.0)


def track_pitch(samples: Floats, sample_rate_hz: int, centers: NDArray[np.int64]) -> Pitch:
    """Pitch around each of the samples `centers`.

    >>> tone = np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000)
    >>> track_pitch(tone, 16_000, np.array([8_000])).hz.round(1).tolist()
    [200.0]
    """
    frames = _frames(samples, round(WINDOW_SECONDS * sample_rate_hz), centers)
    correlation = _autocorrelation(frames)
    shortest, longest = int(sample_rate_hz / HIGHEST_HZ), int(sample_rate_hz / LOWEST_HZ) + 1
    lags, strength = _best_period(correlation, shortest, longest)
    loud = np.abs(frames).max(1) > QUIET * max(np.abs(samples).max(initial=0.0), 1e-6)
    voiced = loud & (strength > VOICED_STRENGTH) & (lags > 0)
    return Pitch(np.where(voiced, sample_rate_hz / np.maximum(lags, 1), 0.0), np.where(loud, strength, 0.0))


def _frames(samples: Floats, window: int, centers: NDArray[np.int64]) -> Floats:
    """[frames, window] around the centers, without their means; zeros beyond both ends."""
    padded = np.pad(samples, (window, 2 * window))
    start = np.clip(centers, 0, len(samples)) + window - window // 2
    frames = padded[start[:, None] + np.arange(window)]
    return np.asarray(frames - frames.mean(1, keepdims=True))


def _autocorrelation(frames: Floats) -> Floats:
    """r_x(lag) = r_windowed(lag) / r_window(lag), 1 at lag 0, for lags up to half a window (eq. 9)."""
    count = frames.shape[1]
    window = np.hanning(count + 2)[1:-1]
    size = 2 * count
    power = np.abs(np.fft.rfft(frames * window, size)) ** 2
    own = np.fft.irfft(np.abs(np.fft.rfft(window, size)) ** 2)[: count // 2]
    correlation = np.fft.irfft(power, size)[:, : count // 2]
    return np.asarray(correlation / np.maximum(correlation[:, :1], 1e-12) / (own / own[0]))


def _best_period(correlation: Floats, shortest: int, longest: int) -> tuple[Floats, Floats]:
    """The lag, between samples, of the best maximum, and the maximum; 0 and 0 where there is none."""
    longest = min(longest, correlation.shape[1] - 2)
    middle = correlation[:, shortest : longest + 1]
    before, after = correlation[:, shortest - 1 : longest], correlation[:, shortest + 1 : longest + 2]
    is_peak = (middle > before) & (middle >= after) & (middle > 0)
    lags = np.arange(shortest, longest + 1)
    value = np.where(is_peak, middle - OCTAVE_COST * np.log2(lags / shortest), -np.inf)
    rows, best = np.arange(len(value)), value.argmax(1)
    left, top, right = before[rows, best], middle[rows, best], after[rows, best]
    bend = np.where(is_peak[rows, best], left - 2 * top + right, -1.0)  # of the parabola through the three
    shift = 0.5 * (left - right) / np.minimum(bend, -1e-12)
    found = is_peak[rows, best]
    peak = np.clip(top - 0.25 * (left - right) * shift, 0.0, 1.0)
    return np.where(found, lags[best] + np.clip(shift, -0.5, 0.5), 0.0), np.where(found, peak, 0.0)
