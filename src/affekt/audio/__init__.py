"""Audio in: read one recording, decode many, detect voice activity.

The names below are :mod:`affekt.audio.reader`'s, so ``from affekt import audio`` gives ``audio.load(...)``.
"""

from __future__ import annotations

from affekt.audio.reader import (
    HIGHEST_RATE_HZ,
    LARGEST_PEAK,
    LOWEST_RATE_HZ,
    AudioInfo,
    Samples,
    Source,
    blocks,
    describe,
    load,
    open_regular,
    probe,
    reading,
)

__all__ = [
    "HIGHEST_RATE_HZ",
    "LARGEST_PEAK",
    "LOWEST_RATE_HZ",
    "AudioInfo",
    "Samples",
    "Source",
    "blocks",
    "describe",
    "load",
    "open_regular",
    "probe",
    "reading",
]
