"""Embeddings of many recordings as one NumPy file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from affekt.errors import AudioError
from affekt.recognition.bulk import Item
from affekt.recognition.prediction import Failure
from affekt.recognition.recognizer import Recognizer
from affekt.runtime.atomic_files import atomic_write
from affekt.runtime.ordered_map import ordered_map

Floats = NDArray[np.float32]


def write_embeddings(recognizer: Recognizer, items: Sequence[Item | Failure], path: Path) -> None:
    """Write one row per item, in order: float32 [items, features], NaN for items that are silent or cannot be used.

    Args:
        recognizer: the model.
        items: recordings and segments; failures keep their places.
        path: the .npy file, which is written in one step.

    Raises:
        OSError: the file cannot be written.
    """

    def embed(item: Item | Failure) -> Floats | None:
        try:
            return None if isinstance(item, Failure) else recognizer.embed(item)
        except AudioError:
            return None

    rows = list(ordered_map(embed, items, recognizer.threads))
    features = next((len(row) for row in rows if row is not None), 0)
    missing = np.full(features, np.nan, np.float32)
    table = np.stack([missing if row is None else row for row in rows]) if rows else np.empty((0, 0), np.float32)
    with atomic_write(path) as file:
        np.save(file, table)
