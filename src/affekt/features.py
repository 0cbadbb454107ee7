"""Log-mel features: the one definition that training, export and inference share.

Frame t covers samples [t*hop - pad, t*hop - pad + window) with pad = (window - hop) / 2, zeros outside the signal, so a
clip of n samples has ceil(n / hop) frames, each centred on its hop (Kaldi's `snip_edges=false`, with zeros instead of
mirrored samples). 7.5 s at 16 kHz are exactly 750 frames. No frame depends on anything but its own samples.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FeatureConfig:
    """Everything that defines the features; stored in every checkpoint and exported model.

    The paper fixes 40 bands, 25 ms windows and 10 ms hops (section 4.1). It leaves open the window (Hann here), the FFT
    size (the next power of two, 512), the mel formula (HTK's, 2595 log10(1 + f / 700), triangles of height 1), the band
    edges and the floor below which energy counts as silence.
    """

    sample_rate_hz: int = 16_000
    window_seconds: float = 0.025
    hop_seconds: float = 0.010
    mels: int = 40
    low_hz: float = 20.0
    high_hz: float = 8_000.0
    floor: float = 1e-8
    clip_seconds: float = 7.5
