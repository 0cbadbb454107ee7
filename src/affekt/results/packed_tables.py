"""Tables of all jobs of a published run in one Parquet file per kind, from which each job's CSV is restored exactly.

A run of a thousand jobs has thousands of small CSV files. Packed, repeated texts are stored once and numbers in binary:
`predictions.parquet` and `history.parquet` hold the rows of all jobs, with their system, fold and seed, in a third of
the space. A table is packed only if the CSV written from it equals the original byte for byte, so the hashes in
`result.json` still apply.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from affekt.errors import CheckpointError
from affekt.runtime.atomic_files import atomic_write

KEY = ("system", "fold", "seed")
"""Columns that identify the job of a row."""
SUFFIX = ".parquet"

JobId = tuple[str, int, int]


def packed_path(run: Path, name: str) -> Path:
    """The packed file of a run for the CSV files of a name.

    >>> packed_path(Path("run"), "history.csv").as_posix()
    'run/history.parquet'
    """
    return run / Path(name).with_suffix(SUFFIX)


def pack(run: Path, name: str, jobs: Sequence[JobId], files: Mapping[JobId, Path]) -> list[Path]:
    """Write the packed file of a run, from the CSV files of its jobs.

    Args:
        run: folder of the packed file.
        name: name of the CSV files, such as `predictions.csv`.
        jobs: system, fold and seed of the jobs, in the order of the packed file.
        files: the CSV file of each job.

    Returns:
        The CSV files that are packed. Others have the wrong form and remain necessary.
    """
    contents = {job: files[job].read_bytes() for job in jobs}
    tables = {job: table for job, content in contents.items() if (table := _parsed(content)) is not None}
    layouts = Counter(tuple(table.columns) for table in tables.values())
    if not layouts:
        return []
    columns = layouts.most_common(1)[0][0]
    chosen = {job: table for job, table in tables.items() if tuple(table.columns) == columns}
    joined: pd.DataFrame = pd.concat([_with_key(table, job) for job, table in chosen.items()])
    for column in columns:
        joined[column] = _typed(joined[column])
    with atomic_write(packed_path(run, name)) as file:
        joined.to_parquet(file, index=False, compression="zstd")
    return [files[job] for job in chosen if unpack(run, name, job) == contents[job]]


def unpack(run: Path, name: str, job: JobId) -> bytes | None:
    """The CSV file of a job, restored from the packed file of its run.

    Args:
        run: the run directory.
        name: name of the CSV file.
        job: system, fold and seed.

    Returns:
        Its content; None if the run has no packed file, or not for this job.

    Raises:
        CheckpointError: a packed file that cannot be read.
    """
    path = packed_path(run, name)
    try:
        stamp = path.stat()
    except OSError:
        return None
    tables = _read(path, stamp.st_mtime_ns, stamp.st_size)
    return _rendered(tables[job]) if job in tables else None


@lru_cache(maxsize=8)
def _read(path: Path, modified_ns: int, size_bytes: int) -> dict[JobId, pd.DataFrame]:
    """The tables of a packed file by job; read again when the file changes."""
    try:
        table = pd.read_parquet(path)
        keys = [(str(system), int(fold), int(seed)) for system, fold, seed in table[list(KEY)].itertuples(index=False)]
        rows = table.drop(columns=list(KEY)).groupby(pd.Series(keys, index=table.index), sort=False)
        return {(name[0], name[1], name[2]): part for name, part in rows}
    except (OSError, ValueError, KeyError) as error:
        got, expected = str(error).partition("\n")[0], f"a Parquet file with {', '.join(KEY)}"
        raise CheckpointError(str(path), got=got, expected=expected, remedy="restore it, or collect the run") from error


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
