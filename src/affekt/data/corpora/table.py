"""A corpus of your own: any CSV or TSV file with a path and a label column."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from affekt.data.corpora.locating import locate
from affekt.data.corpora.release import Corpus, Note, Release, Row, noted
from affekt.data.manifest_columns import COLUMNS, TIME_COLUMNS, VOTES_PREFIX, row_faults
from affekt.data.manifest_files import OLD_HEADER
from affekt.data.times import EXPECTED, parse_seconds
from affekt.data.vocabulary import canonical, gender
from affekt.errors import ConfigError, CorpusError, Fault

NAMES = {
    "path": ("file", "filename", "file_name", "filepath", "file_path", "wav", "audio"),
    "label": ("emotion", "emo", "class", "target"),
    "speaker": ("speaker_id", "spk", "speaker_name", "actor"),
    "gender": ("sex",),
    "text_id": ("text", "sentence", "transcript", "transcription"),
    "session": ("session_id", "dialogue", "dialog"),
    "language": ("lang",),
    "start": ("start_time", "start_seconds"),
    "end": ("end_time", "end_seconds"),
}
"""Other names of columns; the first that a table has is taken."""
NO_LABEL = frozenset({"", "nan", "<na>"})


def read(root: Path, columns: Mapping[str, str] | None = None, audio: str | Path | None = None) -> Release:
    """Read a table.

    Args:
        root: the file; commas, semicolons, tabs or bars separate its columns, its first line names them.
        columns: manifest column -> column of the table, e.g. ``{"label": "emotion"}``; other columns are recognized by
            their names.
        audio: folder that relative paths start from; by default the table's own.
    """
    table = _lines(root)
    chosen = _columns(root, table.names, columns or {})
    base = Path(audio) if audio is not None else table.base
    labeled = [number for number, line in table.lines.items() if _cell(line, chosen["label"]).lower() not in NO_LABEL]
    paths = [_cell(table.lines[number], chosen["path"]) for number in labeled]
    located = locate(paths, base)
    missing = [
        path or f"row {number} without a path"
        for number, path, file in zip(labeled, paths, located.files, strict=True)
        if file is None
    ]
    common = _common_folder(base, [file for file in located.files if file is not None])
    numbered = {
        number: _row(table.lines[number], chosen, os.path.relpath(file, common), root.stem)
        for number, file in zip(labeled, located.files, strict=True)
        if file is not None
    }
    _read_times(root, chosen, numbered)
    rows = list(numbered.values())
    _number_repeated(rows)
    without = (str(number) for number in table.lines if number not in set(labeled))
    notes = [
        Note("columns read", got=", ".join(f"{own} from {theirs!r}" for own, theirs in chosen.items())),
        *noted("rows without a label, left out", without),
        *noted("missing recordings", missing, "paths start from the table's folder, or give --audio", failed=True),
        *located.notes,
        *unknown_labels(rows),
    ]
    return Release(rows, common, notes, chosen["label"])


def unknown_labels(rows: list[Row]) -> list[Note]:
    """A note on labels outside the vocabulary, which are kept as they are."""
    own = Counter(row["label"] for row in rows if canonical(row["label"]) is None)
    remedy = "they are kept; name them in an own label set, or correct them"
    return noted(
        "labels outside the vocabulary", (f"{label!r} in {count} rows" for label, count in own.items()), remedy
    )


@dataclass(frozen=True)
class _Table:
    """Column names, lines by row number as a spreadsheet counts (the header is row 1), and where paths start."""

    names: list[str]
    lines: dict[int, dict[str, str]]
    base: Path


def _lines(path: Path) -> _Table:
    """Read a table; the first line of a manifest of version 0.1 names the folder that its paths start from."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        old, base = text.startswith(OLD_HEADER), path.parent
        if old:
            first, _, text = text.partition("\n")
            base /= first.removeprefix(OLD_HEADER).strip(' "\r,')
        header = text.partition("\n")[0]
        delimiter = max("\t,;|", key=header.count)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
        names, lines = list(reader.fieldnames or []), dict(enumerate(reader, 3 if old else 2))
    except (OSError, ValueError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
        raise CorpusError(f"table {path}", got=str(error), expected="a CSV or TSV file in UTF-8") from error
    repeated = (name for name, count in Counter(names).items() if count > 1)
    ragged = (f"line {number}" for number, line in lines.items() if None in line)
    decimal = (
        "put numbers with a decimal comma in quotes, or separate columns by semicolons" if delimiter == "," else ""
    )
    faults = [
        *noted(f"table {path}: columns of the same name", repeated),
        *noted(f"table {path}: rows with more cells than the header", ragged, decimal),
    ]
    if faults:
        raise CorpusError.of(faults)
    return _Table(names, lines, base)


def _cell(line: Mapping[str, str], column: str) -> str:
    return (line[column] or "").strip()


def _read_times(path: Path, chosen: Mapping[str, str], rows: Mapping[int, Row]) -> None:
    """Replace the start and end of rows by seconds.

    Raises:
        CorpusError: cells that are no times, and parts that end before they start.
    """
    faults: list[Fault] = []
    backwards: list[tuple[int, str]] = []
    for name in (name for name in TIME_COLUMNS if name in chosen):
        unread: list[tuple[int, str]] = []
        for number, row in rows.items():
            cell = str(row.pop(name, ""))
            try:
                seconds = parse_seconds(cell)
            except ValueError:
                seconds = -1.0
            if seconds is not None and seconds < 0:
                unread.append((number, repr(cell)))
            elif seconds is not None:
                row[name] = seconds
                if name == "end" and seconds <= row.get("start", 0.0):
                    backwards.append((number, repr(cell)))
        faults += row_faults(chosen[name], unread, EXPECTED)
    faults += row_faults(chosen.get("end", "end"), backwards, "a time after the start")
    if faults:
        raise CorpusError.of(replace(fault, what=f"table {path}: {fault.what}") for fault in faults)


def _columns(table: Path, names: list[str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Manifest column -> the table's column."""
    faults = [
        Note(f"columns.{own}", got=repr(theirs), expected=f"one of the table's columns: {', '.join(names)}")
        for own, theirs in wanted.items()
        if theirs not in names
    ]
    faults += [
        Note(f"columns.{own}", got="a column that manifests do not have", expected=f"one of {', '.join(COLUMNS)}")
        for own in wanted
        if own not in COLUMNS and not own.startswith(VOTES_PREFIX)
    ]
    folded = {name.strip().lower(): name for name in reversed(names)}
    chosen = dict(wanted)
    for own in COLUMNS:
        match = next((folded[name] for name in (own, *NAMES.get(own, ())) if name in folded), None)
        if own not in wanted and match is not None and match not in wanted.values():
            chosen[own] = match
    chosen |= {name: name for name in names if name.startswith(VOTES_PREFIX) and name not in chosen}
    faults += [
        Note(f"table {table}", got=f"no {own} column among {', '.join(names)}", remedy=f"name it: --columns.{own} NAME")
        for own in ("path", "label")
        if own not in chosen
    ]
    if faults:
        raise ConfigError.of(faults)
    return chosen


def _common_folder(base: Path, files: list[Path]) -> Path:
    """The base, if all files lie in it, else the innermost folder that holds them all."""
    folder = os.path.abspath(base)  # noqa: PTH100
    inside = all(file.is_relative_to(folder) for file in files)
    return Path(folder if inside else os.path.commonpath([file.parent for file in files]))


def _row(line: Mapping[str, str], chosen: Mapping[str, str], path: str, corpus: str) -> Row:
    cells: dict[str, Any] = {own: _cell(line, theirs) for own, theirs in chosen.items()}
    label = cells["label"]
    file = Path(path).as_posix()
    return {"id": str(PurePosixPath(file).with_suffix("")), "raw_label": label, "corpus": corpus} | {
        **{own: cell for own, cell in cells.items() if cell},
        "path": file,
        "label": canonical(label) or label,
        "gender": gender(cells.get("gender", "")),
    }


def _number_repeated(rows: list[Row]) -> None:
    """Several rows may be parts of one file; their ids are numbered, so that each is unique."""
    seen = Counter[str]()
    for row in rows:
        seen[row["id"]] += 1
        if seen[row["id"]] > 1:
            row["id"] = f"{row['id']}#{seen[row['id']]}"


CORPUS = Corpus(
    name="table",
    title="A corpus of your own: a CSV or TSV file with a path and a label column",
    languages=("",),
    style="",
    license="yours",
    page="",
    layout="a table whose columns are named like a manifest's, or with --columns.label NAME",
    read=read,
    options=("columns", "audio"),
)
