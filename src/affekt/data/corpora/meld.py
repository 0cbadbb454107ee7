"""MELD: utterances of the television series *Friends*, with three official parts.

The release holds films. They are read with the extra `containers`; else their sound must be extracted first, under the
same stems.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from affekt.data.corpora.files import EXTRACT, AudioFiles, find
from affekt.data.corpora.release import Corpus, Release, Row, noted
from affekt.errors import CorpusError

PARTS = ("train", "dev", "test")
COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")
NAME = re.compile(r"dia\d+_utt\d+")
EMOTIONS = {
    "anger": "angry",
    "disgust": "disgusted",
    "fear": "fearful",
    "joy": "happy",
    "neutral": "neutral",
    "sadness": "sad",
    "surprise": "surprised",
}
GENDERS = {
    "Monica": "female",
    "Phoebe": "female",
    "Rachel": "female",
    "Chandler": "male",
    "Joey": "male",
    "Ross": "male",
}


def read(root: Path) -> Release:
    """``train_sent_emo.csv``, ``dev_...``, ``test_...`` and folders with ``dia0_utt0``, whose names tell the part.

    A session is a dialogue, a text is what is said, in lower case and without punctuation.
    """
    tables = _tables(root)
    found = find(root)
    files, videos = _by_part(found.files), _by_part(found.videos)
    rows: list[Row] = []
    missing: list[str] = []
    films: list[str] = []
    strange: list[str] = []
    for part, table in tables.items():
        for line in _lines(table):
            id = f"{part}-dia{line['Dialogue_ID']}_utt{line['Utterance_ID']}"
            row = _row(id, part, line)
            if row is None:
                strange.append(f"{id} {line['Emotion']}")
            elif id in files:
                rows.append(row | {"path": str(files[id])})
            else:
                (films if id in videos else missing).append(id)
    notes = [
        *found.notes,
        *noted("missing tables", (f"{part}_sent_emo.csv" for part in PARTS if part not in tables)),
        *noted("films whose sound is not extracted", films, EXTRACT, failed=True),
        *noted("missing recordings", missing),
        *noted("lines without a known emotion, left out", strange, failed=True),
        *noted("recordings without a line in a table, left out", _unused(found, rows)),
    ]
    if films and not rows:
        raise CorpusError.of(note for note in notes if note.failed)
    return Release(rows, root, notes)


def _tables(root: Path) -> dict[str, Path]:
    """The tables of the parts, wherever they lie."""
    wanted = {f"{part}_sent_emo.csv": part for part in PARTS}
    paths = [Path(base, name) for base, _, names in os.walk(root, followlinks=False) for name in sorted(names)]
    return {wanted[path.name]: path for path in reversed(paths) if path.name in wanted}


def _by_part(files: Iterable[PurePosixPath]) -> dict[str, PurePosixPath]:
    """Files by part and stem; the innermost folder that names a part tells it (``test`` in
    ``output_repeated_splits_test``)."""
    index: dict[str, PurePosixPath] = {}
    for file in files:
        part = next((part for folder in reversed(file.parts[:-1]) for part in PARTS if part in folder.lower()), None)
        if part and NAME.fullmatch(file.stem):
            index.setdefault(f"{part}-{file.stem}", file)
    return index


def _unused(found: AudioFiles, rows: list[Row]) -> list[str]:
    used = {row["path"] for row in rows}
    return [str(file) for file in found.files if str(file) not in used]


def _lines(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(encoding="utf-8", errors="replace", newline="") as file:
            return [{key: line[key].strip() for key in COLUMNS} for line in csv.DictReader(file, restval="")]
    except (OSError, csv.Error, KeyError) as error:
        got = f"no column {error}" if isinstance(error, KeyError) else str(error)
        raise CorpusError(f"meld: {table}", got=got, expected=f"a table with {', '.join(COLUMNS)}") from error


def _row(id: str, part: str, line: dict[str, str]) -> Row | None:
    label = EMOTIONS.get(line["Emotion"].lower())
    if label is None:
        return None
    return {
        "id": id,
        "label": label,
        "raw_label": line["Emotion"],
        "speaker": line["Speaker"],
        "session": f"{part}-dia{line['Dialogue_ID']}",
        "gender": GENDERS.get(line["Speaker"], ""),
        "text_id": " ".join(re.findall(r"\w+", line["Utterance"].lower())),
    }


CORPUS = Corpus(
    name="meld",
    title="Multimodal EmotionLines Dataset (MELD)",
    languages=("en-US",),
    style="scripted",
    license="annotations GPL-3.0; the sound is the series' owners', for research",
    page="https://affective-meld.github.io/",
    layout="train_sent_emo.csv and train_splits/dia0_utt0.wav (or the mp4 files), likewise dev and test",
    read=read,
    speakers=304,
    label_counts={
        "angry": 1607,
        "disgusted": 361,
        "fearful": 358,
        "happy": 2308,
        "neutral": 6436,
        "sad": 1002,
        "surprised": 1636,
    },
    remarks="Two films of the release are broken or missing (train dia125_utt3, dev dia110_utt7).",
)
