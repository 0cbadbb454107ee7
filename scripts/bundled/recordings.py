"""The corpora as waveforms with labels and speakers, and what is left out of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from affekt.data.corpora import prepare
from affekt.data.waveform_store import WaveformStore

TRAINING = ("emodb", "crema_d", "banglaser", "javanese")
"""Free for any use with attribution."""
UNSEEN = ("ravdess", "nemo", "emovo")
"""They train nothing and decide nothing."""
CLASSES = ("angry", "happy", "neutral", "sad")
OTHERS = ("fearful", "disgusted", "surprised")
RATE_HZ = 16_000
CLIP_SAMPLES = 120_000
QUIETEST_PEAK = 1e-4

Waveform = NDArray[np.float32]


@dataclass(frozen=True)
class Corpus:
    """One corpus, its recordings cut to 7.5 s.

    Attributes:
        name: of the corpus.
        ids: of the recordings.
        waveforms: each [samples], peak 0.98.
        labels: index into `CLASSES`; 4 for the emotions in `OTHERS`.
        speakers: of the recordings.
        sounds: content hash of each recording as decoded.
    """

    name: str
    ids: list[str]
    waveforms: list[Waveform]
    labels: NDArray[np.int64]
    speakers: NDArray[np.str_]
    sounds: list[str]

    @property
    def of_class(self) -> NDArray[np.bool_]:
        """Recordings of the four classes."""
        return self.labels < len(CLASSES)

    def take(self, rows: NDArray[np.int64]) -> Corpus:
        """Some of the recordings."""
        waveforms = [self.waveforms[row] for row in rows]
        ids, sounds = [self.ids[row] for row in rows], [self.sounds[row] for row in rows]
        return Corpus(self.name, ids, waveforms, self.labels[rows], self.speakers[rows], sounds)


def read_corpus(root: Path, name: str, cache: Path) -> Corpus:
    """A release on disk; silent recordings, repeated ones and those under two labels are left out."""
    manifest, _ = prepare(name.replace("_", "-"), root / name, check_audio=False)
    manifest = manifest.where(manifest.table["label"].isin((*CLASSES, *OTHERS)).to_numpy())
    store = WaveformStore.open(manifest, cache, RATE_HZ)
    labels = np.array([CLASSES.index(x) if x in CLASSES else len(CLASSES) for x in manifest.labels], np.int64)
    rows = _usable(store, [str(label) for label in manifest.labels])
    waveforms = []
    for row in rows:
        clip = np.asarray(store[row][:CLIP_SAMPLES], np.float32)
        waveforms.append(clip * np.float32(0.98 / np.abs(clip).max()))
    speakers = np.array([f"{name}:{speaker}" for speaker in manifest.table["speaker"]])
    ids = [str(value) for value in manifest.table["id"]]
    sounds = [store.hashes[row] for row in rows]
    return Corpus(name, [ids[row] for row in rows], waveforms, labels[rows], speakers[rows], sounds)


def _usable(store: WaveformStore, labels: list[str]) -> NDArray[np.int64]:
    """Rows with sound that no earlier row has, and under one label only."""
    named: dict[str, set[str]] = {}
    for sound, label in zip(store.hashes, labels, strict=True):
        named.setdefault(sound, set()).add(label)
    rows, seen = [], set()
    for row, sound in enumerate(store.hashes):
        if store.faults[row] is None and sound not in seen and len(named[sound]) == 1:
            clip = store[row][:CLIP_SAMPLES]
            if len(clip) >= RATE_HZ // 10 and float(np.abs(clip).max()) >= QUIETEST_PEAK:
                rows.append(row)
        seen.add(sound)
    return np.array(rows, np.int64)


def evenly(corpus: Corpus, per_class: int, others: int = 0) -> NDArray[np.int64]:
    """Choose at most so many rows of each class, spread evenly over the corpus; likewise of the other emotions."""
    rows = []
    for label in range(len(CLASSES) + 1):
        own = np.flatnonzero(corpus.labels == label)
        count = min(len(own), per_class if label < len(CLASSES) else others)
        rows.append(own[np.linspace(0, len(own) - 1, count).astype(int)] if count else own[:0])
    return np.sort(np.concatenate(rows))
