"""Log-mel features: against librosa, kaldi-native-fbank and a plain loop; alone, in a batch and padded alike."""

from __future__ import annotations

import math

import kaldi_native_fbank
import librosa
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from affekt.errors import ConfigError
from affekt.features.log_mel import (
    FeatureConfig,
    LogMel,
    Normalizer,
    hz_to_mel,
    mel_filterbank,
    mel_to_hz,
    set_level,
    silence_value,
)

PAPER = FeatureConfig()


@pytest.fixture(scope="module")
def sweep() -> NDArray[np.float32]:
    """Three seconds of a rising tone in soft noise: every band holds much energy at some time and little at another."""
    seconds = np.arange(48_000) / 16_000
    tone = 0.3 * np.sin(2 * np.pi * (200 + 1_200 * seconds) * seconds)
    return (tone + 0.01 * np.random.default_rng(0).normal(size=48_000)).astype(np.float32)


def log_mel(waveform: NDArray[np.float32], config: FeatureConfig = PAPER) -> NDArray[np.float32]:
    return LogMel(config)(torch.from_numpy(waveform)[None])[0].numpy()


def test_librosa_agrees(sweep: NDArray[np.float32]) -> None:
    """librosa centers the 400-sample window in its 512-sample frame: 56 zeros before the signal align the frames."""
    aligned = np.concatenate([np.zeros(56, np.float32), sweep, np.zeros(456, np.float32)])
    settings = {"n_fft": 512, "hop_length": 160, "win_length": 400, "center": False}
    bands = {"n_mels": 40, "fmin": 20, "fmax": 8_000, "htk": True, "norm": None}
    energies = librosa.feature.melspectrogram(y=aligned, sr=16_000, **settings, **bands)
    expected = np.log(np.maximum(energies.T, 1e-8))
    assert np.ptp(expected) > 10
    np.testing.assert_allclose(log_mel(sweep), expected[:300], atol=1e-4)


def test_kaldi_native_fbank_agrees(sweep: NDArray[np.float32]) -> None:
    """Without dither, pre-emphasis and removal of the mean, with a periodic Hann window and triangles over Hz."""
    options = kaldi_native_fbank.FbankOptions()
    frames, bands = options.frame_opts, options.mel_opts
    frames.dither, frames.preemph_coeff, frames.remove_dc_offset, frames.window_type = 0, 0, False, "hann"
    bands.num_bins, bands.low_freq, bands.high_freq = 40, 20, 8_000
    bands.is_librosa, bands.use_slaney_mel_scale, bands.norm = True, False, ""
    fbank = kaldi_native_fbank.OnlineFbank(options)
    fbank.accept_waveform(16_000, sweep.tolist())
    fbank.input_finished()
    expected = np.stack([fbank.get_frame(index) for index in range(fbank.num_frames_ready)])
    assert len(expected) == 298  # whole windows only
    np.testing.assert_allclose(log_mel(sweep)[:298], expected, atol=2e-4)


def test_a_plain_loop_agrees() -> None:
    """The definition in float64, at settings that are not the paper's and do not divide evenly."""
    config = FeatureConfig(22_050, 0.02, 0.0075, 450, 13, 50.0, 9_000.0, 1e-6, clip_seconds=1.0)
    waveform = np.random.default_rng(1).uniform(-0.5, 0.5, 3_001).astype(np.float32)
    window, hop = 441, 165  # 165.4 samples
    padded = np.concatenate([waveform, np.zeros(window)])
    expected = np.empty((19, 13))
    edges = [
        700 * (10 ** (mel / 2595) - 1)
        for mel in np.linspace(*(2595 * math.log10(1 + f / 700) for f in (50, 9_000)), 15)
    ]
    for t in range(19):
        hann = [0.5 - 0.5 * math.cos(2 * math.pi * n / window) for n in range(window)]
        power = np.abs(np.fft.rfft(padded[t * hop : t * hop + window] * hann, 450)) ** 2
        for band, (left, center, right) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
            bins = np.arange(226) * 22_050 / 450
            weights = np.clip(np.minimum((bins - left) / (center - left), (right - bins) / (right - center)), 0, None)
            expected[t, band] = math.log(max(power @ weights, 1e-6))
    np.testing.assert_allclose(log_mel(waveform, config), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("samples", "frames"), [(120_000, 750), (1, 1), (159, 1), (160, 1), (161, 2), (320, 2), (119_999, 750)]
)
def test_frames_are_started_hops(samples: int, frames: int) -> None:
    assert PAPER.frames(samples) == frames
    assert LogMel(PAPER)(torch.zeros(1, samples)).shape == (1, frames, 40)


