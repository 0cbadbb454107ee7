"""Framing that several front ends share: positions of frames, and checks of settings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from affekt.errors import ConfigError, Fault


@dataclass(frozen=True)
class Framing:
    """Frames of :mod:`affekt.features.log_mel`: frame t covers samples [t*hop, t*hop + window), zeros past the end.

    Attributes:
        sample_rate_hz: rate of the waveforms.
        window_seconds, hop_seconds: analysis window and its step.
        clip_seconds: longer recordings are cut to this length.

    Raises:
        ConfigError: a value out of range; all of them at once.

    >>> Framing().clip_frames
    750
    """

    sample_rate_hz: int = 16_000
    window_seconds: float = 0.025
    hop_seconds: float = 0.010
    clip_seconds: float = 7.5

    def __post_init__(self) -> None:
        rules = (
            ("sample_rate_hz", self.sample_rate_hz >= 8_000, "at least 8000"),
            ("hop_seconds", 0.001 <= self.hop_seconds <= self.window_seconds, "at least 0.001, at most the window"),
            ("window_seconds", self.window_seconds <= 1, "at most 1"),
            ("clip_seconds", self.window_seconds <= self.clip_seconds < math.inf, "at least one window"),
        )
        faults = [
            Fault(f"features.{name}", str(getattr(self, name)), words)
            for name, holds, words in (*rules, *self.rules())
            if not holds
        ]
        if faults:
            raise ConfigError.of(faults)

    def rules(self) -> tuple[tuple[str, bool, str], ...]:
        """Further checks of a front end: attribute, whether it is valid, the expected value."""
        return ()

    @property
    def window_samples(self) -> int:
        return round(self.window_seconds * self.sample_rate_hz)

    @property
    def hop_samples(self) -> int:
        return round(self.hop_seconds * self.sample_rate_hz)

    @property
    def clip_frames(self) -> int:
        return self.frames(round(self.clip_seconds * self.sample_rate_hz))

    def frames(self, samples: int) -> int:
        """Number of frames of a waveform: one per started hop."""
        return -(-samples // self.hop_samples)

    def framed(self, samples: Float[Tensor, " samples"]) -> Float[Tensor, "frames window"]:
        """The frames of a waveform, as a view of its padded copy."""
        needed = (self.frames(len(samples)) - 1) * self.hop_samples + self.window_samples
        padded = torch.nn.functional.pad(samples, (0, max(0, needed - len(samples))))
        return padded.unfold(0, self.window_samples, self.hop_samples)[: self.frames(len(samples))]


def regression_deltas(contours: NDArray[np.float32], reach: int = 2) -> NDArray[np.float32]:
    """Slopes d_t = sum_n n (c_{t+n} - c_{t-n}) / (2 sum_n n^2), n = 1 .. reach, of [frames, dims]; edges are repeated.

    >>> regression_deltas(np.arange(6, dtype=np.float32)[:, None])[:, 0].tolist()
    [0.5, 0.800000011920929, 1.0, 1.0, 0.800000011920929, 0.5]
    """
    frames = len(contours)
    padded = np.pad(contours, ((reach, reach), (0, 0)), mode="edge")
    slopes = sum(
        n * (padded[reach + n : reach + n + frames] - padded[reach - n : reach - n + frames])
        for n in range(1, reach + 1)
    )
    return np.asarray(slopes / (2 * sum(n * n for n in range(1, reach + 1))), np.float32)
