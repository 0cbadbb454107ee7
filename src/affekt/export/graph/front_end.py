"""The front end in ONNX: waveform -> normalized log-mel features, equal to `features.LogMel` and `Normalizer`.

The Fourier transform is a matrix product, a quarter of the size that it has when written down plainly:

* A periodic Hann window of W samples is even about its center, so with m counted from there
  ``X[k] = sum_m w[m] x[m] exp(-2 pi i m k / N)`` needs only the even part x[m] + x[-m] for its real and the odd part
  x[m] - x[-m] for its imaginary half: half the products. (Moving the origin turns the phase, not the power.)
* ``cos(2 pi m (N/2 - k) / N) = (-1)^m cos(2 pi m k / N)``, and the sine alike with the other sign: sums over even m and
  over odd m, computed for the lower half of the bins, give the upper half as their difference. Half again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from affekt.export.graph.builder import Graph, ints
from affekt.features.log_mel import TINY, FeatureConfig, Normalizer, mel_filterbank


@dataclass(frozen=True)
class Spectrum:
    """A short-time Fourier transform with a periodic Hann window, and the mel filters that follow it.

    Attributes:
        window_samples, hop_samples, fft_samples: sizes.
        filters: float32 [fft_samples // 2 + 1, mels].
    """

    window_samples: int
    hop_samples: int
    fft_samples: int
    filters: NDArray[np.float32]

    @classmethod
    def of(cls, config: FeatureConfig) -> Spectrum:
        """The transform that log-mel features use."""
        return cls(config.window_samples, config.hop_samples, config.fft_samples, mel_filterbank(config))


def clip_waveform(graph: Graph, clip_samples: int, waveform: str, samples: str) -> str:
    """The first `clip_samples` of each waveform, with zeros past the recording's own end."""
    clipped = graph.op("Slice", waveform, ints(0), ints(clip_samples), ints(1))
    time = graph.count(graph.size(clipped, 1))
    valid = graph.op("Less", time, graph.op("Unsqueeze", samples, ints(1)))
    return graph.op("Where", valid, clipped, np.float32(0))


def set_level(graph: Graph, config: FeatureConfig, waveform: str, samples: str) -> str:
    """Each waveform scaled to the configured root mean square over its own samples, as `features.set_level` does."""
    if not config.level:
        return waveform
    own = graph.op("Min", samples, np.int64(config.clip_samples))
    count = graph.op("Cast", graph.op("Unsqueeze", own, ints(1)), to=onnx.TensorProto.FLOAT)
    mean_square = graph.op("Div", graph.op("ReduceSumSquare", waveform, ints(1), keepdims=1), count)
    deviation = graph.op("Sqrt", graph.op("Add", mean_square, np.float32(TINY)))
    return graph.op("Mul", waveform, graph.op("Div", np.float32(config.level), deviation))


def frame_lengths(graph: Graph, config: FeatureConfig, samples: str) -> str:
    """Valid frames of each utterance, int64 [batch]: ceil(samples / hop), at least 1, at most a clip's."""
    started = graph.op("Add", samples, np.int64(config.hop_samples - 1))
    frames = graph.op("Div", started, np.int64(config.hop_samples))
    return graph.op("Max", graph.op("Min", frames, np.int64(config.clip_frames)), np.int64(1))


def batch_frames(graph: Graph, config: FeatureConfig, waveform: str) -> str:
    """Frames of the longest utterance, as a vector of one."""
    started = graph.op("Add", graph.size(waveform, 1), ints(config.hop_samples - 1))
    return graph.op("Div", started, ints(config.hop_samples))


def log_mel(graph: Graph, config: FeatureConfig, waveform: str, frames: str | NDArray[np.int64]) -> str:
    """Log-mel features, float32 [batch, frames, mels], of the first `frames` (a vector of one) frames."""
    energy = mel_energy(graph, Spectrum.of(config), waveform, frames)
    return graph.op("Log", graph.op("Max", energy, np.float32(config.floor)))


def normalize(graph: Graph, normalizer: Normalizer, features: str) -> str:
    """(x - mean) / std for each band."""
    centered = graph.op("Sub", features, np.array(normalizer.mean, np.float32))
    return graph.op("Div", centered, np.array(normalizer.std, np.float32))


def _frames(graph: Graph, spectrum: Spectrum, waveform: str, frames: str | NDArray[np.int64]) -> str:
    """Overlapping frames [batch, frames, window]: blocks of one hop, each beside the blocks that follow it."""
    hop, window = spectrum.hop_samples, spectrum.window_samples
    reach = -(-window // hop)  # blocks that a window touches
    blocks = graph.op("Add", frames, ints(reach - 1))
    missing = graph.op("Sub", graph.op("Mul", blocks, ints(hop)), graph.size(waveform, 1))
    padded = graph.op("Pad", waveform, graph.op("Concat", ints(0, 0, 0), missing, axis=0))
    blocked = graph.op("Reshape", padded, ints(0, -1, hop))
    parts = []
    for block in range(reach):
        length = min(hop, window - block * hop)
        end = graph.op("Concat", graph.op("Add", frames, ints(block)), ints(length), axis=0)
        parts.append(graph.op("Slice", blocked, ints(block, 0), end, ints(1, 2)))
    return graph.op("Concat", *parts, axis=2)


def mel_energy(graph: Graph, spectrum: Spectrum, waveform: str, frames: str | NDArray[np.int64]) -> str:
    """Energy of the mel bands, float32 [batch, frames, mels], of the first `frames` (a vector of one) frames.

    Frame t covers samples [t hop, t hop + window).
    """
    framed = _frames(graph, spectrum, waveform, frames)
    fft, filters = spectrum.fft_samples, spectrum.filters
    if spectrum.window_samples % 2 or fft % 4:
        real, imaginary = _spectrum(graph, spectrum, framed, first=0, step=1, bins=fft // 2 + 1)
        return graph.op("MatMul", _power(graph, real, imaginary), filters)
    even_real, even_imaginary = _spectrum(graph, spectrum, framed, first=0, step=2, bins=fft // 4 + 1)
    odd_real, odd_imaginary = _spectrum(graph, spectrum, framed, first=1, step=2, bins=fft // 4 + 1)
    lower = _power(graph, graph.op("Add", even_real, odd_real), graph.op("Add", even_imaginary, odd_imaginary))
    upper = _power(graph, graph.op("Sub", even_real, odd_real), graph.op("Sub", even_imaginary, odd_imaginary))
    mirrored = filters[: fft // 4 - 1 : -1].copy()  # bin N/2 - k in row k
    mirrored[-1] = 0  # bin N/4 is its own mirror and already among the lower ones
    return graph.op("Add", graph.op("MatMul", lower, filters[: fft // 4 + 1]), graph.op("MatMul", upper, mirrored))


def _spectrum(graph: Graph, spectrum: Spectrum, framed: str, first: int, step: int, bins: int) -> tuple[str, str]:
    """Real and (up to its sign) imaginary part of the windowed frames' spectrum, from every `step`-th pair m, -m."""
    window, half = spectrum.window_samples, spectrum.window_samples // 2
    after = np.arange(window - half, window)[first::step]  # n >= W / 2; its mirror is W - n, and w[0] = 0 has none
    offset = after - window / 2
    weight = (0.5 - 0.5 * np.cos(2 * np.pi * after / window)) * np.where(offset == 0, 0.5, 1.0)
    angle = 2 * np.pi / spectrum.fft_samples * np.outer(offset, np.arange(bins))
    right = graph.op("Slice", framed, ints(window - half + first), ints(window), ints(2), ints(step))
    left = graph.op("Slice", framed, ints(half - first), ints(0), ints(2), ints(-step))
    cosines, sines = np.float32(weight[:, None] * np.cos(angle)), np.float32(weight[:, None] * np.sin(angle))
    real = graph.op("MatMul", graph.op("Add", right, left), cosines)
    return real, graph.op("MatMul", graph.op("Sub", right, left), sines)


def _power(graph: Graph, real: str, imaginary: str) -> str:
    return graph.op("Add", graph.op("Mul", real, real), graph.op("Mul", imaginary, imaginary))