def test_the_paper_s_clip() -> None:
    assert (PAPER.clip_samples, PAPER.clip_frames, PAPER.window_samples, PAPER.hop_samples) == (120_000, 750, 400, 160)


def test_a_clip_is_the_same_alone_in_a_batch_and_padded(sweep: NDArray[np.float32]) -> None:
    lengths = [48_000, 20_001, 160, 1]
    batch = np.zeros((4, 48_000), np.float32)
    for row, length in enumerate(lengths):
        batch[row, :length] = sweep[:length]
    together = LogMel(PAPER)(torch.from_numpy(batch)).numpy()
    for row, length in enumerate(lengths):
        frames = PAPER.frames(length)
        np.testing.assert_allclose(together[row, :frames], log_mel(sweep[:length]), atol=1e-6)
        np.testing.assert_array_equal(together[row, frames:], np.float32(silence_value(PAPER)))


def test_silence_and_the_floor() -> None:
    assert silence_value(PAPER) == math.log(1e-8)
    np.testing.assert_array_equal(log_mel(np.zeros(800, np.float32)), np.float32(math.log(1e-8)))
    quiet = 1e-6 * np.random.default_rng(0).normal(size=800).astype(np.float32)
    assert (log_mel(quiet) >= np.float32(math.log(1e-8))).all()
    lowest = FeatureConfig(floor=1e-37)
    assert torch.isfinite(LogMel(lowest)(torch.zeros(1, 400))).all()


def test_a_tone_is_in_its_band() -> None:
    """1000 Hz is 1000 mel; the centers are 68.5 mel apart from 100.3 on: nearest is number 13, at 990.6."""
    tone = np.sin(2 * np.pi * 1_000 * np.arange(1_600) / 16_000).astype(np.float32)
    centers = np.linspace(hz_to_mel(20.0), hz_to_mel(8_000.0), 42)[1:-1]
    assert int(np.argmin(np.abs(centers - 1_000))) == 13
    assert (log_mel(tone)[:7].argmax(1) == 13).all()


def test_twice_the_amplitude_is_four_times_the_energy(sweep: NDArray[np.float32]) -> None:
    louder, soft = log_mel(2 * sweep), log_mel(sweep)
    np.testing.assert_allclose((louder - soft)[:297], math.log(4), atol=1e-5)


def test_the_filters() -> None:
    filters = mel_filterbank(PAPER)
    assert filters.shape == (257, 40)
    assert (filters >= 0).all()
    assert (filters.max(0) > 0.3).all()  # every band holds a bin, and none has more than height 1
    assert filters.max() <= 1
    bins_hz = np.arange(257) * 31.25
    inside = (bins_hz >= mel_to_hz(hz_to_mel(20.0) + 68.5)) & (bins_hz <= mel_to_hz(hz_to_mel(8_000.0) - 68.5))
    np.testing.assert_allclose(filters[inside].sum(1), 1, atol=1e-5)  # neighbors' slopes share every bin


def test_mel_and_back() -> None:
    hz = np.linspace(0, 8_000, 50)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz)), hz, atol=1e-9)
    np.testing.assert_allclose(hz_to_mel(hz), librosa.hz_to_mel(hz, htk=True), atol=1e-9)


