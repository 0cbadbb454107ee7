"""EmoDB, the Berlin Database of Emotional Speech: ten actors say ten German sentences in seven emotions."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from affekt.data.corpora.naming import read_by_name
from affekt.data.corpora.release import Corpus, Release, Row

NAME = re.compile(r"(?P<speaker>\d\d)(?P<text>[ab]\d\d)(?P<emotion>[WLEAFTN])(?P<take>[a-z])", re.IGNORECASE)
EMOTIONS = {  # Wut, Langeweile, Ekel, Angst, Freude, Trauer
    "W": "angry",
    "L": "bored",
    "E": "disgusted",
    "A": "fearful",
    "F": "happy",
    "T": "sad",
    "N": "neutral",
}
FEMALE = {"08", "09", "13", "14", "16"}


def read(root: Path) -> Release:
    """``wav/03a01Fa.wav``: speaker 03, sentence a01, emotion F (Freude), take a."""
    return read_by_name(root, NAME, _row)


def _row(file: PurePosixPath, name: re.Match[str]) -> Row:
    code = name["emotion"].upper()
    return {
        "label": EMOTIONS[code],
        "raw_label": code,
        "speaker": name["speaker"],
        "gender": "female" if name["speaker"] in FEMALE else "male",
        "text_id": name["text"].lower(),
    }


CORPUS = Corpus(
    name="emodb",
    title="Berlin Database of Emotional Speech (EmoDB)",
    languages=("de",),
    style="acted",
    license="CC0-1.0",
    page="http://emodb.bilderbar.info",
    layout="wav/03a01Fa.wav",
    read=read,
    speakers=10,
    label_counts={
        "angry": 127,
        "bored": 81,
        "disgusted": 46,
        "fearful": 69,
        "happy": 71,
        "neutral": 79,
        "sad": 62,
    },
    remarks="Ten sentences, each in every emotion and by every speaker.",
)
