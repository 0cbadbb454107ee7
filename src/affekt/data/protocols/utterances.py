"""The class of each utterance and the groups that it belongs to: the input of splits and audits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affekt.data.manifest import Manifest
from affekt.errors import Fault, ProtocolError

COLUMNS: Mapping[str, str] = {"speakers": "speaker", "sessions": "session", "texts": "text_id", "corpora": "corpus"}
"""Kind of group -> the column of the manifest that tells it."""

READ = ("id", "label", "language", "hash", *COLUMNS.values())
DUPLICATES = "duplicates"
EXAMPLES = 3

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Grouping:
    """Groups of utterances: one code per utterance, -1 if it is unknown.

    >>> Grouping.of(["b", "", "a", "b"])
    Grouping(codes=array([ 0, -1,  1,  0]), names=('b', 'a'))
    """

    codes: NDArray[np.int64]
    names: tuple[str, ...]

    @classmethod
    def of(cls, values: Iterable[str]) -> Grouping:
        """Groups of equal values, numbered as they appear; empty values are unknown."""
        series = pd.Series(list(values), dtype=object)
        codes, names = pd.factorize(series.where(series != ""))
        return cls(codes.astype(np.int64), tuple(map(str, names)))

    def units(self) -> NDArray[np.int64]:
        """Codes in which every unknown utterance is a group of its own.

        >>> Grouping.of(["b", "", "a", "b"]).units()
        array([0, 1, 2, 0])
        """
        alone = -1 - np.arange(len(self.codes))
        return np.asarray(pd.factorize(np.where(self.codes < 0, alone, self.codes))[0], np.int64)


@dataclass(frozen=True)
class Utterances:
    """The rows of a manifest, ordered by id, so that folds do not depend on the order of its rows.

    Attributes:
        ids: names of the utterances.
        labels: class of each.
        shared: for each of :data:`COLUMNS` and :data:`DUPLICATES`, which utterances share it.
    """

    ids: tuple[str, ...]
    labels: Grouping
    shared: Mapping[str, Grouping]

    @classmethod
    def of(cls, manifest: Manifest, hashes: Sequence[str] | None = None) -> Utterances:
        """The manifest's utterances.

        Args:
            manifest: the rows.
            hashes: a content hash of each row's audio, "" for unknown; equal hashes are duplicates.

        Raises:
            ProtocolError: there is not one hash per row.
        """
        if hashes is not None and len(hashes) != len(manifest):
            raise ProtocolError("content hashes", got=str(len(hashes)), expected=f"one per row, {len(manifest)}")
        table = manifest.table.assign(hash=list(hashes) if hashes is not None else "").sort_values("id")
        columns = {name: table[name].tolist() for name in READ}  # which is ten times as fast as going through them
        shared = {name: Grouping.of(columns[column]) for name, column in COLUMNS.items()}
        shared["texts"] = Grouping.of(map(_text, columns["text_id"], columns["language"]))
        shared[DUPLICATES] = Grouping.of(columns["hash"])
        return cls(tuple(columns["id"]), Grouping.of(columns["label"]), shared)

    def names(self, rows: Rows) -> tuple[str, ...]:
        """Ids of some rows."""
        return tuple(map(self.ids.__getitem__, np.asarray(rows).tolist()))

    def require(self, name: str, protocol: str) -> Grouping:
        """A grouping that is known for every utterance.

        Raises:
            ProtocolError: it is not.
        """
        grouping, column = self.shared[name], COLUMNS[name]
        unknown = np.flatnonzero(grouping.codes < 0)
        if len(unknown):
            raise ProtocolError(
                f"protocol {protocol}",
                got=f"{len(unknown)} of {len(self.ids)} utterances without a {column} ({some(self.names(unknown))})",
                expected=f"a {column} for each",
                remedy=f"fill the manifest's {column} column, or choose protocol random",
            )
        return grouping


def _text(text_id: str, language: str) -> str:
    """A text's name, unique across corpora: equal names in two languages are two texts.

    >>> _text("01", "en-US"), _text("01", ""), _text("", "de")
    ('en:01', '01', '')
    """
    return f"{language.partition('-')[0]}:{text_id}" if text_id and language else text_id


def some(names: Sequence[str]) -> str:
    """The first few of many names.

    >>> some(["a", "b"]), some(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    rest = len(names) - EXAMPLES
    return ", ".join(names[:EXAMPLES]) + (f" and {rest} more" if rest > 0 else "")


def refuse(faults: Iterable[Fault]) -> None:
    """Raise all faults at once, if there are any.

    Raises:
        ProtocolError: there are.
    """
    faults = list(faults)
    if faults:
        raise ProtocolError.of(faults)
