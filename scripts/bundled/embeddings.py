"""Mean and deviation of the encoder's states for many waveforms, computed once and kept on disk."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from affekt.features.frontends import WhisperLogMel
from affekt.nn.encoder import read_encoder
from affekt.nn.encoder_classifier import EncoderClassifier
from affekt.runtime.atomic_files import write_bytes
from bundled.recordings import CLASSES, Waveform

FEATURES = WhisperLogMel(top=5.4, decades=6.0)
TRIM_DB = 35.0
BATCH_SAMPLES = 640_000


class Embedder:
    """The pretrained encoder, its pooling, and a folder for what it computes.

    Args:
        weights: folder with the encoder, in the hub's layout.
        cache: where embeddings are kept.
    """

    def __init__(self, weights: Path, cache: Path) -> None:
        self.network = EncoderClassifier(FEATURES.dims, len(CLASSES), trim_db=TRIM_DB)
        self.network.encoder.load_state_dict(read_encoder(weights).state_dict())
        self.network.eval().requires_grad_(False)
        self.log_mel = FEATURES.module()
        self.cache = cache

    def kept(self, key: str, waveforms: Callable[[], Iterable[Waveform]]) -> NDArray[np.float32]:
        """Embeddings under a name, [recordings, 768]; computed where there are none yet."""
        path = self.cache / f"{key}.npy"
        if not path.exists():
            began = time.perf_counter()
            found = self.embed(list(waveforms()))
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, _npy(found))
            print(f"{key}: {len(found)} embeddings in {time.perf_counter() - began:.0f} s", flush=True)
        return np.asarray(np.load(path), np.float32)

    @torch.inference_mode()
    def embed(self, waveforms: list[Waveform]) -> NDArray[np.float32]:
        """Embeddings of waveforms, in batches of similar length."""
        found = np.zeros((len(waveforms), self.network.embedding_size), np.float32)
        order = np.argsort([len(x) for x in waveforms], kind="stable")
        start = 0
        while start < len(order):
            size = max(1, BATCH_SAMPLES // len(waveforms[order[min(start + 15, len(order) - 1)]]))
            rows = order[start : start + size]
            found[rows] = self._batch([waveforms[row] for row in rows])
            start += size
        return found

    def _batch(self, waveforms: list[Waveform]) -> NDArray[np.float32]:
        samples = torch.tensor([len(x) for x in waveforms])
        padded = torch.zeros(len(waveforms), int(samples.max()))
        for row, x in zip(padded, waveforms, strict=True):
            row[: len(x)] = torch.from_numpy(x)
        lengths = torch.tensor([FEATURES.frames(len(x)) for x in waveforms])
        pooled: NDArray[np.float32] = self.network.pooled(self.log_mel(padded, samples), lengths).numpy()
        return pooled


def _npy(values: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()
