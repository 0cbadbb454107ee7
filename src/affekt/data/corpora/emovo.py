"""EMOVO: six actors say fourteen Italian sentences in seven emotions."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from affekt.data.corpora.naming import read_by_name
from affekt.data.corpora.release import Corpus, Release, Row

FOLDER = re.compile(r"[fm][123]", re.IGNORECASE)
NAME = re.compile(r"(?P<emotion>dis|gio|neu|pau|rab|sor|tri)-(?P<speaker>[fm][123])-(?P<text>[a-z]\d)", re.IGNORECASE)
EMOTIONS = {  # disgusto, gioia, neutro, paura, rabbia, sorpresa, tristezza
    "dis": "disgusted",
    "gio": "happy",
    "neu": "neutral",
    "pau": "fearful",
    "rab": "angry",
    "sor": "surprised",
    "tri": "sad",
}


def read(root: Path) -> Release:
    """``f1/dis-f1-b1.wav``: emotion, actor, sentence."""
    return read_by_name(root, NAME, _row, FOLDER)


def _row(file: PurePosixPath, name: re.Match[str]) -> Row:
    code, speaker = name["emotion"].lower(), name["speaker"].lower()
    return {
        "label": EMOTIONS[code],
        "raw_label": code,
        "speaker": speaker,
        "gender": "female" if speaker.startswith("f") else "male",
        "text_id": name["text"].lower(),
    }


CORPUS = Corpus(
    name="emovo",
    title="EMOVO, an Italian emotional speech database",
    languages=("it",),
    style="acted",
    license="free for research; the release states no license",
    page="http://voice.fub.it/activities/corpora/emovo/index.html",
    layout="f1/dis-f1-b1.wav",
    read=read,
    speakers=6,
    label_counts=dict.fromkeys(EMOTIONS.values(), 84),
    remarks="Some of the sentences make no sense, on purpose.",
)
