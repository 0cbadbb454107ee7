"""Read releases whose file names tell everything: speaker, text and emotion."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path, PurePosixPath

from affekt.data.corpora.files import EXTRACT, AudioFiles, branches, find, stem_key
from affekt.data.corpora.release import Note, Release, Row, noted
from affekt.data.vocabulary import canonical

NO_FOLDER = re.compile(r"(?!)")


def read_by_name(
    root: Path,
    name: re.Pattern[str],
    describe: Callable[[PurePosixPath, re.Match[str]], Row | None],
    folder: re.Pattern[str] = NO_FOLDER,
    folder_label: Callable[[str], str | None] = canonical,
    complete: Collection[str] = (),
) -> Release:
    """Read a release from its file names.

    Args:
        root: the release, or the folder above or below it.
        name: pattern of a recording's stem.
        describe: makes a row of a file and its match; `path` is added, and `id` is the stem unless the row has one.
            None if the file does not belong to the corpus.
        folder: names of the folders that hold the recordings; by default all folders are searched.
        folder_label: emotion that a folder's name tells, to be compared with the file's.
        complete: ids of the full release, if they can be listed.
    """
    base, folders = branches(root, folder)
    found = find(base, folders)
    rows: dict[str, Row] = {}
    extra: list[str] = []
    twice: list[str] = []
    for file in found.files:
        match = name.fullmatch(file.stem)
        described = describe(file, match) if match else None
        if described is None:
            extra.append(str(file))
            continue
        row = {"id": file.stem, "path": str(file)} | described
        if rows.setdefault(stem_key(row["id"]), row) is not row:
            twice.append(str(file))
    notes = [
        *found.notes,
        *noted("recordings that are not named or placed as the corpus does it, left out", extra),
        *noted("recordings that are there twice; the first by format and name is used, the others left out", twice),
        *mislabeled(rows.values(), folder_label),
        *_unread_videos(found, name, rows),
        *noted("missing recordings", (id for id in complete if stem_key(id) not in rows)),
    ]
    return Release(sorted(rows.values(), key=lambda row: str(row["path"])), base, notes)


def mislabeled(rows: Iterable[Row], folder_label: Callable[[str], str | None]) -> list[Note]:
    """Recordings whose name tells another emotion than their folder; the name is taken."""
    wrong = []
    for row in rows:
        folders = PurePosixPath(row["path"]).parent.parts
        told = next((label for label in map(folder_label, reversed(folders)) if label is not None), row["label"])
        if told != row["label"]:
            wrong.append(f"{row['path']} is {row['label']} by its name")
    return noted("mislabeled, folder and name disagree and the name is believed", wrong)


def _unread_videos(found: AudioFiles, name: re.Pattern[str], rows: Collection[str]) -> list[Note]:
    unread = [str(file) for file in found.videos if name.fullmatch(file.stem) and stem_key(file) not in rows]
    return noted("recordings in a format that is not decoded", unread, EXTRACT, failed=True)
