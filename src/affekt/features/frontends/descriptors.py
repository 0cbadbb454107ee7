"""Low-level descriptors: the 16 contours of the INTERSPEECH 2009 challenge (Schuller et al. 2009), our own computation.

Energy, 12 mel-frequency cepstral coefficients, zero-crossing rate, voicing and pitch, smoothed over three frames. They
measure the same quantities as openSMILE's set, on other scales;
:mod:`affekt.features.frontends.opensmile` has the original.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from affekt.features.frontends.framing import Framing, regression_deltas
from affekt.features.frontends.pitch import Pitch, track_pitch
from affekt.features.log_mel import Extractor, FeatureConfig, mel_filterbank

CEPSTRA, MEL_BANDS, FLOOR = 12, 26, 1e-10
SMOOTHED_FRAMES = 3

Contours = NDArray[np.float32]


@dataclass(frozen=True)
class Descriptors(Framing):
    """Energy, cepstra 1-12, zero-crossing rate, voicing, pitch; then harmonicity; then the slopes of all.

    Attributes:
        window_seconds, hop_seconds: of energy, cepstra and zero crossings; pitch has a longer window, centered alike.
        harmonicity: whether the harmonics-to-noise ratio is among them.
        log_pitch: pitch as its logarithm, interpolated where unvoiced; else in Hz, 0 where unvoiced.
        deltas: whether the slope of each contour follows it.
        clip_seconds: longer recordings are cut to this length.

    >>> Descriptors().dims, Descriptors(window_seconds=0.04, harmonicity=True, deltas=False).dims
    (32, 17)
    """

    harmonicity: bool = False
    log_pitch: bool = False
    deltas: bool = True

    @property
    def dims(self) -> int:
        return (CEPSTRA + 4 + self.harmonicity) * (1 + self.deltas)

    @property
    def silence(self) -> float:
        return 0.0

    def extractor(self, device: torch.device | str = "cpu") -> Extractor:
        """The function from one waveform to its contours."""

        def extract(samples: Float[Tensor, " samples"]) -> Float[Tensor, "frames dims"]:
            return torch.from_numpy(self.contours(samples.cpu().numpy())).to(device)

        return extract

    def contours(self, samples: NDArray[np.float32]) -> Contours:
        """All contours of a waveform, [frames, dims]."""
        frames = self.framed(torch.from_numpy(np.array(samples))).double().numpy()
        pitch = self.pitch(samples)
        columns = [
            np.sqrt(np.square(frames).mean(1)),
            *cepstra(frames, self.sample_rate_hz).T,
            zero_crossing_rate(frames),
            pitch.strength,
            interpolated_log(pitch.hz) if self.log_pitch else pitch.hz,
        ]
        columns += [pitch.harmonicity_db] if self.harmonicity else []
        static = smoothed(np.stack(columns, axis=1)).astype(np.float32)
        return np.concatenate([static, regression_deltas(static)], axis=1) if self.deltas else static

    def pitch(self, samples: NDArray[np.float32]) -> Pitch:
        """Pitch around the middle of each frame."""
        centers = np.arange(self.frames(len(samples))) * self.hop_samples + self.window_samples // 2
        return track_pitch(samples.astype(np.float64), self.sample_rate_hz, centers)


def cepstra(frames: NDArray[np.float64], sample_rate_hz: int) -> NDArray[np.float64]:
    """Mel-frequency cepstral coefficients 1 to 12 of Hamming-windowed frames: [frames, 12]."""
    window = frames.shape[1]
    fft_samples = max(512, 2 ** (window - 1).bit_length())
    bank = mel_filterbank(
        FeatureConfig(sample_rate_hz, fft_samples=fft_samples, mels=MEL_BANDS, high_hz=sample_rate_hz / 2)
    )
    power = np.abs(np.fft.rfft(frames * np.hamming(window), fft_samples)) ** 2
    log_mel = np.log(np.maximum(power @ bank, FLOOR))
    return np.asarray(scipy.fft.dct(log_mel, axis=1, norm="ortho")[:, 1 : CEPSTRA + 1])


def zero_crossing_rate(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of neighboring samples of different sign.

    >>> zero_crossing_rate(np.array([[1.0, -1.0, -1.0, 1.0, 1.0]])).tolist()
    [0.5]
    """
    return np.asarray(np.diff(np.signbit(frames), axis=1).mean(1))


def interpolated_log(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Natural logarithm of a pitch contour, straight lines over unvoiced frames; all 0 where nothing is voiced.

    >>> interpolated_log(np.array([0.0, np.e, 0.0, np.e**2, 0.0])).tolist()
    [1.0, 1.0, 1.5, 2.0, 2.0]
    """
    voiced = np.flatnonzero(hz > 0)
    if not len(voiced):
        return np.zeros_like(hz)
    return np.asarray(np.interp(np.arange(len(hz)), voiced, np.log(hz[voiced])))


def smoothed(contours: NDArray[np.float64], frames: int = SMOOTHED_FRAMES) -> NDArray[np.float64]:
    """Moving average of [frames, dims] over an odd number of frames; the edges are repeated.

    >>> smoothed(np.array([[0.0], [3.0], [0.0], [0.0]]))[:, 0].tolist()
    [1.0, 1.0, 1.0, 0.0]
    """
    reach = frames // 2
    padded = np.pad(contours, ((reach, reach), (0, 0)), mode="edge")
    return np.asarray(sum(padded[shift : shift + len(contours)] for shift in range(frames)) / frames)
