"""Databases in audEERING's audformat: tables of files or segments with schemes, described by a ``db.yaml``."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from affekt.data.corpora.locating import locate
from affekt.data.corpora.release import Corpus, Note, Release, Row, noted
from affekt.data.corpora.table import unknown_labels
from affekt.data.labels import unusable_classes
from affekt.data.vocabulary import canonical, gender
from affekt.errors import ConfigError, CorpusError, Fault

HEADER = "db.yaml"
EMOTION = "emotion"
Segment: TypeAlias = tuple[str, float | None, float | None]


def read(root: Path, table: str | None = None, column: str = EMOTION) -> Release:
    """Read a database.

    Args:
        root: the folder with ``db.yaml``, or the folder above.
        table: table with the labels; by default the only one that has the column.
        column: column with the labels.
    """
    audformat = _package()
    base = next((path.parent for path in (root / HEADER, *sorted(root.glob(f"*/{HEADER}"))) if path.is_file()), root)
    try:
        database = audformat.Database.load(str(base), load_data=True)
    except Exception as error:  # audformat, yaml, pandas and pyarrow raise anything for a damaged database
        raise CorpusError(f"audformat: {base}", got=str(error) or type(error).__name__, expected=HEADER) from error
    name = table or _only_table(database, column)
    if name not in database.tables or column not in database[name].columns:
        got, expected = f"no column {column!r} in table {name!r}", "a table and column of the database"
        raise ConfigError(f"audformat: {base}", got=got, expected=f"{expected}: {_contents(database)}")
    return _release(database, base, name, column)


def _package() -> Any:
    try:
        return importlib.import_module("audformat")
    except ImportError as error:
        remedy = "pip install affekt[audformat]"
        raise ConfigError("corpus audformat", got="no package audformat", remedy=remedy) from error


def _only_table(database: Any, column: str) -> str:
    names = [name for name in database.tables if column in database[name].columns]
    if len(names) != 1:
        got = f"{column!r} in {len(names)} tables" + (f" ({', '.join(names)})" if names else "")
        remedy = f"choose with --table and --column from {_contents(database)}"
        raise ConfigError("audformat: labels", got=got, expected="in one table", remedy=remedy)
    return str(names[0])


def _contents(database: Any) -> str:
    return "; ".join(f"{name}: {', '.join(database[name].columns)}" for name in database.tables)


def _release(database: Any, base: Path, table: str, column: str) -> Release:
    labels = {_segment(index): label for index, label in database[table][column].get().items()}
    names = list(dict.fromkeys(file for file, _, _ in labels))
    located = locate(names, base)
    files = {name: file for name, file in zip(names, located.files, strict=True) if file is not None}
    facts = _Facts.of(database)
    rows = [
        _row(facts, segment, label, Path(os.path.relpath(files[segment[0]], base)).as_posix())
        for segment, label in labels.items()
        if segment[0] in files and isinstance(label, str)
    ]
    if numeric := [str(label) for label in labels.values() if isinstance(label, int | float) and label == label]:
        fault = unusable_classes(numeric, column) or Fault(f"column {column!r}", "numbers", "names of classes")
        raise CorpusError.of([replace(fault, remedy="choose another with --table and --column")])
    unlabeled = [segment[0] for segment, label in labels.items() if not isinstance(label, str)]
    notes = [
        Note("labels read", got=f"column {column!r} of table {table!r}"),
        *noted("missing recordings", (name for name in names if name not in files), failed=True),
        *located.notes,
        *noted("rows without a label, left out", unlabeled),
        *unknown_labels(rows),
    ]
    return Release(rows, base, notes, column)


def _segment(index: Any) -> Segment:
    """File, start and end in seconds; whole files have neither, and an end that is not given is the file's."""
    if not isinstance(index, tuple):
        return str(index), None, None
    file, start, end = index
    return str(file), start.total_seconds(), None if math.isnan(end.total_seconds()) else end.total_seconds()


@dataclass(frozen=True)
class _Facts:
    """Facts of a database besides the labels: its name and language, speaker and gender of each file."""

    name: str
    language: str
    speakers: Mapping[str, str]
    genders: Mapping[str, str]

    @classmethod
    def of(cls, database: Any) -> _Facts:
        speakers, people = _per_file(database, "speaker"), _people(database)
        told = {file: people[speaker] for file, speaker in speakers.items() if speaker in people}
        language = _language(str(database.languages[0])) if len(database.languages) == 1 else ""
        return cls(str(database.name), language, speakers, _per_file(database, "gender") | told)


def _row(facts: _Facts, segment: Segment, label: str, path: str) -> Row:
    file, start, end = segment
    times = {name: seconds for name, seconds in (("start", start), ("end", end)) if seconds is not None}
    return times | {
        "id": str(PurePosixPath(file).with_suffix("")) + "".join(f"#{seconds:g}" for seconds in times.values()),
        "path": path,
        "label": canonical(label) or label,
        "raw_label": label,
        "speaker": facts.speakers.get(file, ""),
        "gender": gender(facts.genders.get(file, "")),
        "language": facts.language,
        "corpus": facts.name,
    }


def _per_file(database: Any, column: str) -> dict[str, str]:
    """A column by file name, from the first table of files that has it."""
    for table in database.tables:
        if column in database[table].columns and database[table].is_filewise:
            values = database[table][column].get()
            return {str(file): str(value) for file, value in values.items() if isinstance(value, str | int)}
    return {}


def _people(database: Any) -> dict[str, str]:
    """Gender of each speaker, if the scheme of the speakers describes it."""
    labels = getattr(database.schemes.get("speaker"), "labels", None)
    facts: Mapping[Any, Any] = labels if isinstance(labels, Mapping) else {}
    return {str(name): str(fact.get("gender", "")) for name, fact in facts.items() if isinstance(fact, Mapping)}


def _language(code: str) -> str:
    """The two letters of BCP 47 for the three of ISO 639-3 that audformat stores."""
    iso639 = importlib.import_module("iso639")  # audformat depends on it
    return str(iso639.Lang(code).pt1 or code)


CORPUS = Corpus(
    name="audformat",
    title="A corpus of your own: a database in audformat",
    languages=("",),
    style="",
    license="the database's",
    page="https://audeering.github.io/audformat/",
    layout="db.yaml beside its tables and recordings",
    read=read,
    options=("table", "column"),
)
