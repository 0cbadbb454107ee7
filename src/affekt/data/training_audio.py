"""Which recordings a model was trained on, compact enough for its card.

A card's provenance holds the table under :data:`KEY`: for each corpus the number of utterances, one hash over all of
them, and the first 32 bits of each utterance's content hash. An evaluation looks recordings up in it. With 10,000
utterances a recording that is not among them is taken for one with a probability of 10,000 / 2**32, about 2e-6.

A content hash is the SHA-256 of an utterance's decoded waveform (float32, little-endian, mono, at the model's sample
rate), as :class:`affekt.data.waveform_store.WaveformStore` computes it. Equal audio has equal hashes in every lossless
container.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KEY = "training_audio"
"""Where a card's provenance holds it."""
UNNAMED = "own"
"""Stands for utterances whose corpus has no name; such corpora are known by their hashes alone."""

_BYTES = 4


def describe(corpora: Sequence[str], hashes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The table for a model's provenance.

    Args:
        corpora: corpus of each utterance that trained the model or chose its epoch; empty text is :data:`UNNAMED`.
        hashes: hexadecimal content hash of each.

    Returns:
        Corpus -> ``utterances``; ``sha256`` of the sorted hashes, one a line; ``recordings``: the first four bytes of
        each different hash, sorted and joined, in Base64.

    >>> table = describe(["emodb", "emodb"], ["00112233" + "0" * 56, "ff" * 32])
    >>> table["emodb"]["utterances"], table["emodb"]["recordings"]
    (2, 'ABEiM/////8=')
    """
    if len(corpora) != len(hashes):
        raise ValueError(f"{len(corpora)} corpora for {len(hashes)} hashes")
    named = [name or UNNAMED for name in corpora]
    table: dict[str, dict[str, Any]] = {}
    for corpus in sorted(set(named)):
        own = sorted(value for name, value in zip(named, hashes, strict=True) if name == corpus)
        prefixes = sorted({bytes.fromhex(value)[:_BYTES] for value in own})
        table[corpus] = {
            "utterances": len(own),
            "sha256": hashlib.sha256("\n".join(own).encode()).hexdigest(),
            "recordings": base64.b64encode(b"".join(prefixes)).decode("ascii"),
        }
    return table


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The table of a model that was fine-tuned: what both trainings have heard.

    A corpus of both keeps the second training's count and hash, and the recordings of both.

    Args:
        first, second: as from :func:`describe`.

    >>> both = merge(describe(["a"], ["00" * 32]), describe(["a"], ["ff" * 32]))
    >>> both["a"]["utterances"], both["a"]["recordings"]
    (1, 'AAAAAP////8=')
    """
    merged = {**first, **second}
    for corpus in set(first) & set(second):
        joined = b"".join(base64.b64decode(table[corpus].get("recordings", "")) for table in (first, second))
        prefixes = {joined[place : place + _BYTES] for place in range(0, len(joined), _BYTES)}
        merged[corpus] = {**second[corpus], "recordings": base64.b64encode(b"".join(sorted(prefixes))).decode("ascii")}
    return merged


def readable(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """A provenance to print: with the number of packed hashes in place of the hashes, here and in `started_from`.

    >>> readable({KEY: describe(["emodb"], ["ff" * 32])})[KEY]["emodb"]["recordings"]
    '1 hash'
    """
    if isinstance(earlier := provenance.get("started_from"), Mapping):
        provenance = {**provenance, "started_from": readable(earlier)}
    table = provenance.get(KEY)
    if not isinstance(table, Mapping):
        return dict(provenance)
    counted = {
        name: {**entry, "recordings": _count_of(_prefixes(entry.get("recordings")))}
        for name, entry in table.items()
        if isinstance(entry, Mapping)
    }
    return {**provenance, KEY: counted}


@dataclass(frozen=True)
class TrainingAudio:
    """The recordings and corpora that a card's provenance names.

    Attributes:
        corpora: corpus -> its utterances in the training data; 0 where the card does not say.
        prefixes: the first four bytes of each content hash.

    >>> seen = TrainingAudio.of({"training_audio": describe(["emodb"], ["ff" * 32])})
    >>> "ff" * 32 in seen, "00" * 32 in seen, seen.corpora
    (True, False, {'emodb': 1})
    >>> TrainingAudio.of({"corpora": "emodb+nemo"}).corpora
    {'emodb': 0, 'nemo': 0}
    """

    corpora: Mapping[str, int]
    prefixes: Collection[bytes] = frozenset()

    @classmethod
    def of(cls, provenance: Mapping[str, Any]) -> TrainingAudio:
        """Read a provenance; cards without hashes name their corpora at most. A damaged table counts as absent."""
        names = str(provenance.get("corpora", ""))
        corpora = {name: 0 for name in names.split("+") if name not in ("", UNNAMED)}
        prefixes: set[bytes] = set()
        table = provenance.get(KEY)
        for name, entry in table.items() if isinstance(table, Mapping) else ():
            if not isinstance(entry, Mapping):
                continue
            count = entry.get("utterances")
            corpora[str(name)] = count if isinstance(count, int) else 0
            prefixes |= _prefixes(entry.get("recordings"))
        started = provenance.get("started_from")
        earlier = cls.of(started) if isinstance(started, Mapping) else cls({})
        return cls({**earlier.corpora, **corpora}, frozenset(prefixes | set(earlier.prefixes)))

    def __contains__(self, sha256: object) -> bool:
        """Whether an utterance of this content hash, in hexadecimal, was trained on."""
        return isinstance(sha256, str) and len(sha256) == 64 and bytes.fromhex(sha256)[:_BYTES] in self.prefixes


def _count_of(prefixes: Collection[bytes]) -> str:
    return f"{len(prefixes):,} hash{'es' * (len(prefixes) != 1)}"


def _prefixes(packed: object) -> set[bytes]:
    try:
        joined = base64.b64decode(str(packed), validate=True) if packed else b""
    except (binascii.Error, ValueError):
        return set()
    return {joined[start : start + _BYTES] for start in range(0, len(joined) - _BYTES + 1, _BYTES)}
