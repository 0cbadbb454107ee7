"""Linear-frequency log-magnitude spectrogram: what the CNN + BLSTM reads."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from affekt.features.frontends.framing import Framing
from affekt.features.log_mel import Extractor


@dataclass(frozen=True)
class Spectrogram(Framing):
    """Logarithm of the magnitude of a Hamming-windowed short-time Fourier transform, up to a frequency.

    Attributes:
        window_seconds, hop_seconds: analysis window and its step.
        bin_hz: distance of the frequencies.
        high_hz: upper limit of the frequencies, which start at 0.
        floor: smallest magnitude; digital silence becomes log(floor).
        clip_seconds: longer recordings are cut to this length.

    >>> Spectrogram().dims, Spectrogram().extractor()(torch.zeros(16_000)).shape
    (200, torch.Size([100, 200]))
    """

    window_seconds: float = 0.040
    bin_hz: float = 20.0
    high_hz: float = 4_000.0
    floor: float = 1e-4
    clip_seconds: float = 30.0

    def rules(self) -> tuple[tuple[str, bool, str], ...]:
        return (
            ("bin_hz", 0 < self.bin_hz * self.window_seconds <= 1, "above 0, at most 1 / window"),
            ("high_hz", self.bin_hz <= self.high_hz <= self.sample_rate_hz / 2, "bin_hz to half the sampling rate"),
            ("floor", 1e-30 <= self.floor < math.inf, "at least 1e-30"),
        )

    @property
    def dims(self) -> int:
        return round(self.high_hz / self.bin_hz)

    @property
    def silence(self) -> float:
        return math.log(self.floor)

    def extractor(self, device: torch.device | str = "cpu") -> Extractor:
        """The function from one waveform to its features."""
        window = torch.hamming_window(self.window_samples, device=device)
        fft_samples = round(self.sample_rate_hz / self.bin_hz)

        def extract(samples: Float[Tensor, " samples"]) -> Float[Tensor, "frames dims"]:
            spectrum = torch.fft.rfft(self.framed(samples) * window, n=fft_samples)[:, : self.dims]
            log_magnitude: Tensor = spectrum.abs().clamp_min(self.floor).log()
            return log_magnitude

        return extract
