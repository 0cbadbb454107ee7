"""Log-mel features with their first and second slopes over time, side by side: what the 3-D CRNN reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from affekt.features.frontends.framing import Framing, regression_deltas
from affekt.features.log_mel import Extractor, FeatureConfig


@dataclass(frozen=True)
class Deltas(Framing):
    """Log-mel, delta and delta-delta, one after the other: 3 x `mels` numbers a frame.

    Attributes:
        mels: bands.
        reach: frames before and after that a slope is fitted to.
        standardize: whether each recording is first scaled to zero mean and unit variance.
        clip_seconds: longer recordings are cut to this length.

    >>> Deltas().dims, Deltas().extractor()(torch.zeros(16_000)).shape
    (120, torch.Size([100, 120]))
    """

    mels: int = 40
    reach: int = 2
    standardize: bool = True
    clip_seconds: float = 30.0

    def rules(self) -> tuple[tuple[str, bool, str], ...]:
        return (("mels", 1 <= self.mels <= 256, "1 to 256"), ("reach", 1 <= self.reach <= 50, "1 to 50"))

    @property
    def dims(self) -> int:
        return 3 * self.mels

    @property
    def silence(self) -> float:
        return 0.0

    def extractor(self, device: torch.device | str = "cpu") -> Extractor:
        """The function from one waveform to its features."""
        fft_samples = max(512, 2 ** (self.window_samples - 1).bit_length())
        rate, high_hz = self.sample_rate_hz, self.sample_rate_hz / 2
        log_mel = FeatureConfig(
            rate, self.window_seconds, self.hop_seconds, fft_samples, self.mels, high_hz=high_hz
        ).extractor(device)

        def extract(samples: Float[Tensor, " samples"]) -> Float[Tensor, "frames dims"]:
            if self.standardize:
                samples = (samples - samples.mean()) / samples.std(correction=0).clamp_min(1e-8)
            static = log_mel(samples).cpu().numpy()
            first = regression_deltas(static, self.reach)
            second = regression_deltas(first, self.reach)
            return torch.from_numpy(np.concatenate([static, first, second], axis=1)).to(device)

        return extract
