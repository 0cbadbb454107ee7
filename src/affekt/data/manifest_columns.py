"""Columns of a manifest: their names, their types, and every fault of a table, each with its rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from affekt.data import times
from affekt.errors import Fault, ManifestError

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
GENDERS = ("female", "male", "")
SHOWN = 3
"""Rows with the same kind of fault that get a line each; more of them share one line."""


def complete(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Fault]]:
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


def table_faults(table: pd.DataFrame) -> Iterator[Fault]:
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
