"""Whisper's log-mel: an oracle (transformers), worked examples, and invariance to padding and to the batch."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch

from affekt.config import build
from affekt.errors import ConfigError
from affekt.features.clips import Clips
from affekt.features.frontends import FRONT_ENDS, WhisperLogMel, front_end_name
from affekt.features.frontends.whisper_log_mel import reflect

LENGTHS = (120_000, 48_137, 1_600, 399, 201, 1)


def noise(samples: int, seed: int = 0, loudness: float = 0.1) -> np.ndarray:
    """Noise with an envelope, so that frames differ."""
    envelope = 0.05 + np.abs(np.sin(np.arange(samples) / 3_000))
    return (np.random.default_rng(seed).normal(size=samples) * envelope * loudness).astype(np.float32)


def features(config: WhisperLogMel, waveform: np.ndarray) -> torch.Tensor:
    return config.extractor()(torch.from_numpy(waveform))


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize("samples", [120_000, 48_137, 1_600])
def test_equals_transformers(samples: int, mels: int) -> None:
    """The oracle reflects at the end of what it is given, so it is given no padding."""
    transformers = pytest.importorskip("transformers")
    extractor = transformers.WhisperFeatureExtractor(feature_size=mels)
    waveform = noise(samples)
    expected = extractor._np_extract_fbank_features(waveform[None], "cpu")[0].T
    np.testing.assert_allclose(features(WhisperLogMel(mels), waveform), expected, atol=2e-5)


def test_alone_in_a_batch_and_padded() -> None:
    """A loud neighbor and garbage past the end change nothing."""
    config = WhisperLogMel()
    waveforms = [noise(samples, seed, 0.1**seed) for seed, samples in enumerate(LENGTHS)]
    padded = np.random.default_rng(9).normal(size=(len(LENGTHS), 121_000)).astype(np.float32)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    together = config.module()(torch.from_numpy(padded), torch.tensor(LENGTHS))
    for row, waveform in zip(together, waveforms, strict=True):
        alone = features(config, waveform)
        assert len(alone) == config.frames(len(waveform))
        torch.testing.assert_close(row[: len(alone)], alone, atol=1e-4, rtol=0)
        assert not row[len(alone) :].any()


def test_a_top_hides_the_loudness() -> None:
    config, waveform = WhisperLogMel(top=5.4), noise(32_000)
    loud = features(config, waveform)
    assert float(loud.max()) == pytest.approx(5.4 / 4)
    assert float(loud.min()) >= (5.4 - 8) / 4
    torch.testing.assert_close(features(config, waveform * np.float32(1e-3)), loud, atol=1e-4, rtol=0)
    narrow = features(WhisperLogMel(top=5.4, decades=2.0), waveform)
    torch.testing.assert_close(narrow, loud.clamp_min((5.4 - 2) / 4))
    plain = features(WhisperLogMel(), waveform)
    torch.testing.assert_close(loud - loud.max(), plain - plain.max(), atol=1e-4, rtol=0)


def test_digital_silence_is_finite() -> None:
    assert features(WhisperLogMel(), np.zeros(8_000, np.float32)).unique().tolist() == [-1.5]
    assert torch.isfinite(features(WhisperLogMel(top=5.4), np.zeros(8_000, np.float32))).all()


def test_reflection() -> None:
    """Worked example: the sample before the first is the second, the one after the last the last but one."""
    ramp = torch.arange(1.0, 501.0).repeat(2, 1)
    padded = reflect(ramp, torch.tensor([500, 450]))
    assert padded[0, 197:203].tolist() == [4, 3, 2, 1, 2, 3]
    assert padded[0, 698:703].tolist() == [499, 500, 499, 498, 497]
    assert padded[1, 648:652].tolist() == [449, 450, 449, 448]


def test_clips_are_cut_and_the_description_comes_back() -> None:
    config = WhisperLogMel(top=5.0, clip_seconds=1.0)
    clips = Clips.from_waveforms([noise(30_000), noise(5_000)], config)
    assert clips.lengths.tolist() == [config.clip_frames, 31] == [100, 31]
    assert front_end_name(config) == "whisper-log-mel"
    assert build(FRONT_ENDS["whisper-log-mel"], asdict(config), "own.toml") == config


def test_bad_values_are_named_together() -> None:
    with pytest.raises(ConfigError) as error:
        WhisperLogMel(mels=0, top=9.0, decades=9.0, clip_seconds=31)
    names = ["mels", "top", "decades", "clip_seconds"]
    assert [fault.what for fault in error.value.faults] == [f"features.{name}" for name in names]
