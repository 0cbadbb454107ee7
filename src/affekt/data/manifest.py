"""The table of utterances: the contract of all data.

One row is one utterance. Corpus readers write manifests; everything after them reads nothing else. A user with an own
corpus needs a CSV file with three columns. Validation reports all faults at once, each with its rows.

Columns (only `id`, `path` and `label` are required; missing ones are filled with their empty value):

=============  =========  =========================================================================
column         type       meaning
=============  =========  =========================================================================
id             text       unique name of the utterance
path           text       audio file, with forward slashes; in a file, relative to the manifest's folder
start, end     seconds    the part of the file that is the utterance; empty: from the start, to the end
label          text       canonical label (:data:`affekt.data.labels.EMOTIONS`), or a class of an own label set
raw_label      text       the label as the corpus writes it
speaker        text       who speaks; unique across corpora (``emodb-03``)
session        text       recording session or dialogue partner group
gender         text       ``female``, ``male`` or empty
text_id        text       what is said: equal for equal sentences
language       text       BCP 47 tag
corpus         text       corpus name
style          text       ``acted``, ``improvised``, ``scripted``, ``natural`` or empty
votes.<label>  number     how many annotators chose that label (optional)
=============  =========  =========================================================================

Files are plain CSV or Parquet: ``pandas.read_csv("emodb.csv")`` gives these columns. Times may be written in any form
that :mod:`affekt.data.times` reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from affekt.data.labels import LabelSet
from affekt.data.manifest_columns import COLUMNS, REQUIRED, TEXT_COLUMNS, VOTES_PREFIX, complete, table_faults
from affekt.data.manifest_files import SUFFIXES, inside, is_manifest, read_table, relative
from affekt.data.vocabulary import canonical
from affekt.errors import ManifestError
from affekt.runtime.atomic_files import atomic_write

if TYPE_CHECKING:  # pandas takes long to import; functions import it, so that decoding can start before
    import pandas as pd

__all__ = ["COLUMNS", "REQUIRED", "TEXT_COLUMNS", "VOTES_PREFIX", "Manifest", "concatenate", "is_manifest"]


@dataclass(frozen=True)
class Manifest:
    """A validated table of utterances and the folder that its paths start from.

    Attributes:
        table: one row per utterance, columns as in the module's docstring, indexed 0..n-1.
        root: folder that `path` is relative to.
    """

    table: pd.DataFrame
    root: Path

    def __post_init__(self) -> None:
        table, unread = complete(self.table)
        faults = [*table_faults(table), *unread]
        if faults:
            raise ManifestError.of(faults)
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "root", Path(self.root))

    @classmethod
    def from_rows(cls, rows: Iterable[dict[str, Any]], root: str | Path) -> Manifest:
        """Make a manifest from dictionaries.

        Args:
            rows: one dictionary per utterance, by column.
            root: folder that the audio paths are relative to.

        Returns:
            The manifest, checked.
        """
        import pandas as pd

        return cls(pd.DataFrame(list(rows)), Path(root))

    @classmethod
    def read(cls, path: str | Path, root: str | Path | None = None) -> Manifest:
        """Read a CSV or Parquet manifest.

        Args:
            path: file ending in .csv or .parquet.
            root: folder that the audio paths are relative to; by default the file's own folder, or the one that a file
                of version 0.1 names.

        Returns:
            The manifest, checked.

        Raises:
            ManifestError: every fault of the table, each with its rows.
        """
        path = Path(path)
        table = read_table(path)
        recorded = table.attrs.pop("root", None)
        base = Path(root) if root is not None else path.parent / (recorded or ".")
        return cls(*inside(table, base))

    def write(self, path: str | Path) -> None:
        """Write CSV or Parquet atomically, with paths relative to the file's folder, so both may move together.

        Args:
            path: file to write, with the suffix .csv or .parquet.

        Raises:
            ManifestError: another suffix, or audio on another drive.
        """
        path = Path(path)
        if path.suffix not in SUFFIXES:
            raise ManifestError(f"manifest {path}", got=repr(path.suffix), expected=".csv or .parquet")
        table = self.table.assign(path=relative(self.table["path"], self.root, path.parent))
        with atomic_write(path) as file:
            if path.suffix == ".csv":
                table.to_csv(file, index=False)
            else:
                table.to_parquet(file, index=False)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def ids(self) -> list[str]:
        return self.table["id"].tolist()

    @property
    def labels(self) -> list[str]:
        return self.table["label"].tolist()

    @property
    def name(self) -> str:
        """Names of the corpora in the table, joined by `+`; `own` where none is given."""
        names = sorted(set(self.table["corpus"]) - {""})
        return "+".join(names) or "own"

    def audio_paths(self) -> list[Path]:
        """Absolute path of each utterance's file."""
        return [self.root / PurePosixPath(path) for path in self.table["path"]]

    def select(self, labels: LabelSet) -> Manifest:
        """Utterances whose label is in the set, relabeled to its classes; votes for a class's labels are added up.

        Labels are matched by their name, else by the vocabulary: `anger` is in the class of `angry`.

        Args:
            labels: the label set, e.g. ``LABEL_SETS["iemocap4"]``.

        Returns:
            A new manifest.

        Raises:
            ManifestError: a class of the set has no utterance.
        """
        known = {label: _class_of(label, labels) for label in set(self.table["label"])}
        classes = self.table["label"].map(known)
        table = self.table.assign(label=classes)[classes.notna()].reset_index(drop=True)
        missing = [name for name in labels.classes if name not in set(table["label"])]
        if missing:
            raise ManifestError(
                f"label set {labels.name}",
                got=f"no utterance for {', '.join(missing)}",
                expected="at least one per class",
                remedy="choose another label set with --labels",
            )
        return Manifest(_merge_votes(table, labels), self.root)

    def where(self, keep: np.ndarray | pd.Series) -> Manifest:
        """The rows for which `keep` is true.

        Args:
            keep: one truth value per row.

        Returns:
            A new manifest.
        """
        return Manifest(self.table[np.asarray(keep, dtype=bool)].reset_index(drop=True), self.root)

    def soft_labels(self, classes: Iterable[str]) -> np.ndarray | None:
        """The annotators' votes as a distribution over classes.

        Args:
            classes: class names, in the order of the columns.

        Returns:
            float32 [utterances, classes], rows sum to 1; None if the manifest has no votes. A row without votes for
            these classes has probability 1 for its own label.
        """
        names = list(classes)
        columns = [VOTES_PREFIX + name for name in names]
        if not set(columns) & set(self.table.columns):
            return None
        votes = self.table.reindex(columns=columns).fillna(0.0).to_numpy(np.float32)
        hard = np.array([[label == name for name in names] for label in self.table["label"]], np.float32)
        votes = np.where(votes.sum(1, keepdims=True) > 0, votes, hard)
        return np.asarray(votes / np.maximum(votes.sum(1, keepdims=True), 1), np.float32)


