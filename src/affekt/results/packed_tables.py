"""Files of all jobs of a published run in one Parquet file per kind, from which each is restored exactly.

A run of a thousand jobs has thousands of small files. Packed, repeated texts are stored once and numbers in binary:
`predictions.parquet` and `history.parquet` hold the rows of all jobs, with their system, fold and seed, in a sixth of
the space; `result.parquet` holds the text of every `result.json`. A table is packed only if the CSV written from it
equals the original byte for byte, so the hashes in `result.json` still apply.

The probabilities of a row sum to 1, so the largest is that of the others but for rounding. It is left out: the columns
`prob.*` but the last hold the others in their order, the last one the rounding, and `largest` the place left out.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affekt.errors import CheckpointError
from affekt.runtime.atomic_files import atomic_write

KEY = ("system", "fold", "seed")
"""Columns that identify the job of a row."""
PROBABILITY_PREFIX = "prob."
LARGEST = "largest"
TEXT = "text"
"""Column of a packed file that holds whole files as texts."""
SUFFIX = ".parquet"

JobId = tuple[str, int, int]


def packed_path(run: Path, name: str) -> Path:
    """The packed file of a run for the CSV files of a name.

    >>> packed_path(Path("run"), "history.csv").as_posix()
    'run/history.parquet'
    """
    return run / Path(name).with_suffix(SUFFIX)


def pack(run: Path, name: str, contents: Mapping[JobId, bytes]) -> list[JobId]:
    """Write the packed file of a run, from the CSV files of its jobs.

    Args:
        run: folder of the packed file.
        name: name of the CSV files, such as `predictions.csv`.
        contents: the CSV file of each job, in the order of the packed file.

    Returns:
        The jobs that are packed. The files of others have the wrong form and remain necessary.
    """
    tables = {job: table for job, content in contents.items() if (table := _parsed(content)) is not None}
    layouts = Counter(tuple(table.columns) for table in tables.values())
    if not layouts:
        return []
    columns = layouts.most_common(1)[0][0]
    chosen = {job: table for job, table in tables.items() if tuple(table.columns) == columns}
    joined: pd.DataFrame = pd.concat([_with_key(table, job) for job, table in chosen.items()])
    for column in columns:
        joined[column] = _typed(joined[column])
    _write(_without_largest(joined), packed_path(run, name))
    return [job for job in chosen if unpack(run, name, job) == contents[job]]


def pack_texts(run: Path, name: str, contents: Mapping[JobId, bytes]) -> None:
    """Write the packed file of a run, from files of its jobs that are texts of any form."""
    rows = [(*job, content.decode()) for job, content in contents.items()]
    _write(pd.DataFrame(rows, columns=[*KEY, TEXT]), packed_path(run, name))


def unpack(run: Path, name: str, job: JobId) -> bytes | None:
    """The file of a job, restored from the packed file of its run.

    Args:
        run: the run directory.
        name: name of the file.
        job: system, fold and seed.

    Returns:
        Its content; None if the run has no packed file, or not for this job.

    Raises:
        CheckpointError: a packed file that cannot be read.
    """
    return _files(run, name).get(job)


def packed_jobs(run: Path, name: str) -> list[JobId]:
    """The jobs in the packed file of a run; none if there is no such file.

    Raises:
        CheckpointError: a packed file that cannot be read.
    """
    return list(_files(run, name))


def _files(run: Path, name: str) -> Mapping[JobId, bytes]:
    path = packed_path(run, name)
    try:
        stamp = path.stat()
    except OSError:
        return {}
    return _read(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=6)
def _read(path: Path, modified_ns: int, size_bytes: int) -> dict[JobId, bytes]:
    """The files in a packed file by job; read again when it changes."""
    try:
        table = pd.read_parquet(path)
        keys = [(str(system), int(fold), int(seed)) for system, fold, seed in table[list(KEY)].itertuples(index=False)]
    except (OSError, ValueError, KeyError) as error:
        got, expected = str(error).partition("\n")[0], f"a Parquet file with {', '.join(KEY)}"
        raise CheckpointError(str(path), got=got, expected=expected, remedy="restore it, or collect the run") from error
    rows = _with_largest(table.drop(columns=list(KEY)))
    if list(rows.columns) == [TEXT]:
        return {job: text.encode() for job, text in zip(keys, rows[TEXT], strict=True)}
    return _rendered_by_job(rows, keys)


def _rendered_by_job(rows: pd.DataFrame, keys: Sequence[JobId]) -> dict[JobId, bytes]:
    """The CSV file of each job. All are rendered at once and cut apart, unless a text has a line break."""
    places: dict[JobId, list[int]] = {}
    for place, job in enumerate(keys):
        places.setdefault(job, []).append(place)
    header, *lines = _rendered(rows).splitlines(keepends=True)
    if len(lines) != len(rows):
        return {job: _rendered(rows.iloc[own]) for job, own in places.items()}
    return {job: b"".join([header, *(lines[place] for place in own)]) for job, own in places.items()}


def _write(table: pd.DataFrame, path: Path) -> None:
    """Write a Parquet file; numbers that hardly repeat are split by bytes, all else has a dictionary."""
    floats = [name for name, kind in table.dtypes.items() if kind.kind == "f"]
    split = [name for name in floats if table[name].nunique() > len(table) / 2]
    with atomic_write(path) as file:
        table.to_parquet(
            file,
            index=False,
            compression="zstd",
            compression_level=19,
            use_dictionary=[name for name in table.columns if name not in split],
            column_encoding=dict.fromkeys(split, "BYTE_STREAM_SPLIT"),
        )


def _probabilities(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if name.startswith(PROBABILITY_PREFIX)]


def _without_largest(table: pd.DataFrame) -> pd.DataFrame:
    """A table with the largest probability of each row left out; as it is where the probabilities do not allow that."""
    names = _probabilities(table)
    if len(names) < 2 or LARGEST in table or any(table[name].dtype != np.float32 for name in names):
        return table
    values = table[names].to_numpy(np.float32)
    largest = values.argmax(1)
    others = np.take_along_axis(values, _others(len(names))[largest], axis=1)
    rest = values.max(1).view(np.int32) - _implied(others).view(np.int32)  # in units of the last place
    if not (np.abs(rest) < 128).all():
        return table
    packed = dict(zip(names, [*others.T, rest.astype(np.int8)], strict=True))
    return table.assign(**packed, **{LARGEST: largest.astype(np.int8)})


def _with_largest(table: pd.DataFrame) -> pd.DataFrame:
    """The table that :func:`_without_largest` was given."""
    if LARGEST not in table:
        return table
    names = _probabilities(table)
    others, rest = table[names[:-1]].to_numpy(np.float32), table[names[-1]].to_numpy(np.int32)
    largest = table[LARGEST].to_numpy(np.int64)
    values = np.empty((len(table), len(names)), np.float32)
    np.put_along_axis(values, _others(len(names))[largest], others, axis=1)
    found = (_implied(others).view(np.int32) + rest).view(np.float32)
    np.put_along_axis(values, largest[:, None], found[:, None], axis=1)
    return table.drop(columns=LARGEST).assign(**dict(zip(names, values.T, strict=True)))


def _others(count: int) -> NDArray[np.int64]:
    """Row i: the places from 0 to count - 1 without i."""
    return np.array([[place for place in range(count) if place != left_out] for left_out in range(count)])


def _implied(others: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 less the others, added in order, since another order might round otherwise."""
    total = np.ones(len(others))
    for column in others.T:
        total -= column
    return total.astype(np.float32)


def _with_key(table: pd.DataFrame, job: JobId) -> pd.DataFrame:
    system, fold, seed = job
    return table.assign(system=system, fold=fold, seed=seed)


def _parsed(content: bytes) -> pd.DataFrame | None:
    """A CSV file as texts; None if it has no rows, or if it would be written differently."""
    try:
        table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    except ValueError:  # pandas' parser errors and UnicodeDecodeError are ValueErrors
        return None
    usable = len(table) > 0 and not set(KEY) & set(table.columns) and _rendered(table) == content
    return table if usable else None


def _typed(texts: pd.Series) -> pd.Series:
    """The narrowest type whose values are written as these texts."""
    for kind in (np.int64, np.float32, np.float64):
        try:
            values = texts.astype(kind)
        except (ValueError, OverflowError):
            continue
        if _rendered(values.to_frame()) == _rendered(texts.to_frame()):
            return values
    return texts


def _rendered(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False).encode()
