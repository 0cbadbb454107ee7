"""What every front end promises: its size, its frames, that equal ones are equal, and that faults are named."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from affekt.config import build
from affekt.errors import ConfigError
from affekt.features.clips import Clips
from affekt.features.frontends import (
    FRONT_ENDS,
    Deltas,
    Descriptors,
    LogMelFunctionals,
    OpenSmile,
    Spectrogram,
    SpeechFunctionals,
    Waveform,
    front_end_name,
)
from affekt.features.log_mel import FrontEnd

FRAMED = (Deltas(), Spectrogram(), Descriptors(), Descriptors(window_seconds=0.04, harmonicity=True, deltas=False))
WHOLE = (LogMelFunctionals(), SpeechFunctionals())
ALL = (*FRAMED, Waveform(), *WHOLE)


def voice(seconds: float, seed: int = 0, pitch_hz: float = 120.0) -> np.ndarray:
    """A buzz with an envelope and a little noise."""
    rng, time = np.random.default_rng(seed), np.arange(round(16_000 * seconds)) / 16_000
    buzz = sum(np.sin(2 * np.pi * n * pitch_hz * time) / n for n in range(1, 20))
    envelope = 0.2 + np.abs(np.sin(2 * np.pi * 1.5 * time))
    return (0.1 * buzz * envelope + 0.002 * rng.normal(size=len(time))).astype(np.float32)


def extract(front_end: FrontEnd, waveform: np.ndarray) -> torch.Tensor:
    return front_end.extractor()(torch.from_numpy(waveform))


@pytest.mark.parametrize("front_end", ALL, ids=repr)
@pytest.mark.parametrize("samples", [1, 159, 161, 16_000])
def test_shapes_of_any_length(front_end: FrontEnd, samples: int) -> None:
    features = extract(front_end, voice(1.0)[:samples])
    frames = {Waveform: samples, LogMelFunctionals: 1, SpeechFunctionals: 1}
    assert features.shape == (frames.get(type(front_end), -(-samples // 160)), front_end.dims)
    assert features.dtype == torch.float32
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("front_end", ALL, ids=repr)
def test_silence_and_a_constant_are_finite(front_end: FrontEnd) -> None:
    for level in (0.0, 0.5):
        assert torch.isfinite(extract(front_end, np.full(8_000, level, np.float32))).all()


@pytest.mark.parametrize("front_end", [*FRAMED, Waveform()], ids=repr)
def test_clips_are_cut_and_counted(front_end: FrontEnd) -> None:
    short = replace(front_end, clip_seconds=0.5)
    clips = Clips.from_waveforms([voice(1.3), voice(0.3)], short)
    assert int(clips.lengths[0]) == short.clip_frames == round(0.5 / short.hop_seconds)
    np.testing.assert_array_equal(clips[0], extract(short, voice(1.3)[:8_000]))


@pytest.mark.parametrize("front_end", [*ALL, OpenSmile("IS09", "descriptors")], ids=repr)
def test_files_bring_them_back(front_end: FrontEnd) -> None:
    kind = FRONT_ENDS[front_end_name(front_end)]
    assert build(kind, asdict(front_end), "own.toml") == front_end
    assert hash(replace(front_end)) == hash(front_end)


@pytest.mark.parametrize(
    ("kind", "values", "faults"),
    [
        (Deltas, {"mels": 0, "reach": 0, "hop_seconds": 0.1}, ["hop_seconds", "mels", "reach"]),
        (Spectrogram, {"high_hz": 9_000.0, "floor": 0.0}, ["high_hz", "floor"]),
        (Spectrogram, {"bin_hz": 30.0}, ["bin_hz"]),
        (Descriptors, {"clip_seconds": 0.0, "sample_rate_hz": 4_000}, ["sample_rate_hz", "clip_seconds"]),
    ],
)
def test_all_faults_at_once(kind: type, values: dict, faults: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**values)
    assert [fault.what for fault in caught.value.faults] == [f"features.{name}" for name in faults]


def test_other_faults() -> None:
    with pytest.raises(ConfigError, match=r"clip_seconds = 0\.0"):
        Waveform(clip_seconds=0.0)
    with pytest.raises(ConfigError, match="eGeMAPSv02 functionals"):
        OpenSmile("eGeMAPS")
