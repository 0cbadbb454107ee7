"""Whisper's log-mel features, the input of its encoder (Radford et al. 2022, section 2.2).

80 Slaney bands of a short-time Fourier transform with 400 samples a frame and a hop of 160, of audio at 16 kHz. Frames
are centered: frame t covers samples [160 t - 200, 160 t + 200). Where a frame reaches past an end of the recording, the
signal is reflected there. A recording of n samples has floor(n / 160) frames. Log power is limited to 8 decades below
the largest value *of the recording*, so features do not depend on the rest of a batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from affekt.errors import ConfigError, Fault
from affekt.features.log_mel import Extractor

FFT_SAMPLES, HOP_SAMPLES, RATE_HZ = 400, 160, 16_000
REACH_SAMPLES = FFT_SAMPLES // 2
"""Samples that a frame reaches to either side of its center."""
TAIL_SAMPLES = REACH_SAMPLES - HOP_SAMPLES
"""Samples that the last frame reaches at most past the end: its center is at least one hop before the end."""
SHORTEST_SAMPLES = FFT_SAMPLES
"""Shorter recordings are filled with zeros to this length, so that there is enough to reflect."""
DECADES = 8.0
"""Whisper's dynamic range of the features, in factors of 10 of power."""
FLOOR, SMALLEST_FLOOR = 1e-10, 1e-16


@dataclass(frozen=True)
class WhisperLogMel:
    """Log-mel features as Whisper's encoder reads them.

    With x the base-10 logarithm of the mel power (at least 1e-10), and M its maximum over the recording, the features
    are (max(x, M - 8) + 4) / 4. With `top` they are (max(x - M, -8) + top) / 4 instead: the loudness of the recording
    has no effect, and all values lie in a known range.

    Attributes:
        mels: number of bands; 80, or 128 for the largest models.
        top: value that the maximum of each recording is moved to, before the division by 4; None keeps the loudness,
            as Whisper does (4 plus the maximum's logarithm).
        decades: dynamic range, the 8 above. Less hides faint noise.
        clip_seconds: longer recordings are cut to this length.

    Raises:
        ConfigError: a value out of range; all of them at once.

    >>> WhisperLogMel().extractor()(torch.zeros(16_000)).shape
    torch.Size([100, 80])
    """

    mels: int = 80
    top: float | None = None
    decades: float = DECADES
    clip_seconds: float = 7.5

    def __post_init__(self) -> None:
        faults = []
        if not 1 <= self.mels <= 200:
            faults.append(Fault("features.mels", str(self.mels), "1 to 200"))
        if self.top is not None and not 0 <= self.top <= DECADES:
            faults.append(Fault("features.top", str(self.top), f"0 to {DECADES:g}, or none"))
        if not 1 <= self.decades <= DECADES:
            faults.append(Fault("features.decades", str(self.decades), f"1 to {DECADES:g}"))
        if not SHORTEST_SAMPLES / RATE_HZ <= self.clip_seconds <= 30:
            faults.append(Fault("features.clip_seconds", str(self.clip_seconds), "0.025 to 30"))
        if faults:
            raise ConfigError.of(faults)

    @property
    def sample_rate_hz(self) -> int:
        return RATE_HZ

    @property
    def hop_samples(self) -> int:
        return HOP_SAMPLES

    @property
    def hop_seconds(self) -> float:
        return HOP_SAMPLES / RATE_HZ

    @property
    def clip_samples(self) -> int:
        return round(self.clip_seconds * RATE_HZ)

    @property
    def clip_frames(self) -> int:
        return self.frames(self.clip_samples)

    @property
    def dims(self) -> int:
        return self.mels

    @property
    def silence(self) -> float:
        """Value past a recording's end: what the encoder's convolutions see there."""
        return 0.0

    @property
    def floor(self) -> float:
        """Smallest mel power. With `top` it is far below any recording, so that loudness has no effect."""
        return FLOOR if self.top is None else SMALLEST_FLOOR

    def frames(self, samples: int) -> int:
        """Number of frames of a recording: floor(samples / 160), at least 2."""
        return max(samples, SHORTEST_SAMPLES) // HOP_SAMPLES

    def module(self) -> WhisperLogMelModule:
        """The module that computes the features of padded batches."""
        return WhisperLogMelModule(self)

    def extractor(self, device: torch.device | str = "cpu") -> Extractor:
        """The function from one waveform to its features."""
        module = WhisperLogMelModule(self).to(device)

        def extract(samples: Float[Tensor, " samples"]) -> Float[Tensor, "frames mels"]:
            features: Tensor = module(samples[None])[0]
            return features

        return extract


