"""The table of utterances: the contract of all data.

One row is one utterance. Corpus readers write manifests, everything after them reads manifests and nothing else, so a
user with an own corpus needs nothing but a CSV file. Validation reports every fault at once, each with its row.

Columns (only `id`, `path` and `label` are required; missing ones are filled with their empty value):

=============  =========  =========================================================================
column         type       meaning
=============  =========  =========================================================================
id             text       unique name of the utterance
path           text       audio file, relative to the manifest's root, with forward slashes
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
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from affekt.data.labels import LabelSet
from affekt.errors import Fault, ManifestError
from affekt.runtime.atomic_files import writing

if TYPE_CHECKING:  # for the rest where a table is made: it takes long, and whoever reads a corpus decodes it first
    import pandas as pd

REQUIRED = ("id", "path", "label")
TEXT_COLUMNS = (
    "id",
    "path",
    "label",
    "raw_label",
    "speaker",
    "session",
    "gender",
    "text_id",
    "language",
    "corpus",
    "style",
)
TIME_COLUMNS = ("start", "end")
COLUMNS = ("id", "path", "start", "end", *TEXT_COLUMNS[2:])
VOTES_PREFIX = "votes."
MOST_ROWS, MOST_ROWS_PER_BYTE = 100_000, 10
"""More rows than these, of a Parquet file of some size, cannot all have ids."""
GENDERS = ("female", "male", "")


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
        table = _complete(self.table)
        faults = list(_faults(table))
        if faults:
            raise ManifestError.of(faults)
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "root", Path(self.root))

    @classmethod
    def from_rows(cls, rows: Iterable[dict[str, Any]], root: str | Path) -> Manifest:
        """Manifest from dictionaries, one per utterance."""
        import pandas as pd

        return cls(pd.DataFrame(list(rows)), Path(root))

    @classmethod
    def read(cls, path: str | Path, root: str | Path | None = None) -> Manifest:
        """Read a CSV or Parquet manifest.

        Args:
            path: file ending in .csv or .parquet.
            root: folder that the audio paths are relative to; by default the one that :meth:`write` recorded in the
                file's first line (CSV) or metadata (Parquet), else the file's own folder.

        Raises:
            ManifestError: every fault of the table, each with its row.
        """
        path = Path(path)
        table = _read_table(path)
        recorded = table.attrs.pop("root", None)
        base = Path(root) if root is not None else path.parent / (recorded or ".")
        return cls(table, base)

    def write(self, path: str | Path) -> None:
        """Write CSV or Parquet atomically; the root is recorded relative to the file, so both may move together."""
        path = Path(path)
        if path.suffix not in (".csv", ".parquet"):
            raise ManifestError(f"manifest {path}", got=repr(path.suffix), expected=".csv or .parquet")
        root = os.path.relpath(self.root.resolve(), path.parent.resolve())
        with writing(path) as file:
            if path.suffix == ".csv":
                file.write(f"# root: {Path(root).as_posix()}\n".encode())
                self.table.to_csv(file, index=False)
            else:
                table = self.table.copy()
                table.attrs["root"] = Path(root).as_posix()
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

        Raises:
            ManifestError: a class of the set has no utterance.
        """
        classes = self.table["label"].map(labels.class_of)
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
        """The rows for which `keep` is true."""
        return Manifest(self.table[np.asarray(keep, dtype=bool)].reset_index(drop=True), self.root)

    def soft_labels(self, classes: Iterable[str]) -> np.ndarray | None:
        """Annotators' votes as a distribution over classes, float32 [utterances, classes]; None without votes.

        Rows without a vote for any of the classes fall back on the row's own label.
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


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        if path.suffix == ".parquet":
            _check_rows(path)
            return pd.read_parquet(path)
        if path.suffix != ".csv":
            raise ManifestError(f"manifest {path}", got=repr(path.suffix), expected=".csv or .parquet")
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            root = first.removeprefix("# root:").strip() if first.startswith("# root:") else None
            if root is None:
                file.seek(0)
            table = pd.read_csv(file, dtype=str, keep_default_na=False)
        table.attrs["root"] = root
    except ManifestError:
        raise
    except (OSError, ValueError) as error:  # pandas' and pyarrow's parser errors, UnicodeDecodeError are ValueErrors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ManifestError(f"manifest {path}", got=reason, expected="a readable CSV or Parquet table") from error
    return table


def _check_rows(path: Path) -> None:
    """Parquet says `the same again` in next to nothing, but rows have ids, which differ."""
    from pyarrow.parquet import read_metadata

    rows, size_bytes = read_metadata(path).num_rows, path.stat().st_size
    if rows > MOST_ROWS + size_bytes * MOST_ROWS_PER_BYTE:
        raise ManifestError(
            f"manifest {path}", got=f"{rows} rows", expected="not more rows than its bytes can tell apart"
        )


def _complete(table: pd.DataFrame) -> pd.DataFrame:
    """All columns in their order and types; what cannot be converted stays, for :func:`_faults` to report."""
    import pandas as pd

    missing = [name for name in REQUIRED if name not in table.columns]
    if missing:
        raise ManifestError(
            "manifest columns",
            got=f"no {', '.join(missing)}",
            expected=f"at least {', '.join(REQUIRED)}",
            remedy="`affekt prepare table` converts tables with other column names",
        )
    votes = [name for name in table.columns if name.startswith(VOTES_PREFIX)]
    complete = pd.DataFrame(index=pd.RangeIndex(len(table)))
    for name in COLUMNS:
        if name in TEXT_COLUMNS:
            values = table[name] if name in table.columns else ""
            complete[name] = pd.Series(values, index=table.index).fillna("").astype(str).str.strip().to_numpy(object)
        else:
            complete[name] = _numbers(table[name]) if name in table.columns else np.nan
    for name in votes:
        complete[name] = _numbers(table[name])
    return complete


def _merge_votes(table: pd.DataFrame, labels: LabelSet) -> pd.DataFrame:
    """The votes for each class in one column; those for labels outside the set stay as they are."""
    columns = {
        name: [VOTES_PREFIX + label for label in members if VOTES_PREFIX + label in table.columns]
        for name, members in labels.members.items()
    }
    sums = {VOTES_PREFIX + name: table[votes].sum(axis=1, min_count=1) for name, votes in columns.items() if votes}
    merged = [vote for votes in columns.values() for vote in votes]
    return table.drop(columns=merged).assign(**sums)


def _numbers(column: pd.Series) -> np.ndarray:
    """Numbers; an empty cell is NaN, a cell that is no number is infinity, which no valid table holds."""
    import pandas as pd

    empty = column.isna() | (column.astype(str).str.strip() == "")
    numbers = pd.to_numeric(column.where(~empty), errors="coerce").to_numpy(np.float64)
    return np.where(~empty.to_numpy() & np.isnan(numbers), np.inf, numbers)


def _faults(table: pd.DataFrame) -> Iterator[Fault]:
    """Every fault, named by its row as a spreadsheet counts it (the header is row 1)."""
    if table.empty:
        yield Fault("manifest", got="no rows", expected="at least one utterance")
    for name in REQUIRED:
        for row in np.flatnonzero(table[name] == ""):
            yield Fault(f"row {row + 2}: {name}", got="nothing", expected="a value")
    for row in np.flatnonzero(table["id"].duplicated() & (table["id"] != "")):
        yield Fault(f"row {row + 2}: id", got=f"{table['id'][row]!r} a second time", expected="a unique id")
    for index, path in enumerate(table["path"]):
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or "\0" in path:
            yield Fault(f"row {index + 2}: path", got=repr(path), expected="a path inside the manifest's root")
    for row in np.flatnonzero(~table["gender"].isin(GENDERS)):
        yield Fault(f"row {row + 2}: gender", got=repr(table["gender"][row]), expected="female, male or empty")
    yield from _time_faults(table)
    for name in (column for column in table.columns if column.startswith(VOTES_PREFIX)):
        votes = table[name].to_numpy()
        for row in np.flatnonzero(np.isinf(votes) | (votes < 0)):
            yield Fault(f"row {row + 2}: {name}", got="no count", expected="a number of votes, 0 or more")


def _time_faults(table: pd.DataFrame) -> Iterator[Fault]:
    start, end = table["start"].to_numpy(), table["end"].to_numpy()
    for name, values in (("start", start), ("end", end)):
        for row in np.flatnonzero(np.isinf(values) | (values < 0)):
            yield Fault(f"row {row + 2}: {name}", got="no time", expected="seconds, 0 or more, or empty")
    first = np.where(np.isnan(start), 0.0, start)
    with np.errstate(invalid="ignore"):
        backwards = np.isfinite(first) & np.isfinite(end) & (end <= first)
    for row in np.flatnonzero(backwards):
        yield Fault(f"row {row + 2}: end", got=f"{end[row]:g} s", expected=f"more than start = {first[row]:g} s")
