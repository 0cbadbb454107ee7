"""Log-mel features: the one definition that training, export and inference share.

Frame t covers samples [t*hop, t*hop + window), zeros past the end of the signal, so a clip of n samples has
ceil(n / hop) frames: 7.5 s at 16 kHz are exactly 750. No frame depends on anything but its own samples (and, where a
level is set, its clip's loudness), so a clip's features are the same alone, in a batch and padded, and every frame past
a clip's last one is digital silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from affekt.errors import ConfigError, Fault

SMALLEST_FLOOR = 1e-37  # float32 holds it, so that its logarithm is finite
TINY = 1e-12  # mean square of what is as good as silence, -120 dB of full scale


Extractor = Callable[[Float[Tensor, " samples"]], Float[Tensor, "frames dims"]]


class FrontEnd(Protocol):
    """A conversion of a waveform to the sequence of vectors that a network reads: a frozen dataclass of plain values.

    :class:`FeatureConfig` is one; :mod:`affekt.features.frontends` has others.
    """

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the waveforms."""

    @property
    def clip_seconds(self) -> float:
        """Longer recordings are cut to this length."""

    @property
    def hop_seconds(self) -> float:
        """Time from one vector to the next."""

    @property
    def clip_frames(self) -> int:
        """Vectors of a clip of full length."""

    @property
    def dims(self) -> int:
        """Length of each vector."""

    @property
    def silence(self) -> float:
        """Value of padding after the end of a recording, in every dimension."""

    def extractor(self, device: torch.device | str = "cpu") -> Extractor:
        """The function from a single waveform to its vectors."""

    def __hash__(self) -> int:
        """Hash; equal front ends share their features."""


