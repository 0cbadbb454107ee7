"""The front end in ONNX against the one in PyTorch that training uses."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from affekt.export.graph import front_end
from affekt.export.graph.builder import Graph
from affekt.features.log_mel import FeatureConfig, LogMel, Normalizer

Floats = Any


def session(config: FeatureConfig, normalizer: Normalizer) -> onnxruntime.InferenceSession:
    graph = Graph()
    clipped = front_end.clip_waveform(graph, config.clip_samples, "waveform", "samples")
    clipped = front_end.set_level(graph, config, clipped, "samples")
    frames = front_end.batch_frames(graph, config, clipped)
    features = front_end.normalize(graph, normalizer, front_end.log_mel(graph, config, clipped, frames))
    graph.op("Identity", features, name="features")
    graph.op("Identity", front_end.frame_lengths(graph, config, "samples"), name="lengths")
    inputs = {"waveform": ("float32", ["batch", "time"]), "samples": ("int64", ["batch"])}
    outputs = {"features": ("float32", ["batch", "frames", config.mels]), "lengths": ("int64", ["batch"])}
    return onnxruntime.InferenceSession(graph.model(inputs, outputs).SerializeToString())


def run(config: FeatureConfig, waveform: Floats, samples: list[int]) -> tuple[Floats, Floats]:
    normalizer = Normalizer(tuple(np.linspace(-9, -5, config.mels).tolist()), (2.0,) * config.mels)
    answers: tuple[Floats, Floats] = session(config, normalizer).run(
        None, {"waveform": waveform, "samples": np.array(samples)}
    )
    return answers


def expected(config: FeatureConfig, waveform: Floats) -> Floats:
    normalizer = Normalizer(tuple(np.linspace(-9, -5, config.mels).tolist()), (2.0,) * config.mels)
    return normalizer(LogMel(config)(torch.from_numpy(waveform))).numpy()


@pytest.mark.parametrize(
    "config",
    [
        FeatureConfig(),
        FeatureConfig(window_seconds=0.02505),  # 401 samples: no sample in the middle
        FeatureConfig(fft_samples=514),  # not divisible by 4: no mirrored bins
        FeatureConfig(sample_rate_hz=8_000, high_hz=4_000, fft_samples=256, mels=26, hop_seconds=0.025),
    ],
    ids=["default", "odd window", "odd FFT", "8 kHz, no overlap"],
)
@pytest.mark.parametrize("samples", [1, 159, 160, 161, 5_000])
def test_equals_torch(config: FeatureConfig, samples: int) -> None:
    waveform = np.random.default_rng(samples).normal(scale=0.1, size=(2, samples)).astype(np.float32)
    features, lengths = run(config, waveform, [samples, samples])
    np.testing.assert_allclose(features, expected(config, waveform), atol=1e-4)
    assert lengths.tolist() == [config.frames(samples)] * 2


def test_silence_is_the_floor() -> None:
    config = FeatureConfig()
    features, _ = run(config, np.zeros((1, 1_600), np.float32), [1_600])
    np.testing.assert_allclose(features, expected(config, np.zeros((1, 1_600), np.float32)), atol=1e-6)


def test_level_is_that_of_the_own_samples() -> None:
    """Loudness is evened out over each utterance's own part of the clip."""
    config = FeatureConfig(level=0.05, clip_seconds=0.5)
    waveform = np.random.default_rng(0).normal(scale=0.1, size=(2, 12_000)).astype(np.float32)
    wanted = [expected(config, waveform[:1, :8_000]), expected(config, waveform[1:, :3_000])]
    features, _ = run(config, waveform * np.float32([[0.01], [3.0]]), [12_000, 3_000])
    np.testing.assert_allclose(features[:1], wanted[0], atol=1e-3)
    np.testing.assert_allclose(features[1:, :19], wanted[1], atol=1e-3)


def test_what_follows_an_utterance_does_not_matter() -> None:
    """Samples past an utterance's own, and past the clip, are not heard."""
    config = FeatureConfig(clip_seconds=0.5)
    waveform = np.random.default_rng(0).normal(scale=0.1, size=(2, 12_000)).astype(np.float32)
    silenced = waveform[:, :8_000].copy()
    silenced[1, 3_000:] = 0
    features, lengths = run(config, waveform, [12_000, 3_000])
    np.testing.assert_allclose(features, expected(config, silenced), atol=1e-4)
    assert lengths.tolist() == [50, 19]
