"""Recordings of an evaluation that the model was trained on, by the names and content hashes in its card."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from affekt.audio.bulk_decoding import Stretch, waveform
from affekt.data.manifest import Manifest
from affekt.data.training_audio import UNNAMED, TrainingAudio
from affekt.recognition.card import ModelCard


@dataclass(frozen=True)
class Seen:
    """A corpus of the manifest that the model was trained on, or that holds recordings that it was trained on.

    Attributes:
        corpus: its name; empty where the manifest has none.
        utterances: how many of it are evaluated.
        matched: how many of them the model was trained on, by content hash; None where the card has no hashes.
        named: whether the card names the corpus.

    >>> print(Seen("emodb", 339, 339, True))
    the model was trained on emodb: 339 of these 339 recordings, by content hash. The figures do not estimate its \
accuracy on other speech.
    >>> print(Seen("emodb", 339, None, True))
    the model was trained on emodb, by the name in its card. The figures do not estimate its accuracy on other speech.
    """

    corpus: str
    utterances: int
    matched: int | None
    named: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        keys = {"corpus": self.corpus, "utterances": self.utterances}
        return keys | {"trained_on_by_hash": self.matched, "named_in_card": self.named}

    def __str__(self) -> str:
        name = self.corpus or "this corpus"
        if self.matched:
            how = f": {self.matched:,} of these {self.utterances:,} recordings, by content hash"
        elif self.matched is None:
            how = ", by the name in its card"
        else:
            how = ", by the name in its card; none of these files is a training file"
        return f"the model was trained on {name}{how}. The figures do not estimate its accuracy on other speech."


def find_seen(card: ModelCard, manifest: Manifest, jobs: int) -> tuple[tuple[Seen, ...], list[bool] | None]:
    """The corpora of a manifest that a model was trained on, and whether it was on each recording.

    Args:
        card: of the model.
        manifest: the utterances.
        jobs: recordings to decode at a time.

    Returns:
        The corpora concerned, and a truth value per row; None where the card has no hashes.
    """
    seen = TrainingAudio.of(card.provenance)
    rows = _matches(seen, manifest, card.sample_rate_hz, jobs) if seen.prefixes else None
    names = {name.lower() for name in seen.corpora} - {"", UNNAMED}
    corpora = manifest.table["corpus"].to_numpy()
    found = []
    for corpus in sorted(set(corpora)):
        of_it = corpora == corpus
        matched = None if rows is None else int(np.array(rows)[of_it].sum())
        named = str(corpus).lower() in names
        if named or matched:
            found.append(Seen(str(corpus), int(of_it.sum()), matched, named))
    return tuple(found), rows


def _matches(seen: TrainingAudio, manifest: Manifest, rate_hz: int, jobs: int) -> list[bool]:
    """Whether each row's waveform is one of the training's; False where it cannot be decoded."""
    times = manifest.table[["start", "end"]].to_numpy(np.float64).tolist()
    stretches = [
        Stretch(name, path, *(None if np.isnan(seconds) else seconds for seconds in part))
        for name, path, part in zip(manifest.ids, manifest.audio_paths(), times, strict=True)
    ]
    with ThreadPoolExecutor(max(1, jobs)) as threads:
        return list(threads.map(lambda stretch: waveform(stretch, rate_hz)[0].sha256 in seen, stretches))
