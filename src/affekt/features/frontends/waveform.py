"""The waveform itself, one sample a step: for networks that learn their own filters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from affekt.errors import ConfigError
from affekt.features.log_mel import Extractor


@dataclass(frozen=True)
class Waveform:
    """Samples as they are; the normalizer of the training part scales them.

    Attributes:
        sample_rate_hz: rate of the waveforms.
        clip_seconds: longer recordings are cut to this length.

    >>> Waveform().extractor()(torch.zeros(16_000)).shape
    torch.Size([16000, 1])
    """

    sample_rate_hz: int = 16_000
    clip_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.sample_rate_hz < 1_000 or not 0.1 <= self.clip_seconds < math.inf:
            got = f"sample_rate_hz = {self.sample_rate_hz}, clip_seconds = {self.clip_seconds}"
            raise ConfigError("features", got=got, expected="at least 1000 Hz and 0.1 s")

    @property
    def hop_seconds(self) -> float:
        return 1 / self.sample_rate_hz

    @property
    def clip_frames(self) -> int:
        return round(self.clip_seconds * self.sample_rate_hz)

    @property
    def dims(self) -> int:
        return 1

    @property
    def silence(self) -> float:
        return 0.0

    def extractor(self, device: torch.device | str = "cpu") -> Extractor:
        """The function from one waveform to its features."""

        def extract(samples: Float[Tensor, " samples"]) -> Float[Tensor, "samples 1"]:
            return samples[:, None].to(device)

        return extract
