"""SAVEE: four English men say TIMIT sentences in seven emotions."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path, PurePosixPath

from affekt.data.corpora.naming import read_by_name
from affekt.data.corpora.release import Corpus, Release, Row

SPEAKERS = ("DC", "JE", "JK", "KL")
FOLDER = re.compile("|".join(SPEAKERS), re.IGNORECASE)
NAME = re.compile(r"(?:(?P<speaker>[A-Z]{2})_)?(?P<emotion>sa|su|[adfhn])(?P<text>\d\d)", re.IGNORECASE)
EMOTIONS = {
    "a": "angry",
    "d": "disgusted",
    "f": "fearful",
    "h": "happy",
    "n": "neutral",
    "sa": "sad",
    "su": "surprised",
}
COMMON_SENTENCES = ("01", "02", "03")


def read(root: Path) -> Release:
    """``AudioData/DC/a01.wav``, or ``DC_a01.wav`` in one folder: speaker, emotion, number of the sentence.

    The first three sentences are the same in every emotion, the others are counted per emotion. (Neutral also holds
    sentences of the other emotions; their names do not tell which.)
    """
    complete = [
        f"{speaker}_{code}{number:02}"
        for speaker, code in product(SPEAKERS, EMOTIONS)
        for number in range(1, 31 if code == "n" else 16)
    ]
    return read_by_name(root, NAME, _row, FOLDER, complete=complete)


def _row(file: PurePosixPath, name: re.Match[str]) -> Row | None:
    speaker = (name["speaker"] or file.parent.name).upper()
    if speaker not in SPEAKERS:
        return None
    code = name["emotion"].lower()
    number = name["text"]
    return {
        "id": f"{speaker}_{code}{number}",
        "label": EMOTIONS[code],
        "raw_label": code,
        "speaker": speaker,
        "gender": "male",
        "text_id": f"common{number}" if number in COMMON_SENTENCES else f"{code}{number}",
    }


CORPUS = Corpus(
    name="savee",
    title="Surrey Audio-Visual Expressed Emotion (SAVEE)",
    languages=("en-GB",),
    style="acted",
    license="free for research, by registration",
    page="http://kahlan.eps.surrey.ac.uk/savee/",
    layout="AudioData/DC/a01.wav",
    read=read,
    speakers=4,
    label_counts={
        "angry": 60,
        "disgusted": 60,
        "fearful": 60,
        "happy": 60,
        "neutral": 120,
        "sad": 60,
        "surprised": 60,
    },
)