def concatenate(manifests: Iterable[Manifest]) -> Manifest:
    """One manifest of several; its root is their common folder, and ids are prefixed by corpus where they clash."""
    import pandas as pd

    parts = list(manifests)
    root = Path(os.path.commonpath([part.root.resolve() for part in parts]))
    tables = []
    for part in parts:
        prefix = PurePosixPath(Path(os.path.relpath(part.root.resolve(), root)).as_posix())
        tables.append(part.table.assign(path=[str(prefix / path) for path in part.table["path"]]))
    table = pd.concat(tables, ignore_index=True)
    clash = table["id"].duplicated(keep=False)
    table.loc[clash, "id"] = table["corpus"] + "/" + table["id"]
    return Manifest(table, root)


def _class_of(label: str, labels: LabelSet) -> str | None:
    """The class of a label, by its name, else by the canonical label that it means."""
    own, meant = labels.class_of(label), canonical(label)
    return own if own is not None or meant is None else labels.class_of(meant)


def _merge_votes(table: pd.DataFrame, labels: LabelSet) -> pd.DataFrame:
    """The votes for each class in one column; those for labels outside the set stay as they are."""
    columns = {
        name: [VOTES_PREFIX + label for label in members if VOTES_PREFIX + label in table.columns]
        for name, members in labels.members.items()
    }
    sums = {VOTES_PREFIX + name: table[votes].sum(axis=1, min_count=1) for name, votes in columns.items() if votes}
    merged = [vote for votes in columns.values() for vote in votes]
    return table.drop(columns=merged).assign(**sums)