def test_levels_are_of_the_own_samples() -> None:
    rng = np.random.default_rng(0)
    waveform = torch.zeros(2, 1_000)
    waveform[0] = torch.from_numpy(rng.normal(size=1_000))
    waveform[1, :300] = 0.01 * torch.from_numpy(rng.normal(size=300))
    scaled = set_level(waveform, torch.tensor([1_000, 300]), 0.05)
    assert scaled[0].square().mean().sqrt().item() == pytest.approx(0.05, rel=1e-4)
    assert scaled[1, :300].square().mean().sqrt().item() == pytest.approx(0.05, rel=1e-4)
    assert not scaled[1, 300:].any()


def test_with_a_level_the_gain_of_a_recording_does_not_matter(sweep: NDArray[np.float32]) -> None:
    level = FeatureConfig(level=0.05)
    np.testing.assert_allclose(log_mel(sweep / 7, level), log_mel(sweep, level), atol=1e-4)
    rms = float(np.sqrt(np.square(sweep, dtype=np.float64).mean()))
    np.testing.assert_allclose(log_mel(sweep, level), log_mel(sweep * np.float32(0.05 / rms)), atol=1e-4)
    padded = torch.from_numpy(np.concatenate([sweep, np.zeros(9_000, np.float32)]))[None]
    together = LogMel(level)(padded, torch.tensor([48_000]))[0, :300]
    np.testing.assert_allclose(together.numpy(), log_mel(sweep, level), atol=1e-5)
    assert (log_mel(np.zeros(800, np.float32), level) == np.float32(math.log(1e-8))).all()


def test_all_faults_of_a_configuration_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        FeatureConfig(500, 0.02, 0.03, 8, 9, 400.0, 300.0, 0.0, 1.5, 0.01)
    named = [fault.what.removeprefix("features.") for fault in raised.value.faults]
    everything = "sample_rate_hz hop_seconds fft_samples mels low_hz high_hz floor level clip_seconds"
    assert named == everything.split()


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_seconds": math.inf},
        {"window_seconds": math.nan},
        {"hop_seconds": 1e-6},  # not a whole sample: frames could not be counted
        {"hop_seconds": -0.01},
        {"floor": 1e-50},  # 0 in float32, whose logarithm is not finite
        {"floor": math.inf},
        {"clip_seconds": math.inf},
        {"clip_seconds": math.nan},
        {"high_hz": math.inf},
        {"level": math.nan},
    ],
)
def test_values_that_no_feature_can_be_made_with(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"features.({'|'.join(wrong)}|fft_samples|hop_seconds)"):
        FeatureConfig(**wrong)


def test_the_normalizer_is_numpy_s_mean_and_deviation_of_all_frames() -> None:
    rng = np.random.default_rng(0)
    clips = [rng.normal(-9, 3, (frames, 5)).astype(np.float32) for frames in (1, 40, 7)]
    normalizer = Normalizer.fit(clips)
    frames = np.concatenate(clips).astype(np.float64)
    np.testing.assert_allclose(normalizer.mean, frames.mean(0), rtol=1e-12)
    np.testing.assert_allclose(normalizer.std, frames.std(0), rtol=1e-10)
    normalized = normalizer(torch.from_numpy(np.concatenate(clips))).numpy()
    np.testing.assert_allclose(normalized, (frames - frames.mean(0)) / frames.std(0), atol=1e-5)


def test_a_band_that_never_changes_becomes_zero() -> None:
    constant = np.full((9, 2), silence_value(PAPER), np.float32)
    normalized = Normalizer.fit([constant])(torch.from_numpy(constant))
    assert normalized.abs().max() < 0.1


def test_a_normalizer_needs_a_frame() -> None:
    for nothing in ([], [np.zeros((0, 4), np.float32)]):
        with pytest.raises(ConfigError, match="no frames"):
            Normalizer.fit(nothing)
