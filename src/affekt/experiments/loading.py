"""Loading: from a manifest to class numbers and feature tensors, for all jobs of an experiment.

It is part of `experiments` and not of `data`, since it needs waveforms, front ends and systems at once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from affekt.data.labels import LabelSet, unusable_classes
from affekt.data.manifest import Manifest
from affekt.data.waveform_store import WaveformStore
from affekt.errors import ConfigError, Fault
from affekt.experiments.kept_features import load_features
from affekt.features.clips import Clips
from affekt.features.log_mel import FrontEnd
from affekt.training.fitted import Subset
from affekt.training.systems import System


@dataclass(frozen=True)
class Data:
    """The data that all jobs share: utterances, class numbers, and features for every front end in use.

    Attributes:
        manifest: the usable utterances.
        classes: class names in order.
        labels: class number of each utterance.
        clips: features of all utterances, by front end.
    """

    manifest: Manifest
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    clips: dict[FrontEnd, Clips]

    def part(self, ids: Sequence[str]) -> Subset:
        """The part of a fold with these utterance ids, as rows, labels and speakers."""
        return self._part(self._rows.loc[list(ids)].to_numpy(np.int64))

    def balanced(self, part: Subset) -> Subset:
        """A training part that repeats the utterances of smaller corpora round(sqrt(largest / own)) times."""
        corpora = self.manifest.table["corpus"].to_numpy()[part.rows]
        sizes = Counter(corpora)
        repeats = {corpus: round(math.sqrt(max(sizes.values()) / size)) for corpus, size in sizes.items()}
        return self._part(np.repeat(part.rows, [repeats[corpus] for corpus in corpora]))

    def _part(self, rows: NDArray[np.int64]) -> Subset:
        return Subset(rows, self.labels[rows], self._speakers[rows])

    @cached_property
    def _speakers(self) -> NDArray[np.int64]:
        """Number of each utterance's speaker; -1 where there is none."""
        table = self.manifest.table
        names = (table["corpus"] + "/" + table["speaker"]).where(table["speaker"] != "")
        return pd.factorize(names)[0].astype(np.int64)

    @property
    def _rows(self) -> pd.Series:
        return pd.Series(np.arange(len(self.manifest)), index=self.manifest.ids)


def load_data(
    manifest: Manifest,
    systems: Sequence[System],
    labels: LabelSet | None = None,
    cache: Path | None = None,
    device: torch.device | str = "cpu",
    on_progress: Callable[[str, int, int], object] = lambda what, done, total: None,
) -> tuple[Data, tuple[str, ...], list[Fault]]:
    """Decode, select and compute features.

    Args:
        manifest: the utterances.
        systems: the systems whose front ends are needed.
        labels: which labels are classes; by default all labels of the manifest, in alphabetical order.
        cache: folder of the decoded audio; by default :func:`affekt.data.waveform_store.default_folder`.
        device: device of the features.
        on_progress: called with the name of a step, the amount done and the total.

    Returns:
        The data, the SHA-256 of each utterance's audio, and a fault for each recording that cannot be decoded.

    Raises:
        ConfigError: fewer than two classes.
        AudioError: no recording can be decoded.
    """
    if labels is None and (fault := unusable_classes(manifest.labels)):
        raise ConfigError.of([fault])
    manifest = manifest.select(labels) if labels is not None else manifest
    classes = labels.classes if labels is not None else tuple(sorted(set(manifest.labels)))
    if len(classes) < 2:
        raise ConfigError("classes", got=", ".join(classes), expected="at least 2", remedy="choose other --labels")
    configs = tuple(dict.fromkeys(system.features for system in systems))
    stores = {rate: WaveformStore.open(manifest, cache, rate) for rate in {config.sample_rate_hz for config in configs}}
    first = stores[configs[0].sample_rate_hz]  # whether a file can be decoded does not depend on the rate
    usable = first.usable
    manifest = manifest.where(usable)
    kept = {rate: store.where(usable) for rate, store in stores.items()}
    total = len(manifest)
    clips = {}
    for config in configs:
        store = kept[config.sample_rate_hz]
        clips[config] = load_features(
            _Waveforms(store), store.hashes, config, cache, device, lambda done: on_progress("features", done, total)
        )
    numbers = np.array([classes.index(label) for label in manifest.labels], np.int64)
    return Data(manifest, classes, numbers, clips), first.where(usable).hashes, first.failures


class _Waveforms(Sequence[NDArray[np.float32]]):
    """A store as a plain sequence of arrays."""

    def __init__(self, store: WaveformStore) -> None:
        self._store = store

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, index: Any) -> Any:
        if index >= len(self._store):
            raise IndexError(index)
        return self._store[index]
