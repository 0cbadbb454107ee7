"""TurEV-DB: six speakers say 82 Turkish words in four emotions."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from affekt.data.corpora.naming import read_by_name
from affekt.data.corpora.release import Corpus, Release, Row
from affekt.data.vocabulary import canonical

FOLDER = re.compile(r"Sound Source", re.IGNORECASE)
NAME = re.compile(r"(?P<speaker>\d{4})_(?P<emotion>[a-z]+)_(?P<word>\w+)", re.IGNORECASE)
COUNTS = {"angry": 487, "calm": 408, "happy": 357, "sad": 483}


def read(root: Path) -> Release:
    """``Sound Source/Angry/1157_kz_beste.wav``: the folder tells the emotion, the name the speaker and the word."""
    return read_by_name(root, NAME, _row, FOLDER)


def _row(file: PurePosixPath, name: re.Match[str]) -> Row | None:
    label = canonical(file.parent.name)
    if label not in COUNTS:
        return None
    return {
        "label": label,
        "raw_label": file.parent.name,
        "speaker": name["speaker"],
        "text_id": name["word"].lower(),
    }


CORPUS = Corpus(
    name="turev-db",
    title="Turkish Emotion-Voice Database (TurEV-DB)",
    languages=("tr",),
    style="acted",
    license="CC BY-NC-ND 4.0",
    page="https://github.com/Xeonen/TurEV-DB",
    layout="Sound Source/Angry/1157_kz_beste.wav",
    read=read,
    speakers=6,
    label_counts=COUNTS,
    remarks="Single words. Calm is a label of its own, so that there is no neutral.",
)
