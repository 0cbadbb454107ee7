"""Log-mel features of one clip on one thread, compared with other libraries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.fft
import torch
from threadpoolctl import threadpool_limits

from affekt.features.log_mel import FeatureConfig, LogMel
from benchmarks.clip_peer import librosa_features
from benchmarks.rows import Row, Target, compared, seconds_in_turns
from benchmarks.setting import RATE_HZ, Setting, noise, paper_pipeline

TURNS = 31
REPEATS = 5
"""Clips each turn, so that a turn is long enough to be timed."""


def rows(setting: Setting) -> list[Row]:
    """affekt's training features, librosa, kaldi-native-fbank and torch.stft; the limit is the Fourier transform."""
    torch.set_num_threads(1)
    waveform, config = noise(), FeatureConfig()
    pipeline, log_mel = paper_pipeline(), LogMel(config)
    samples = torch.from_numpy(waveform)[None]
    works: dict[str, Callable[[], object]] = {
        "ours": lambda: log_mel(samples),
        "librosa": lambda: librosa_features(pipeline, waveform),
        "kaldi-native-fbank": lambda: kaldi_features(config, waveform),
        "torch.stft": lambda: stft_features(log_mel, samples),
        "transform": lambda: transform_alone(config, waveform),
    }
    with torch.inference_mode(), threadpool_limits(1):  # BLAS, too, is to use one thread
        repeated = {name: repeat(work) for name, work in works.items()}
        each = {
            name: [1_000 * one / REPEATS for one in times]
            for name, times in seconds_in_turns(repeated, TURNS, 3).items()
        }
    limit = {"limit": "the Fourier transform alone (scipy)", "limit_value": float(np.median(each["transform"]))}
    targets = {name: Target("ratio", at_least=1.0) for name in ("librosa", "kaldi-native-fbank")}
    work = "log-mel of one 7.5 s clip, 1 thread"
    return [
        compared(work, each["ours"], peer, each[peer], "ms", target=targets.get(peer), **limit)
        for peer in ("librosa", "kaldi-native-fbank", "torch.stft")
    ]


def repeat(work: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        for _ in range(REPEATS):
            work()

    return run


def kaldi_features(config: FeatureConfig, waveform: np.ndarray) -> np.ndarray:
    """Kaldi's features with the same bands and frames."""
    import kaldi_native_fbank as kaldi

    options = kaldi.FbankOptions()
    options.frame_opts.samp_freq = RATE_HZ
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = config.mels
    online = kaldi.OnlineFbank(options)
    online.accept_waveform(RATE_HZ, waveform)
    online.input_finished()
    return np.stack([online.get_frame(frame) for frame in range(online.num_frames_ready)])


def stft_features(log_mel: LogMel, samples: torch.Tensor) -> torch.Tensor:
    """A straightforward implementation in PyTorch."""
    config, window = log_mel.config, log_mel.window
    spectrum = torch.stft(
        samples, config.fft_samples, config.hop_samples, config.window_samples, window, return_complex=True
    )
    power = spectrum.abs().square().transpose(1, 2)
    return (power @ log_mel.filterbank).clamp_min(config.floor).log()


def transform_alone(config: FeatureConfig, waveform: np.ndarray) -> np.ndarray:
    """750 real transforms of 512 samples."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, config.window_samples)[:: config.hop_samples]
    transformed: np.ndarray = scipy.fft.rfft(frames, config.fft_samples)
    return transformed
