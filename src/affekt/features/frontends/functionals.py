"""One vector for a whole utterance: statistics of contours over time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from affekt.features.frontends.descriptors import CEPSTRA, Descriptors
from affekt.features.frontends.framing import regression_deltas
from affekt.features.log_mel import Extractor, FeatureConfig

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class _WholeUtterance(Protocol):
    """A front end with a single vector a recording."""

    @property
    def clip_seconds(self) -> float: ...

    @property
    def hop_seconds(self) -> float:
        return self.clip_seconds

    @property
    def clip_frames(self) -> int:
        return 1

    @property
    def silence(self) -> float:
        return 0.0


@dataclass(frozen=True)
class LogMelFunctionals(_WholeUtterance):
    """Statistics of each log-mel band: mean, deviation, five quantiles, and deviation and mean magnitude of its slope.

    Attributes:
        log_mel: the bands.

    >>> LogMelFunctionals().dims, LogMelFunctionals().extractor()(torch.zeros(16_000)).shape
    (360, torch.Size([1, 360]))
    """

    log_mel: FeatureConfig = field(default_factory=lambda: FeatureConfig(clip_seconds=30.0))

    @property
    def sample_rate_hz(self) -> int:
        return self.log_mel.sample_rate_hz

    @property
    def clip_seconds(self) -> float:
        return self.log_mel.clip_seconds

    @property
    def dims(self) -> int:
        return self.log_mel.mels * (4 + len(QUANTILES))

    def extractor(self, device: torch.device | str = "cpu") -> Extractor:
        """The function from one waveform to its vector."""
        bands = self.log_mel.extractor(device)

        def extract(samples: Float[Tensor, " samples"]) -> Float[Tensor, "1 dims"]:
            contours = bands(samples).cpu().numpy()
            slopes = regression_deltas(contours)
            parts = [contours.mean(0), contours.std(0), *np.quantile(contours, QUANTILES, axis=0)]
            return _vector([*parts, slopes.std(0), np.abs(slopes).mean(0)], device)

        return extract


@dataclass(frozen=True)
class SpeechFunctionals(_WholeUtterance):
    """100 functionals of the 16 low-level descriptors.

    Of each contour: mean, deviation, 5th, 50th and 95th percentile, and deviation of its slope; and of the utterance:
    mean and deviation of the logarithm of the pitch where it is voiced, how much of it is voiced, and how long it is.

    Attributes:
        sample_rate_hz: rate of the waveforms.
        clip_seconds: longer recordings are cut to this length.

    >>> SpeechFunctionals().extractor()(torch.zeros(16_000)).shape
    torch.Size([1, 100])
    """

    sample_rate_hz: int = 16_000
    clip_seconds: float = 30.0

    @property
    def dims(self) -> int:
        return 6 * (CEPSTRA + 4) + 4

    @property
    def descriptors(self) -> Descriptors:
        """The contours."""
        return Descriptors(self.sample_rate_hz, clip_seconds=self.clip_seconds, deltas=False)

    def extractor(self, device: torch.device | str = "cpu") -> Extractor:
        """The function from one waveform to its vector."""
        descriptors = self.descriptors

        def extract(samples: Float[Tensor, " samples"]) -> Float[Tensor, "1 dims"]:
            waveform = samples.cpu().numpy()
            contours = descriptors.contours(waveform)
            parts = [contours.mean(0), contours.std(0), *np.quantile(contours, (0.05, 0.5, 0.95), axis=0)]
            slopes = regression_deltas(contours).std(0)
            return _vector([*parts, slopes, _utterance(descriptors.pitch(waveform).hz, descriptors)], device)

        return extract


def _utterance(hz: NDArray[np.float64], descriptors: Descriptors) -> NDArray[np.float64]:
    """Mean and deviation of the log-pitch, share of voiced frames, seconds."""
    voiced = np.log(hz[hz > 0]) if (hz > 0).any() else np.zeros(1)
    return np.array([voiced.mean(), voiced.std(), (hz > 0).mean(), len(hz) * descriptors.hop_seconds])


def _vector(parts: list[NDArray[np.floating]], device: torch.device | str) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.float32)[None]).to(device)
