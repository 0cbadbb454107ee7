"""nEMO: nine actors say ninety Polish sentences in six emotions; a table beside the recordings describes them."""

from __future__ import annotations

import csv
import re
from pathlib import Path, PurePosixPath

from affekt.data.corpora.files import find, stem_key
from affekt.data.corpora.release import Corpus, Note, Release, Row, noted
from affekt.data.vocabulary import gender
from affekt.errors import CorpusError

TABLE = "data.tsv"
COLUMNS = ("file_id", "emotion", "speaker_id", "gender")
NAME = re.compile(r"(?P<speaker>\w+)_(?P<emotion>[a-z]+)_(?P<sentence>\d+)", re.IGNORECASE)
EMOTIONS = {
    "anger": "angry",
    "fear": "fearful",
    "happiness": "happy",
    "neutral": "neutral",
    "sadness": "sad",
    "surprised": "surprised",
}


def read(root: Path) -> Release:
    """``data.tsv`` and ``samples/WR0_fear_1.wav``: speaker, emotion, number of the sentence.

    The table pads the speakers' names with spaces and names wav files; recordings match by their stems.
    """
    table, base = _table(root)
    lines = _lines(table)
    found = find(base)
    files = found.by_stem()
    rows: list[Row] = []
    missing: list[str] = []
    strange: list[str] = []
    for line in lines:
        file, row = files.pop(stem_key(line["file_id"]), None), _row(line)
        if file is None:
            missing.append(line["file_id"])
        elif row is None:
            strange.append(f"{line['file_id']} {line['emotion']}")
        else:
            rows.append(row | {"path": str(file)})
    notes = [
        *found.notes,
        *noted("missing recordings", missing),
        *noted(f"recordings without a line in {TABLE}, left out", map(str, files.values())),
        *noted(f"lines of {TABLE} without a known emotion, left out", strange, failed=True),
        *_contradictions(rows),
    ]
    return Release(sorted(rows, key=lambda row: str(row["path"])), base, notes)


def _table(root: Path) -> tuple[Path, Path]:
    """The table, and the folder that the recordings are searched in: the root may be the release or its samples."""
    inner = sorted(path for path in root.glob(f"*/{TABLE}") if not path.parent.name.startswith("."))
    for table, base in [(root / TABLE, root), (root.parent / TABLE, root), *((path, path.parent) for path in inner)]:
        if table.is_file():
            return table, base
    raise CorpusError(
        f"nemo: {root}", got=f"no {TABLE}", expected=f"{TABLE} and samples/", remedy=f"the release is at {CORPUS.page}"
    )


def _lines(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, restval="")
            lines = [{key: (line[key] or "").strip() for key in COLUMNS} for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        got = f"no column {error}" if isinstance(error, KeyError) else str(error)
        expected = f"tab-separated UTF-8 with the columns {', '.join(COLUMNS)}"
        raise CorpusError(f"nemo: {table}", got=got, expected=expected) from error
    return lines


def _row(line: dict[str, str]) -> Row | None:
    id = PurePosixPath(line["file_id"]).stem
    label = EMOTIONS.get(line["emotion"].lower())
    if label is None:
        return None
    name = NAME.fullmatch(id)
    return {
        "id": id,
        "label": label,
        "raw_label": line["emotion"],
        "speaker": line["speaker_id"],
        "gender": gender(line["gender"]),
        "text_id": name["sentence"] if name else "",
    }


def _contradictions(rows: list[Row]) -> list[Note]:
    wrong = []
    for row in rows:
        name = NAME.fullmatch(row["id"])
        if name and (EMOTIONS.get(name["emotion"].lower()) != row["label"] or name["speaker"] != row["speaker"]):
            wrong.append(f"{row['id']} is {row['label']} of {row['speaker']} in {TABLE}")
    return noted(f"mislabeled, name and {TABLE} disagree and the table is believed", wrong)


CORPUS = Corpus(
    name="nemo",
    title="nEMO, a dataset of emotional speech in Polish",
    languages=("pl",),
    style="acted",
    license="CC BY-NC-SA 4.0",
    page="https://github.com/amu-cai/nEMO",
    layout="data.tsv and samples/WR0_fear_1.wav",
    read=read,
    speakers=9,
    label_counts={"angry": 749, "fearful": 736, "happy": 749, "neutral": 809, "sad": 769, "surprised": 669},
    remarks="Ninety sentences, each in every emotion and by every speaker.",
)
