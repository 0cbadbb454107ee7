"""Source-filter synthesis: control tracks in, samples out.

The source is the glottal flow of Klatt & Klatt (1990), *Analysis, synthesis, and perception of voice quality variations
among female and male talkers*, JASA 87, 820-857; the filter is a cascade of the resonators of Klatt (1980), *Software
for a cascade/parallel formant synthesizer*, JASA 67, 971-995. The filter moves with time: each 5 ms frame of the
source, under a Hann window, is filtered by the vocal tract of its moment in the frequency domain, and the frames are
added up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Spectra = NDArray[np.complex64]
Integers = NDArray[np.int64]

SAMPLE_RATE_HZ = 16_000
FRAME_SECONDS = 0.005
FRAME_SAMPLES = 80  # 5 ms at 16 kHz
FFT_SAMPLES = 8 * FRAME_SAMPLES  # two frames under the window, six (30 ms) for the resonances to ring out

FORMANT_BANDWIDTHS_HZ = (70.0, 90.0, 140.0, 200.0)  # of F1-F4; Klatt (1980), table II, medial values
HIGH_FORMANT_BANDWIDTH = 0.06  # of F5 and up, as a share of their frequency
NASAL_POLE_HZ = 270.0  # fixed; the nasal zero at the same place cancels it: no nasality (Klatt 1980)
NASAL_BANDWIDTH_HZ = 100.0
TILT_AT_HZ = 3_000.0  # where Klatt & Klatt (1990) count the spectral tilt

_FREQUENCIES_HZ = np.fft.rfftfreq(FFT_SAMPLES, 1 / SAMPLE_RATE_HZ)
_DELAY = np.exp(-2j * np.pi * _FREQUENCIES_HZ / SAMPLE_RATE_HZ).astype(np.complex64)  # z^-1 at each bin
_HANN = 0.5 - 0.5 * np.cos(np.pi * np.arange(2 * FRAME_SAMPLES) / FRAME_SAMPLES)  # shifted by a frame, it adds up to 1


@dataclass(frozen=True)
class Tracks:
    """Movements of the speech organs, one value per 5 ms frame.

    Attributes:
        f0_hz: fundamental frequency.
        voicing, aspiration, frication: linear amplitudes of the three sources.
        formants_hz: F1-F4.
        nasal_zero_hz: the antiresonance of the nose; :data:`NASAL_POLE_HZ` where it is closed.
        noise_hz, noise_bandwidth_hz: resonance in front of the constriction that makes the frication.
    """

    f0_hz: Float[Floats, " frames"]
    voicing: Float[Floats, " frames"]
    aspiration: Float[Floats, " frames"]
    frication: Float[Floats, " frames"]
    formants_hz: Float[Floats, "frames 4"]
    nasal_zero_hz: Float[Floats, " frames"]
    noise_hz: Float[Floats, " frames"]
    noise_bandwidth_hz: Float[Floats, " frames"]


@dataclass(frozen=True, slots=True)
class Glottis:
    """Settings of the vocal folds: a pressed, modal or breathy voice, steady or rough.

    Attributes:
        open_quotient: share of the period during which the glottis is open.
        tilt_db: attenuation of the source at 3 kHz beyond its own -12 dB per octave.
        jitter, shimmer: relative standard deviation of period and amplitude from pulse to pulse.
    """

    open_quotient: float = 0.6
    tilt_db: float = 8.0
    jitter: float = 0.0
    shimmer: float = 0.0


def speak(
    tracks: Tracks, glottis: Glottis, rng: np.random.Generator, tract_scale: float = 1.0
) -> Float[Singles, " samples"]:
    """Samples at 16 kHz, 80 for each frame.

    Args:
        tracks: the movements.
        glottis: the voice quality.
        rng: source of all noise, jitter and shimmer.
        tract_scale: formants relative to a tract of 17.5 cm; places F5 and up, which the tracks do not move.
    """
    f0_hz = _per_sample(tracks.f0_hz)
    phase = glottal_phase(f0_hz, glottis.jitter, rng)
    flow = glottal_flow(phase, glottis.open_quotient) * _shimmer(phase, glottis.shimmer, rng)
    # Radiation at the lips differentiates; per period, not per sample, so that a pulse is as strong at any pitch.
    voiced = np.diff(flow, prepend=0.0) * (SAMPLE_RATE_HZ / f0_hz) * _per_sample(tracks.voicing)
    breath = rng.standard_normal(len(flow)) * _per_sample(tracks.aspiration) * (0.3 + flow)
    hiss = rng.standard_normal(len(flow)) * _per_sample(tracks.frication)

    tract = tract_response(tracks.formants_hz, tracks.nasal_zero_hz, tract_scale)
    spectra = frame_spectra(voiced) * _tilt_response(glottis.tilt_db) + frame_spectra(breath)
    spectra = spectra * tract + frame_spectra(hiss) * _noise_response(tracks.noise_hz, tracks.noise_bandwidth_hz)
    return overlap_add(spectra)


def glottal_phase(
    f0_hz: Float[Floats, " samples"], jitter: float, rng: np.random.Generator
) -> Float[Floats, " samples"]:
    """Periods since the start; the fraction is the position within the period.

    >>> phase = glottal_phase(np.full(16_000, 100.0), 0.0, np.random.default_rng(0))
    >>> float(phase[-1].round(6))
    100.0
    """
    steady = np.cumsum(f0_hz, dtype=np.float64) / SAMPLE_RATE_HZ
    if jitter == 0:
        return steady
    period = steady.astype(np.int64)
    return np.cumsum(f0_hz * np.exp(jitter * rng.standard_normal(period[-1] + 1))[period]) / SAMPLE_RATE_HZ


def glottal_flow(phase: Float[Floats, " samples"], open_quotient: float) -> Float[Floats, " samples"]:
    """Flow through the glottis: a t^2 - b t^3 while it is open, scaled to a peak of 1 (KLGLOTT88; Klatt & Klatt 1990).

    The peak comes at two thirds of the open phase, the closure is abrupt.

    >>> glottal_flow(np.array([0.0, 0.2, 0.4, 0.6, 0.9]), open_quotient=0.6).round(2).tolist()
    [0.0, 0.5, 1.0, 0.0, 0.0]
    """
    opening = np.minimum((phase % 1.0) / open_quotient, 1.0)
    return 6.75 * opening**2 * (1.0 - opening)


def tract_response(
    formants_hz: Float[Floats, "frames formants"], nasal_zero_hz: Float[Floats, " frames"], tract_scale: float
) -> Complex[Spectra, "frames bins"]:
    """Transfer function of the vocal tract: a cascade of resonators and one nasal pole and zero."""
    denominator = _resonator_denominator(np.array([NASAL_POLE_HZ]), NASAL_BANDWIDTH_HZ)
    for formant_hz in _high_formants_hz(tract_scale):
        denominator = denominator * _resonator_denominator(np.array([formant_hz]), formant_hz * HIGH_FORMANT_BANDWIDTH)
    for index, bandwidth_hz in enumerate(FORMANT_BANDWIDTHS_HZ):
        denominator = denominator * _resonator_denominator(formants_hz[:, index], bandwidth_hz)
    return np.asarray(_resonator_denominator(nasal_zero_hz, NASAL_BANDWIDTH_HZ) / denominator, np.complex64)


def frame_spectra(signal: Float[Floats, " samples"]) -> Complex[Spectra, "frames bins"]:
    """Spectrum of each frame with half a frame on either side, Hann-windowed: together they are the signal again."""
    padded = np.pad(signal, FRAME_SAMPLES // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * FRAME_SAMPLES)[::FRAME_SAMPLES]
    from scipy import fft  # in single precision where the samples are

    return np.asarray(fft.rfft((windows * _HANN).astype(np.float32), FFT_SAMPLES), np.complex64)


def overlap_add(spectra: Complex[Spectra, "frames bins"]) -> Float[Singles, " samples"]:
    """The frames' sounds, each in its place; what rings on after the last frame is cut."""
    blocks = FFT_SAMPLES // FRAME_SAMPLES
    from scipy import fft

    frames = fft.irfft(spectra, FFT_SAMPLES).reshape(len(spectra), blocks, FRAME_SAMPLES)
    total = np.zeros((len(spectra) + blocks, FRAME_SAMPLES), np.float32)
    for block in range(blocks):
        total[block : block + len(spectra)] += frames[:, block]
    return total.reshape(-1)[FRAME_SAMPLES // 2 :][: len(spectra) * FRAME_SAMPLES]


def _resonator_denominator(center_hz: Float[Floats, " frames"], bandwidth_hz: float) -> Complex[Spectra, "frames bins"]:
    """(1 - B z^-1 - C z^-2) / A with A = 1 - B - C: gain 1 at 0 Hz (Klatt 1980, eq. 2)."""
    c = -np.exp(-2 * np.pi * bandwidth_hz / SAMPLE_RATE_HZ)
    b = 2 * np.exp(-np.pi * bandwidth_hz / SAMPLE_RATE_HZ) * np.cos(2 * np.pi * center_hz / SAMPLE_RATE_HZ)
    a = 1 - b - c
    fixed = (1 - c * _DELAY**2).astype(np.complex64)
    return np.asarray((fixed - _column(b) * _DELAY) * _column(1 / a), np.complex64)


def _high_formants_hz(tract_scale: float) -> Float[Floats, " formants"]:
    """F5 and up of a uniform tube closed at one end, (2 k - 1) 500 Hz for 17.5 cm, as far as the Nyquist frequency."""
    formants_hz = 500.0 * tract_scale * np.arange(9.0, 17.0, 2.0)
    return np.asarray(formants_hz[formants_hz < 0.98 * SAMPLE_RATE_HZ / 2])


def _tilt_response(tilt_db: float) -> Complex[Spectra, " bins"]:
    """One-pole low-pass that loses `tilt_db` at 3 kHz (Klatt & Klatt 1990, parameter TL)."""
    corner_hz = TILT_AT_HZ / np.sqrt(10 ** (max(tilt_db, 0.1) / 10) - 1)
    response: Spectra = (1 / (1 + 1j * _FREQUENCIES_HZ / corner_hz)).astype(np.complex64)
    return response


def _noise_response(
    center_hz: Float[Floats, " frames"], bandwidth_hz: Float[Floats, " frames"]
) -> Complex[Spectra, "frames bins"]:
    """Second-order band-pass with gain 1 at its center, 1 / (1 + j Q (f / fc - fc / f))."""
    frequency = np.maximum(_FREQUENCIES_HZ, 1.0).astype(np.float32)
    detuning = (frequency - _column(center_hz**2) / frequency) / _column(bandwidth_hz)
    response: Spectra = 1 / (1 + np.complex64(1j) * detuning)
    return response


def _shimmer(phase: Float[Floats, " samples"], shimmer: float, rng: np.random.Generator) -> Float[Floats, " samples"]:
    """A random gain for each period."""
    period = phase.astype(np.int64)
    return np.asarray(np.exp(shimmer * rng.standard_normal(period[-1] + 1))[period], np.float64)


def _column(track: Float[Floats, " frames"]) -> Float[Singles, "frames 1"]:
    return track.astype(np.float32)[:, None]


def _per_sample(track: Float[Floats, " frames"]) -> Float[Floats, " samples"]:
    """Linear interpolation between the frames' values, which hold at the frames' centers."""
    frame = np.arange(len(track) * FRAME_SAMPLES) / FRAME_SAMPLES - 0.5
    return np.asarray(np.interp(frame, np.arange(len(track)), track))
