"""Deltas, spectrogram, descriptors, functionals: against librosa, scipy, numpy and signals whose answer is known."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import scipy.signal
import torch

from affekt.features.frontends import Deltas, Descriptors, LogMelFunctionals, Spectrogram, SpeechFunctionals
from affekt.features.frontends.descriptors import cepstra, zero_crossing_rate
from affekt.features.frontends.framing import regression_deltas
from affekt.features.frontends.pitch import Pitch, track_pitch
from affekt.features.log_mel import FeatureConfig, LogMel

RATE = 16_000
TIME = np.arange(RATE) / RATE


def noise(samples: int = RATE) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.1, samples).astype(np.float32)


def framed(x: np.ndarray, window: int, hop: int = 160) -> np.ndarray:
    padded = np.pad(x, (0, window))
    return np.stack([padded[start : start + window] for start in range(0, len(x), hop)])


def test_slopes_are_librosas() -> None:
    contours = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    expected = librosa.feature.delta(contours.T, width=5, mode="nearest").T
    np.testing.assert_allclose(regression_deltas(contours, reach=2), expected, atol=1e-6)


def test_deltas_are_log_mel_and_its_slopes() -> None:
    x = noise()
    features = Deltas(standardize=False).extractor()(torch.from_numpy(x)).numpy()
    static = LogMel(FeatureConfig())(torch.from_numpy(x)[None])[0].numpy()
    np.testing.assert_allclose(features[:, :40], static, atol=1e-5)
    first = librosa.feature.delta(static.T, width=5, mode="nearest").T
    np.testing.assert_allclose(features[:, 40:80], first, atol=1e-5)
    np.testing.assert_allclose(features[:, 80:], librosa.feature.delta(first.T, width=5, mode="nearest").T, atol=1e-5)


def test_standardized_deltas_do_not_hear_gain_and_offset() -> None:
    extract = Deltas().extractor()
    one, other = (extract(torch.from_numpy(x)).numpy() for x in (noise(), 0.02 * noise() + 0.3))
    np.testing.assert_allclose(one, other, atol=0.02)
    assert np.abs(one[:, :40]).mean() > 1


def test_spectrogram_is_the_magnitude_of_a_hamming_windowed_transform() -> None:
    x = noise()
    window = scipy.signal.get_window("hamming", 640)
    expected = np.log(np.maximum(np.abs(np.fft.rfft(framed(x, 640) * window, 800)), 1e-4))[:, :200]
    np.testing.assert_allclose(Spectrogram().extractor()(torch.from_numpy(x)).numpy(), expected, atol=1e-3)


def test_a_tone_stands_in_its_bin() -> None:
    tone = np.sin(2 * np.pi * 1_000 * TIME).astype(np.float32)
    features = Spectrogram().extractor()(torch.from_numpy(tone))
    assert (features[:90].argmax(1) == 50).all()  # 1000 Hz / 20 Hz
    fine = Spectrogram(bin_hz=10.0).extractor()(torch.from_numpy(tone))
    assert fine.shape[1] == 400
    assert (fine[:90].argmax(1) == 100).all()


@pytest.mark.parametrize("hz", [60.0, 100.0, 177.3, 250.0, 410.0, 495.0])
@pytest.mark.parametrize("harmonics", [1, 8])
def test_pitch_of_tones(hz: float, harmonics: int) -> None:
    tone = sum(np.sin(2 * np.pi * n * hz * TIME + n) / n for n in range(1, harmonics + 1))
    pitch = track_pitch(tone, RATE, np.arange(1_000, 15_000, 160))
    np.testing.assert_allclose(pitch.hz, hz, rtol=0.005)
    assert (pitch.strength > 0.95).all()


@pytest.mark.slow
def test_pitch_follows_a_glide_as_pyin_does() -> None:
    hz = 120 * 2 ** (TIME * 1.0)  # an octave in a second
    glide = scipy.signal.lfilter([1], [1, -0.95], np.sign(np.sin(2 * np.pi * np.cumsum(hz) / RATE))) * 0.05
    own = Descriptors().pitch(glide.astype(np.float32))
    theirs, voiced, _ = librosa.pyin(glide, fmin=55, fmax=500, sr=RATE, frame_length=1024, hop_length=160)
    centers = np.arange(100) * 160 + 200
    inside = slice(8, 90)
    np.testing.assert_allclose(own.hz[inside], hz[centers[inside]], rtol=0.01)
    at = np.interp(centers, np.arange(len(theirs)) * 160, np.where(voiced, theirs, 0))
    assert np.median(np.abs(own.hz[inside] / at[inside] - 1)) < 0.02


def test_noise_and_silence_are_unvoiced() -> None:
    assert (Descriptors().pitch(noise()).hz > 0).mean() < 0.05
    assert (Descriptors().pitch(np.zeros(8_000, np.float32)).hz == 0).all()
    x = noise()
    x[:8_000] = 0.2 * np.sin(2 * np.pi * 150 * TIME[:8_000])
    pitch = Descriptors().pitch(x)
    assert (pitch.hz[5:45] > 0).all()
    assert (pitch.hz[55:] > 0).mean() < 0.1


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
def test_harmonicity_is_the_ratio_that_was_mixed(snr_db: float) -> None:
    tone = np.sin(2 * np.pi * 200 * TIME) * np.sqrt(2)
    mixed = tone + 10 ** (-snr_db / 20) * np.random.default_rng(0).normal(size=RATE)
    pitch = Pitch(*track_pitch(mixed, RATE, np.arange(1_000, 15_000, 160)))
    voiced = pitch.hz > 0
    assert voiced.mean() > 0.5
    assert np.median(pitch.harmonicity_db[voiced]) == pytest.approx(snr_db, abs=1.5)


def test_cepstra_are_librosas_of_the_same_bands() -> None:
    frames = framed(noise(), 400).astype(np.float64)
    bank = librosa.filters.mel(sr=RATE, n_fft=512, n_mels=26, fmin=20, fmax=8_000, htk=True, norm=None)
    power = np.abs(np.fft.rfft(frames * np.hamming(400), 512)) ** 2
    expected = librosa.feature.mfcc(S=np.log(power @ bank.T).T, n_mfcc=13, dct_type=2, norm="ortho")[1:].T
    np.testing.assert_allclose(cepstra(frames, RATE), expected, atol=1e-3)


def test_zero_crossings_and_energy_are_librosas() -> None:
    x = noise()
    contours = Descriptors(deltas=False).contours(x)
    frames = framed(x, 400)
    rms = librosa.feature.rms(S=None, y=x, frame_length=400, hop_length=160, center=False)[0]
    smooth = np.convolve(rms, np.ones(3) / 3, "valid")
    np.testing.assert_allclose(contours[1 : 1 + len(smooth), 0], smooth, rtol=1e-4)
    # librosa counts a window's first sample as no crossing and divides by the window
    crossings = librosa.zero_crossings(frames, axis=1, pad=False).sum(1) / 399
    np.testing.assert_allclose(zero_crossing_rate(frames.astype(np.float64)), crossings, atol=1e-9)


def test_descriptors_side_by_side() -> None:
    tone = (0.1 * np.sin(2 * np.pi * 200 * TIME)).astype(np.float32)
    spoken = Descriptors().contours(tone)
    assert spoken.shape == (100, 32)
    np.testing.assert_allclose(spoken[10:90, 0], 0.1 / np.sqrt(2), rtol=1e-3)  # energy
    np.testing.assert_allclose(spoken[10:90, 13], 2 * 200 / RATE, rtol=0.12)  # zero crossings, of ten in a window
    np.testing.assert_allclose(spoken[10:90, 14:16], [[1.0, 200.0]] * 80, rtol=1e-2)  # voicing, pitch
    np.testing.assert_allclose(spoken[:, 16:], regression_deltas(spoken[:, :16]), atol=1e-6)
    harmonic = Descriptors(window_seconds=0.04, harmonicity=True, log_pitch=True, deltas=False).contours(tone)
    np.testing.assert_allclose(harmonic[10:90, 15], np.log(200), rtol=1e-3)
    assert (harmonic[10:90, 16] > 25).all()


def test_log_mel_functionals_are_numpys() -> None:
    x = noise()
    bands = LogMel(FeatureConfig())(torch.from_numpy(x)[None])[0].numpy()
    vector = LogMelFunctionals().extractor()(torch.from_numpy(x)).numpy()[0].reshape(9, 40)
    np.testing.assert_allclose(vector[0], bands.mean(0), rtol=1e-5)
    np.testing.assert_allclose(vector[1], bands.std(0), rtol=1e-4)
    np.testing.assert_allclose(vector[2:7], np.percentile(bands, [5, 25, 50, 75, 95], axis=0), rtol=1e-4)
    slopes = librosa.feature.delta(bands.T, width=5, mode="nearest").T
    np.testing.assert_allclose(vector[7:], [slopes.std(0), np.abs(slopes).mean(0)], rtol=1e-3)


def test_speech_functionals_of_half_a_tone() -> None:
    x = np.zeros(2 * RATE, np.float32)
    x[:RATE] = 0.2 * np.sin(2 * np.pi * 150 * TIME)
    vector = SpeechFunctionals().extractor()(torch.from_numpy(x)).numpy()[0]
    mean_log, deviation, voiced, seconds = vector[-4:]
    assert mean_log == pytest.approx(np.log(150), rel=1e-3)
    assert deviation < 0.02
    assert voiced == pytest.approx(0.5, abs=0.02)
    assert seconds == pytest.approx(2.0)
    contours = Descriptors(clip_seconds=30.0, deltas=False).contours(x)
    np.testing.assert_allclose(vector[:16], contours.mean(0), rtol=1e-5)
    np.testing.assert_allclose(vector[48:64], np.median(contours, axis=0), rtol=1e-5)
