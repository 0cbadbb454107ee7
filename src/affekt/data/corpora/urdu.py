"""URDU: speakers of Urdu talk shows in four emotions."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from affekt.data.corpora.naming import read_by_name
from affekt.data.corpora.release import Corpus, Release, Row

FOLDER = re.compile(r"angry|happy|neutral|sad", re.IGNORECASE)
NAME = re.compile(r"(?P<speaker>S(?P<gender>[MF])\d+)_F(?P<file>\d+)_(?P<emotion>[AHNS])\d+", re.IGNORECASE)
EMOTIONS = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}


def read(root: Path) -> Release:
    """``Angry/SM1_F1_A01.wav``: speaker (M: male, F: female), number of the file, emotion."""
    return read_by_name(root, NAME, _row, FOLDER)


def _row(file: PurePosixPath, name: re.Match[str]) -> Row:
    code = name["emotion"].upper()
    return {
        "label": EMOTIONS[code],
        "raw_label": code,
        "speaker": name["speaker"].upper(),
        "gender": "female" if name["gender"].upper() == "F" else "male",
    }


CORPUS = Corpus(
    name="urdu",
    title="URDU, emotional utterances from Urdu talk shows",
    languages=("ur",),
    style="natural",
    license="free for research; the release states no license",
    page="https://github.com/siddiquelatif/urdu-dataset",
    layout="Angry/SM1_F1_A01.wav",
    read=read,
    speakers=29,
    label_counts={"angry": 100, "happy": 100, "neutral": 100, "sad": 100},
    remarks="The paper counts 38 speakers, the file names tell 29 apart; one man says most of the neutral utterances.",
)
