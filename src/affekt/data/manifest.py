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
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from affekt.data import times
from affekt.data.labels import LabelSet
from affekt.errors import Fault, ManifestError
from affekt.runtime.atomic_files import atomic_write

if TYPE_CHECKING:  # pandas takes long to import; functions import it, so that decoding can start before
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
"""Bounds on the rows of a Parquet file: more than these cannot all have different ids."""
GENDERS = ("female", "male", "")
OLD_HEADER = "# root:"
"""First line of the files of version 0.1, which names the folder that their paths start from."""
SHOWN = 3
"""Rows with the same kind of fault that get a line each; more of them share one line."""


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
        table, unread = _complete(self.table)
        faults = [*_faults(table), *unread]
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
        table = _read_table(path)
        recorded = table.attrs.pop("root", None)
        base = Path(root) if root is not None else path.parent / (recorded or ".")
        return cls(*_inside(table, base))

    def write(self, path: str | Path) -> None:
        """Write CSV or Parquet atomically, with paths relative to the file's folder, so both may move together.

        Args:
            path: file to write, with the suffix .csv or .parquet.

        Raises:
            ManifestError: another suffix, or audio on another drive.
        """
        path = Path(path)
        if path.suffix not in (".csv", ".parquet"):
            raise ManifestError(f"manifest {path}", got=repr(path.suffix), expected=".csv or .parquet")
        table = self.table.assign(path=_relative(self.table["path"], self.root, path.parent))
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

        Args:
            labels: the label set, e.g. ``LABEL_SETS["iemocap4"]``.

        Returns:
            A new manifest.

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


def is_manifest(path: str | Path) -> bool:
    """Whether :meth:`Manifest.write` wrote a file, of this version or 0.1: it has all columns."""
    path = Path(path)
    try:
        if path.suffix == ".parquet":
            from pyarrow.parquet import read_schema

            return set(COLUMNS) <= set(read_schema(path).names)
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline(1 << 16)
            header = file.readline(1 << 16) if first.startswith(OLD_HEADER) else first
    except (OSError, ValueError):  # not UTF-8, not Parquet
        return False
    return set(COLUMNS) <= set(header.strip().split(","))


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
            root = first.removeprefix(OLD_HEADER).strip(' "\n\r,') if first.startswith(OLD_HEADER) else None
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
    """Guard against decompression bombs: dictionary encoding can hold 10^9 equal rows in a few bytes."""
    from pyarrow.parquet import read_metadata

    rows, size_bytes = read_metadata(path).num_rows, path.stat().st_size
    if rows > MOST_ROWS + size_bytes * MOST_ROWS_PER_BYTE:
        raise ManifestError(
            f"manifest {path}", got=f"{rows} rows", expected="not more rows than its bytes can tell apart"
        )


def _inside(table: pd.DataFrame, base: Path) -> tuple[pd.DataFrame, Path]:
    """The table and the innermost folder from which all its paths lead downwards: paths may start with ``../``."""
    if "path" not in table.columns:
        return table, base
    paths = table["path"].fillna("").astype(str).str.strip()
    tidy = [posixpath.normpath(path) if ".." in path else path for path in paths]
    ups = [_ups(path) for path in tidy]
    most = max(ups, default=0)
    root = base.resolve()
    if not most or most >= len(root.parts):  # from the root of the file system nothing leads upwards
        return table, base
    folders = root.parts[-most:]
    inside = [
        path if not path or path.startswith("/") else "/".join((*folders[: most - up], path[3 * up :]))
        for path, up in zip(tidy, ups, strict=True)
    ]
    return table.assign(path=inside), root.parents[most - 1]


def _ups(path: str) -> int:
    """How many folders a tidy path leads upwards first.

    >>> _ups("../../a.wav"), _ups("a/b.wav")
    (2, 0)
    """
    parts = path.split("/")
    return next((place for place, part in enumerate(parts) if part != ".."), len(parts))


def _relative(paths: pd.Series, root: Path, folder: Path) -> list[str]:
    """Paths below a root as paths from a folder."""
    root, folder = root.resolve(), folder.resolve()
    try:
        prefix = Path(os.path.relpath(root, folder)).as_posix()
    except ValueError as error:  # Windows: on another drive
        raise ManifestError(
            f"manifest in {folder}", got=f"audio in {root}", expected="a manifest on the drive of its audio"
        ) from error
    if not folder.is_relative_to(root):
        return [posixpath.join(prefix, path) for path in paths]
    way = folder.relative_to(root).parts
    return [_from_below(path.split("/"), way) for path in paths]


def _from_below(path: list[str], way: tuple[str, ...]) -> str:
    """A path below a root, as it is seen from a folder that lies on some way below the root.

    >>> _from_below(["a", "x.wav"], ("a", "b")), _from_below(["x.wav"], ())
    ('../x.wav', 'x.wav')
    """
    common = 0
    while common < min(len(way), len(path) - 1) and path[common] == way[common]:
        common += 1
    return "/".join([".."] * (len(way) - common) + path[common:])


