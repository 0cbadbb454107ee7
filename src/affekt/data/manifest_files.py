"""Manifest files: CSV and Parquet tables whose paths start from the file's folder, and those of version 0.1."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING

from affekt.data.manifest_columns import COLUMNS
from affekt.errors import ManifestError, reason

if TYPE_CHECKING:  # pandas takes long to import; functions import it, so that decoding can start before
    import pandas as pd

SUFFIXES = (".csv", ".parquet")
MOST_ROWS, MOST_ROWS_PER_BYTE = 100_000, 10
"""Bounds on the rows of a Parquet file: more than these cannot all have different ids."""
OLD_HEADER = "# root:"
"""First line of the files of version 0.1, which names the folder that their paths start from."""


def is_manifest(path: str | Path) -> bool:
    """Whether :meth:`affekt.data.manifest.Manifest.write` wrote a file, of this version or 0.1: it has all columns."""
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


def read_table(path: Path) -> pd.DataFrame:
    """The table of a file as it is, CSV cells as text; what version 0.1 wrote about its paths is in `attrs["root"]`.

    Raises:
        ManifestError: another suffix, or no readable table.
    """
    import pandas as pd

    try:
        if path.suffix == ".parquet":
            _check_rows(path)
            return _decoded(pd.read_parquet(path))
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
    except FileNotFoundError as error:
        remedy = "`affekt prepare` writes manifests"
        raise ManifestError(str(path), got=reason(error), expected="a CSV or Parquet table", remedy=remedy) from error
    except (OSError, ValueError) as error:  # pandas' and pyarrow's parser errors, UnicodeDecodeError are ValueErrors
        got = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ManifestError(f"manifest {path}", got=got, expected="a readable CSV or Parquet table") from error
    return table


def _decoded(table: pd.DataFrame) -> pd.DataFrame:
    """Text as Python objects: Arrow decodes late, and a damaged file must fail where it is read."""
    from pyarrow import ArrowException

    try:
        for name in table.columns:
            if not hasattr(table[name].dtype, "itemsize"):  # no NumPy type
                table[name] = table[name].astype(object)
    except ArrowException as error:
        raise ValueError(f"column {name} holds text that is not UTF-8") from error
    return table


def _check_rows(path: Path) -> None:
    """Guard against decompression bombs: dictionary encoding can hold 10^9 equal rows in a few bytes."""
    from pyarrow.parquet import read_metadata

    rows, size_bytes = read_metadata(path).num_rows, path.stat().st_size
    if rows > MOST_ROWS + size_bytes * MOST_ROWS_PER_BYTE:
        raise ManifestError(
            f"manifest {path}", got=f"{rows} rows", expected="not more rows than its bytes can tell apart"
        )


def inside(table: pd.DataFrame, base: Path) -> tuple[pd.DataFrame, Path]:
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
    """The number of folders that a tidy path leads upwards first.

    >>> _ups("../../a.wav"), _ups("a/b.wav")
    (2, 0)
    """
    parts = path.split("/")
    return next((place for place, part in enumerate(parts) if part != ".."), len(parts))


def relative(paths: pd.Series, root: Path, folder: Path) -> list[str]:
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
