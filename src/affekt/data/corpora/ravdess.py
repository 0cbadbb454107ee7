"""RAVDESS, its speech part: 24 actors say two English sentences in eight emotions and two intensities."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path, PurePosixPath

from affekt.data.corpora.naming import read_by_name
from affekt.data.corpora.release import Corpus, Release, Row

FOLDER = re.compile(r"Actor_\d\d", re.IGNORECASE)
NAME = re.compile(
    r"03-01-(?P<emotion>0[1-8])-(?P<intensity>0[12])-(?P<statement>0[12])-(?P<repetition>0[12])-(?P<actor>\d\d)"
)
"""Audio only (03) and speech (01); films have 01 or 02 first, songs 02 second."""
EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgusted",
    "08": "surprised",
}


def read(root: Path) -> Release:
    """``Actor_07/03-01-04-01-02-01-07.wav``: emotion 04, intensity 01, sentence 02, repetition 01, actor 07."""
    return read_by_name(root, NAME, _row, FOLDER, complete=_complete())


def _row(file: PurePosixPath, name: re.Match[str]) -> Row:
    return {
        "label": EMOTIONS[name["emotion"]],
        "raw_label": name["emotion"],
        "speaker": name["actor"],
        "gender": "male" if int(name["actor"]) % 2 else "female",
        "text_id": name["statement"],
    }


def _complete() -> list[str]:
    """Names of the whole speech part; neutral has no strong intensity (02)."""
    one_or_two = ("01", "02")
    return [
        f"03-01-{emotion}-{intensity}-{statement}-{repetition}-{actor:02}"
        for actor, emotion, intensity in product(range(1, 25), EMOTIONS, one_or_two)
        for statement, repetition in product(one_or_two, one_or_two)
        if (emotion, intensity) != ("01", "02")
    ]


CORPUS = Corpus(
    name="ravdess",
    title="Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS), speech, audio only",
    languages=("en",),
    style="acted",
    license="CC BY-NC-SA 4.0",
    page="https://doi.org/10.5281/zenodo.1188976",
    layout="Actor_01/03-01-01-01-01-01-01.wav",
    read=read,
    speakers=24,
    label_counts={"neutral": 96} | {label: 192 for label in EMOTIONS.values() if label != "neutral"},
    remarks="Calm is a label of its own, not neutral. Two recordings of actor 7 are byte for byte the same.",
)