@dataclass(frozen=True, slots=True)
class FeatureConfig:
    """Everything that defines the features; stored in every checkpoint and exported model.

    The paper fixes 40 bands, 25 ms windows and 10 ms hops (section 4.1). It leaves open the window (Hann, periodic),
    the FFT size (512), the mel formula (HTK's, 2595 log10(1 + f / 700), triangles of height 1), the band edges and the
    floor below which energy counts as silence. With the same settings librosa's features are equal within 1e-4, and
    kaldi-native-fbank's within 2e-4 (natural logarithms; the tests say which settings those are).

    Attributes:
        sample_rate_hz: rate of the waveforms.
        window_seconds, hop_seconds: analysis window and its step.
        fft_samples: FFT size, at least the window.
        mels: number of bands.
        low_hz, high_hz: edges of the lowest and the highest band.
        floor: smallest band energy; digital silence becomes log(floor).
        level: root mean square that every clip is scaled to, so that loudness and microphone gain do not matter; 0
            leaves clips as they were recorded, which is the paper's way.
        clip_seconds: longer clips are cut to this length, and in padded mode shorter ones are filled with zeros.

    Raises:
        ConfigError: a value out of range; all of them at once.

    >>> FeatureConfig().frames(120_000), FeatureConfig().frames(1)
    (750, 1)
    """

    sample_rate_hz: int = 16_000
    window_seconds: float = 0.025
    hop_seconds: float = 0.010
    fft_samples: int = 512
    mels: int = 40
    low_hz: float = 20.0
    high_hz: float = 8_000.0
    floor: float = 1e-8
    level: float = 0.0
    clip_seconds: float = 7.5

    def __post_init__(self) -> None:
        nyquist_hz = self.sample_rate_hz / 2
        window = self.window_seconds * self.sample_rate_hz  # in samples, not rounded: it may be infinite
        rules = (
            ("sample_rate_hz", self.sample_rate_hz, self.sample_rate_hz >= 1_000, "at least 1000"),
            (
                "hop_seconds",
                self.hop_seconds,
                self.hop_seconds <= self.window_seconds and self.hop_seconds * self.sample_rate_hz >= 1,
                "at least a sample, at most the window",
            ),
            ("fft_samples", self.fft_samples, self.fft_samples + 0.5 >= window, f"at least {window:g}, the window"),
            ("mels", self.mels, 1 <= self.mels <= self.fft_samples // 2, "1 to half the FFT size"),
            ("low_hz", self.low_hz, 0 <= self.low_hz < self.high_hz, "0 or more, below high_hz"),
            ("high_hz", self.high_hz, self.high_hz <= nyquist_hz, f"at most {nyquist_hz:g}, half the sampling rate"),
            ("floor", self.floor, SMALLEST_FLOOR <= self.floor < math.inf, f"at least {SMALLEST_FLOOR:g}"),
            ("level", self.level, 0 <= self.level <= 1, "0 to 1"),
            (
                "clip_seconds",
                self.clip_seconds,
                self.window_seconds <= self.clip_seconds < math.inf,
                "at least one window",
            ),
        )
        faults = [
            Fault(f"features.{name}", str(value), expected) for name, value, valid, expected in rules if not valid
        ]
        if faults:
            raise ConfigError.of(faults)

    @property
    def window_samples(self) -> int:
        return round(self.window_seconds * self.sample_rate_hz)  # 400

    @property
    def hop_samples(self) -> int:
        return round(self.hop_seconds * self.sample_rate_hz)  # 160

    @property
    def clip_samples(self) -> int:
        return round(self.clip_seconds * self.sample_rate_hz)  # 120,000

    @property
    def clip_frames(self) -> int:
        return self.frames(self.clip_samples)  # 750

    @property
    def dims(self) -> int:
        """Length of each frame's vector."""
        return self.mels

    @property
    def silence(self) -> float:
        """Log-mel value of digital silence, which frames past a clip's end have."""
        return silence_value(self)

    def frames(self, samples: int) -> int:
        """Number of frames of a clip of `samples` samples: one per started hop."""
        return -(-samples // self.hop_samples)

    def extractor(self, device: torch.device | str = "cpu") -> Extractor:
        """:class:`LogMel` for one waveform."""
        log_mel = LogMel(self).to(device)

        def extract(samples: Float[Tensor, " samples"]) -> Float[Tensor, "frames mels"]:
            features: Tensor = log_mel(samples[None])[0]
            return features

        return extract


def hz_to_mel(hz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """HTK's mel scale: 2595 log10(1 + f / 700).

    >>> round(float(hz_to_mel(1000.0)), 2)
    999.99
    """
    return np.asarray(2595.0 * np.log10(1.0 + np.asarray(hz, np.float64) / 700.0))


def mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of :func:`hz_to_mel`."""
    return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))


def mel_filterbank(config: FeatureConfig) -> NDArray[np.float32]:
    """Triangular filters of height 1, equally spaced in mel: float32 [fft_samples // 2 + 1, mels]."""
    edges_mel = np.linspace(hz_to_mel(config.low_hz), hz_to_mel(config.high_hz), config.mels + 2)
    edges_hz = mel_to_hz(edges_mel)
    bins_hz = np.arange(config.fft_samples // 2 + 1) * (config.sample_rate_hz / config.fft_samples)
    left, center, right = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising = (bins_hz[:, None] - left) / (center - left)
    falling = (right - bins_hz[:, None]) / (right - center)
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


def set_level(
    waveform: Float[Tensor, "batch samples"], samples: Int[Tensor, " batch"] | None, level: float
) -> Float[Tensor, "batch samples"]:
    """Scale each waveform to a root mean square of `level` over its own samples.

    >>> set_level(torch.tensor([[0.5, -0.5, 0.0, 0.0]]), torch.tensor([2]), level=0.1).tolist()
    [[0.10000000149011612, -0.10000000149011612, 0.0, 0.0]]
    """
    count = waveform.shape[1] if samples is None else samples[:, None]
    mean_square = waveform.square().sum(1, keepdim=True) / count
    return waveform * (level / (mean_square + TINY).sqrt())


class LogMel(nn.Module):
    """Natural logarithm of mel-band energies of the windowed power spectrum.

    Shapes: Float["batch samples"] in [-1, 1] -> Float["batch frames mels"], frames = ceil(samples / hop).

    >>> LogMel(FeatureConfig())(torch.zeros(2, 120_000)).shape
    torch.Size([2, 750, 40])
    """

    window: Tensor
    filterbank: Tensor

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("window", torch.hann_window(config.window_samples), persistent=False)
        self.register_buffer("filterbank", torch.from_numpy(mel_filterbank(config)), persistent=False)

    def forward(
        self, waveform: Float[Tensor, "batch samples"], samples: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch frames mels"]:
        """Features of a batch; `samples` are each waveform's own, zeros follow them (None: all are its own)."""
        config = self.config
        if config.level:
            waveform = set_level(waveform, samples, config.level)
        frames = config.frames(waveform.shape[1])
        needed = (frames - 1) * config.hop_samples + config.window_samples
        padded = nn.functional.pad(waveform, (0, needed - waveform.shape[1]))
        framed = padded.unfold(1, config.window_samples, config.hop_samples)  # [batch, frames, window]
        spectrum = torch.fft.rfft(framed * self.window, n=config.fft_samples)
        power = spectrum.real.square() + spectrum.imag.square()  # [batch, frames, fft_samples // 2 + 1]
        log_mel: Tensor = (power @ self.filterbank).clamp_min(config.floor).log()
        return log_mel


@dataclass(frozen=True, slots=True)
class Normalizer:
    """Mean and standard deviation of each mel band, fitted on the training part of one fold and on nothing else.

    Attributes:
        mean, std: one number per band.

    >>> normalizer = Normalizer.fit([np.array([[1.0, 2.0], [3.0, 2.0]], np.float32)])
    >>> normalizer.mean, normalizer.std
    ((2.0, 2.0), (1.0, 1e-05))
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    SMALLEST_STD = 1e-5

    @classmethod
    def fit(cls, clips: Iterable[NDArray[np.float32]]) -> Self:
        """Statistics over all frames of all clips, each [frames, mels]; padding must not be among them."""
        count, total, squares = 0, np.float64(0), np.float64(0)
        for clip in clips:
            count += len(clip)
            total = total + clip.sum(0, dtype=np.float64)
            squares = squares + np.square(clip, dtype=np.float64).sum(0)
        if count == 0:
            raise ConfigError("normalizer", got="no frames", expected="at least one training clip")
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, cls.SMALLEST_STD**2))
        return cls(tuple(np.atleast_1d(mean).tolist()), tuple(np.atleast_1d(std).tolist()))

    def __call__(self, features: Float[Tensor, "... mels"]) -> Float[Tensor, "... mels"]:
        """(x - mean) / std for each band."""
        return (features - features.new_tensor(self.mean)) / features.new_tensor(self.std)

    def on(self, device: torch.device) -> Callable[[Float[Tensor, "... mels"]], Float[Tensor, "... mels"]]:
        """The same for float32 features on a device where its numbers lie already: nothing is copied at each call."""
        mean, std = (torch.tensor(values, dtype=torch.float32, device=device) for values in (self.mean, self.std))
        return lambda features: (features - mean) / std


def silence_value(config: FeatureConfig) -> float:
    """Log-mel value of digital silence, which zero-padded frames have: log(floor)."""
    return math.log(config.floor)
