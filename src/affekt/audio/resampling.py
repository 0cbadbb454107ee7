"""Resampling of a stream of parts by soxr."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import soxr
from numpy.typing import NDArray


def convert(parts: Iterator[NDArray[np.float32]], from_hz: int, to_hz: int) -> Iterator[NDArray[np.float32]]:
    """Resample parts, [samples] or [samples, channels]; the result does not depend on where they were cut."""
    resampler, empty = None, np.empty(0, np.float32)
    for part in parts:
        if resampler is None:
            empty = part[:0]
            resampler = soxr.ResampleStream(from_hz, to_hz, part.shape[1] if part.ndim == 2 else 1, dtype="float32")
        yield resampler.resample_chunk(part)
    if resampler is not None:
        yield resampler.resample_chunk(empty, last=True)