def _complete(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Fault]]:
    """All columns in their order and types, and the cells that are no times and no numbers."""
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
    faults: list[Fault] = []
    for name in COLUMNS:
        if name in TEXT_COLUMNS:
            values = table[name] if name in table.columns else ""
            complete[name] = pd.Series(values, index=table.index).fillna("").astype(str).str.strip().to_numpy(object)
        elif name in table.columns:
            complete[name], unread = _seconds(table[name], name)
            faults += unread
        else:
            complete[name] = np.nan
    for name in votes:
        complete[name] = _numbers(table[name])
    return complete, faults


def _seconds(column: pd.Series, name: str) -> tuple[np.ndarray, list[Fault]]:
    """Times in seconds, NaN where there is none, and the cells that are none."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    if is_numeric_dtype(column.dtype) and not is_bool_dtype(column.dtype):
        seconds = column.to_numpy(np.float64, na_value=np.nan)
        unread = [(row, str(seconds[row])) for row in np.flatnonzero(np.isinf(seconds)).tolist()]
    else:
        seconds, unread = np.full(len(column), np.nan), []
        known: dict[object, float] = {"": np.nan}
        for row, value in enumerate(column):
            try:
                if not isinstance(value, str) or value not in known:
                    parsed = times.parse_seconds(value)
                    seconds[row] = np.nan if parsed is None else parsed
                    if isinstance(value, str):
                        known[value] = seconds[row]
                else:
                    seconds[row] = known[value]
            except ValueError:
                unread.append((row, repr(value)))
    unread += [(row, f"{seconds[row]:g}") for row in np.flatnonzero(seconds < 0).tolist()]
    seconds = np.where(np.isfinite(seconds) & (seconds >= 0), seconds, np.nan)
    return seconds, _row_faults(name, sorted(unread), times.EXPECTED)


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


def row_faults(column: str, found: list[tuple[int, str]], expected: str, remedy: str = "") -> list[Fault]:
    """Faults of one kind: a line for each row, or one line for many.

    Args:
        column: the column's name.
        found: row number, as a spreadsheet counts (the header is row 1), and the cell.
        expected, remedy: as of :class:`affekt.errors.Fault`.

    >>> print(*row_faults("label", [(5, "nothing")], "a value"))
    row 5: label: got nothing, expected a value
    >>> print(*row_faults("label", [(row, "nothing") for row in range(2, 5_002)], "a value"))
    5,000 rows (2, 3, 4 and 4,997 more): label: got nothing, expected a value
    """
    if len(found) <= SHOWN:
        return [Fault(f"row {row}: {column}", got, expected, remedy) for row, got in found]
    first = ", ".join(str(row) for row, _ in found[:SHOWN])
    what = f"{len(found):,} rows ({first} and {len(found) - SHOWN:,} more): {column}"
    different = list(dict.fromkeys(got for _, got in found))
    got = ", ".join(different[:SHOWN]) + (" ..." if len(different) > SHOWN else "")
    return [Fault(what, got, expected, remedy)]


def _row_faults(column: str, found: list[tuple[int, str]], expected: str, remedy: str = "") -> list[Fault]:
    """Likewise, of rows of a data frame."""
    return row_faults(column, [(row + 2, got) for row, got in found], expected, remedy)


def _faults(table: pd.DataFrame) -> Iterator[Fault]:
    """Every fault, named by its rows."""
    if table.empty:
        yield Fault("manifest", got="no rows", expected="at least one utterance")
    for name in REQUIRED:
        remedy = "`affekt prepare table` leaves such rows out" if name == "label" else ""
        empty = np.flatnonzero(table[name] == "").tolist()
        yield from _row_faults(name, [(row, "nothing") for row in empty], "a value", remedy)
    twice = np.flatnonzero(table["id"].duplicated() & (table["id"] != "")).tolist()
    yield from _row_faults("id", [(row, f"{table['id'][row]!r} a second time") for row in twice], "a unique id")
    outside = [(row, repr(path)) for row, path in enumerate(table["path"]) if _leads_out(path)]
    yield from _row_faults("path", outside, "a path inside the manifest's root")
    strange = np.flatnonzero(~table["gender"].isin(GENDERS)).tolist()
    genders = [(row, repr(table["gender"][row])) for row in strange]
    yield from _row_faults("gender", genders, "female, male or empty")
    yield from _backwards(table)
    for name in (column for column in table.columns if column.startswith(VOTES_PREFIX)):
        votes = table[name].to_numpy()
        wrong = np.flatnonzero(np.isinf(votes) | (votes < 0)).tolist()
        yield from _row_faults(name, [(row, "no count") for row in wrong], "a number of votes, 0 or more")


def _leads_out(path: str) -> bool:
    parts = PurePosixPath(path)
    return parts.is_absolute() or ".." in parts.parts or "\0" in path


def _backwards(table: pd.DataFrame) -> Iterator[Fault]:
    """Utterances that end before they start."""
    start, end = table["start"].fillna(0.0).to_numpy(), table["end"].to_numpy()
    rows = np.flatnonzero(np.isfinite(end) & (end <= start)).tolist()
    if len(rows) <= SHOWN:
        for row in rows:
            yield Fault(f"row {row + 2}: end", got=f"{end[row]:g} s", expected=f"more than start = {start[row]:g} s")
    else:
        yield from _row_faults("end", [(row, f"{end[row]:g} s") for row in rows], "more than start")
