"""ASED: 65 speakers of four Amharic dialects, five emotions, chosen by eight judges."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from affekt.data.corpora.naming import read_by_name
from affekt.data.corpora.release import Corpus, Release, Row

FOLDER = re.compile(r"0[1-5](Neutral|Fear\w*|Happy|Sad|Angry)", re.IGNORECASE)
NAME = re.compile(
    r"(?P<emotion>[nfhsa])[1-5]-(?P<sentence>\d\d)-(?P<repetition>\d\d)-(?P<gender>0[12])-(?P<speaker>\d\d)",
    re.IGNORECASE,
)
EMOTIONS = {"n": "neutral", "f": "fearful", "h": "happy", "s": "sad", "a": "angry"}
COMMON_SENTENCES = ("06", "07")


def read(root: Path) -> Release:
    """``05Angry/a5-03-01-02-50.wav``: emotion and folder, sentence, repetition, gender, speaker.

    Five sentences are the emotion's own, two are said in every emotion.
    """
    return read_by_name(root, NAME, _row, FOLDER)


def _row(file: PurePosixPath, name: re.Match[str]) -> Row:
    code, sentence = name["emotion"].lower(), name["sentence"]
    return {
        "label": EMOTIONS[code],
        "raw_label": code,
        "speaker": name["speaker"],
        "gender": "female" if name["gender"] == "01" else "male",
        "text_id": f"common{sentence}" if sentence in COMMON_SENTENCES else f"{code}{sentence}",
    }


CORPUS = Corpus(
    name="ased",
    title="Amharic Speech Emotion Dataset (ASED)",
    languages=("am",),
    style="acted",
    license="free to download; the release states no license",
    page="https://github.com/wgwangang/ASED_V1",
    layout="05Angry/a5-03-01-02-50.wav",
    read=read,
    speakers=65,
    label_counts={"angry": 486, "fearful": 510, "happy": 486, "neutral": 522, "sad": 470},
)