class WhisperLogMelModule(nn.Module):
    """Features of a batch of zero-padded waveforms.

    Shapes: Float["batch samples"] -> Float["batch frames mels"], frames as of the longest waveform; frames past a
    recording's own end are 0.
    """

    window: Tensor
    filterbank: Tensor

    def __init__(self, config: WhisperLogMel) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("window", torch.hann_window(FFT_SAMPLES), persistent=False)
        self.register_buffer("filterbank", torch.from_numpy(slaney_filterbank(config.mels)), persistent=False)

    def forward(
        self, waveform: Float[Tensor, "batch samples"], samples: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch frames mels"]:
        """Features of a batch.

        Args:
            waveform: padded to a common length with anything.
            samples: length of each recording, at least 1; None: all of `waveform`.
        """
        if samples is None:
            samples = torch.full((len(waveform),), waveform.shape[1], device=waveform.device)
        own = samples.clamp(SHORTEST_SAMPLES, max(SHORTEST_SAMPLES, waveform.shape[1]))
        valid = torch.arange(waveform.shape[1], device=waveform.device) < samples[:, None]
        padded = reflect(waveform * valid, own)
        frames = self.config.frames(waveform.shape[1])
        framed = padded.unfold(1, FFT_SAMPLES, HOP_SAMPLES)[:, :frames]
        spectrum = torch.fft.rfft(framed * self.window)
        power = spectrum.real.square() + spectrum.imag.square()
        log = (power @ self.filterbank).clamp_min(self.config.floor).log10()
        inside = torch.arange(frames, device=waveform.device) < (own // HOP_SAMPLES)[:, None]
        return self._scaled(log, inside[..., None])

    def _scaled(self, log: Tensor, inside: Tensor) -> Tensor:
        largest = log.masked_fill(~inside, -math.inf).amax((1, 2), keepdim=True)
        top, decades = self.config.top, self.config.decades
        if top is None:
            scaled = (torch.maximum(log, largest - decades) + 4.0) / 4.0
        else:
            scaled = ((log - largest).clamp_min(-decades) + top) / 4.0
        return scaled.masked_fill(~inside, 0.0)


def reflect(waveform: Float[Tensor, "batch samples"], samples: Int[Tensor, " batch"]) -> Float[Tensor, "batch padded"]:
    """Recordings with 200 reflected samples before their start, and reflected samples after their own end.

    Args:
        waveform: zero-padded recordings.
        samples: length of each, at least 400; zeros are appended to shorter waveforms.

    Returns:
        float32 [batch, 200 + max(samples, 400) + 200].
    """
    missing = max(0, SHORTEST_SAMPLES - waveform.shape[1])
    width = waveform.shape[1] + missing
    padded = nn.functional.pad(waveform, (0, missing))
    place = torch.arange(-REACH_SAMPLES, width + REACH_SAMPLES, device=waveform.device).abs()
    last = (samples - 1)[:, None]
    return padded.gather(1, (last - (last - place).abs()).clamp_min(0))


def slaney_filterbank(mels: int) -> NDArray[np.float32]:
    """Triangular filters of unit area, equally spaced on Slaney's mel scale up to 8 kHz: float32 [201, mels].

    Up to 1 kHz the scale is linear, 200/3 Hz a mel; above it is logarithmic, 27 mels for each factor of 6.4 (Slaney
    1998, "Auditory Toolbox").
    """

    def to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(mel >= 15, 1000 * np.exp(np.log(6.4) / 27 * (mel - 15)), mel * 200 / 3)

    highest = 15 + 27 / np.log(6.4) * np.log(RATE_HZ / 2 / 1000)
    edges_hz = to_hz(np.linspace(0, highest, mels + 2))
    bins_hz = np.arange(FFT_SAMPLES // 2 + 1)[:, None] * (RATE_HZ / FFT_SAMPLES)
    left, center, right = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising, falling = (bins_hz - left) / (center - left), (right - bins_hz) / (right - center)
    filters: Any = np.maximum(0.0, np.minimum(rising, falling)) * (2 / (right - left))
    return np.asarray(filters, np.float32)
