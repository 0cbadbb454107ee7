"""TESS: two women, 26 and 64 years old, say "Say the word ..." with 200 words in seven emotions."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from affekt.data.corpora.naming import read_by_name
from affekt.data.corpora.release import Corpus, Release, Row
from affekt.data.vocabulary import canonical

NAME = re.compile(
    r"(?P<speaker>OAF|YAF|OA)_(?P<word>[a-z]+)_(?P<emotion>angry|disgust|fear|happy|neutral|ps|sad)", re.IGNORECASE
)
EMOTIONS = {
    "angry": "angry",
    "disgust": "disgusted",
    "fear": "fearful",
    "happy": "happy",
    "neutral": "neutral",
    "ps": "surprised",  # pleasant surprise
    "sad": "sad",
}


def read(root: Path) -> Release:
    """``OAF_angry/OAF_back_angry.wav``: older or younger actress, word, emotion.

    The release has one misspelt name, ``OA_bite_neutral``; it is the older actress's.
    """
    return read_by_name(root, NAME, _row, folder_label=lambda folder: canonical(folder.partition("_")[2]))


def _row(file: PurePosixPath, name: re.Match[str]) -> Row:
    code = name["emotion"].lower()
    speaker = "YAF" if name["speaker"].upper() == "YAF" else "OAF"
    word = name["word"].lower()
    return {
        "id": f"{speaker}_{word}_{code}",
        "label": EMOTIONS[code],
        "raw_label": code,
        "speaker": speaker,
        "gender": "female",
        "text_id": word,
    }


CORPUS = Corpus(
    name="tess",
    title="Toronto Emotional Speech Set (TESS)",
    languages=("en-CA",),
    style="acted",
    license="CC BY-NC-ND 4.0",
    page="https://doi.org/10.5683/SP2/E8H2MF",
    layout="OAF_angry/OAF_back_angry.wav",
    read=read,
    speakers=2,
    label_counts=dict.fromkeys(EMOTIONS.values(), 400),
    remarks="Two speakers only, and a copy in circulation holds everything twice.",
)
