"""A corpus of your own: one folder per class."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from affekt.data.corpora.files import EXTRACT, find
from affekt.data.corpora.release import Corpus, Release, Row, noted
from affekt.data.corpora.table import unknown_labels
from affekt.data.manifest import TEXT_COLUMNS
from affekt.data.vocabulary import canonical
from affekt.errors import ConfigError

TOLD_BY_NAME = tuple(sorted(set(TEXT_COLUMNS) - {"id", "path", "label", "raw_label", "corpus"}))


def read(root: Path, pattern: str | None = None) -> Release:
    """``happy/anything.wav``, at any depth.

    The label is the first folder on the way to the file that names an emotion, or else the first folder; so
    ``train/happy/7.wav`` is happy.

    Args:
        root: the folder with the classes' folders.
        pattern: regular expression that is searched in each path; its named groups become columns, e.g.
            ``(?P<speaker>[^_/]+)_(?P<text_id>\\d+)``.
    """
    search = _compiled(pattern)
    found = find(root)
    rows = [_row(file, search, root.name) for file in found.files if len(file.parts) > 1]
    notes = [
        *found.notes,
        *noted("recordings outside any folder, left out", (str(file) for file in found.files if len(file.parts) == 1)),
        *noted("recordings in a format that is not decoded", map(str, found.videos), EXTRACT, failed=True),
        *noted("paths that the pattern does not match", _unmatched(rows, search)),
        *unknown_labels(rows),
    ]
    return Release(rows, root, notes)


def _compiled(pattern: str | None) -> re.Pattern[str]:
    try:
        search = re.compile(pattern or "")
    except re.error as error:
        raise ConfigError("pattern", got=f"{pattern!r}, {error}", expected="a regular expression") from error
    unknown = sorted(set(search.groupindex) - set(TOLD_BY_NAME))
    if unknown or (pattern and not search.groupindex):
        got = f"groups {', '.join(unknown)}" if unknown else f"{pattern!r} without a named group"
        raise ConfigError("pattern", got=got, expected=f"groups named {', '.join(TOLD_BY_NAME)}")
    return search


def _row(file: PurePosixPath, search: re.Pattern[str], corpus: str) -> Row:
    folders = file.parts[:-1]
    raw = next((folder for folder in folders if canonical(folder)), folders[0])
    match = search.search(str(file))
    told = {key: value or "" for key, value in match.groupdict().items()} if match else {}
    return told | {
        "id": str(file.with_suffix("")),
        "path": str(file),
        "label": canonical(raw) or raw,
        "raw_label": raw,
        "corpus": corpus,
    }


def _unmatched(rows: list[Row], search: re.Pattern[str]) -> list[str]:
    return [row["path"] for row in rows if not search.search(row["path"])]


CORPUS = Corpus(
    name="folders",
    title="A corpus of your own: one folder per class",
    languages=("",),
    style="",
    license="yours",
    page="",
    layout="happy/anything.wav",
    read=read,
    options=("pattern",),
)
