"""BanglaSER: 34 laypersons say three Bangla sentences in five emotions, recorded at home."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path, PurePosixPath

from affekt.data.corpora.naming import read_by_name
from affekt.data.corpora.release import Corpus, Release, Row

FOLDER = re.compile(r"Actor_\d\d", re.IGNORECASE)
NAME = re.compile(
    r"0[1-3]-01-(?P<emotion>0[1-5])-(?P<intensity>0[12])-(?P<statement>0[1-3])-(?P<repetition>0[1-3])-(?P<actor>\d\d)"
)
"""RAVDESS's scheme with emotion codes of its own. Three recordings of actor 15 have mode 01 (03 is audio only)."""
EMOTIONS = {"01": "happy", "02": "sad", "03": "angry", "04": "surprised", "05": "neutral"}
STRONG = ("03", "04")
"""Emotions with intensity 02; the others have 01."""
WITHOUT_NEUTRAL = frozenset({11, 12, 13, 16, 18, 20, 29})
"""Actors who recorded no neutral sentences."""
MISNAMED = {f"03-01-04-02-03-{repetition}-15" for repetition in ("01", "02", "03")}
"""Recordings that the release names with mode 01."""


def read(root: Path) -> Release:
    """``Actor_07/03-01-02-01-03-01-07.wav``: emotion 02, intensity 01, sentence 03, repetition 01, actor 07."""
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
    """Names of the whole release."""
    one_to_three = ("01", "02", "03")
    names = [
        f"03-01-{emotion}-{'02' if emotion in STRONG else '01'}-{statement}-{repetition}-{actor:02}"
        for actor, emotion in product(range(1, 35), EMOTIONS)
        for statement, repetition in product(one_to_three, one_to_three)
        if not (EMOTIONS[emotion] == "neutral" and actor in WITHOUT_NEUTRAL)
    ]
    return [f"01{name[2:]}" if name in MISNAMED else name for name in names]


CORPUS = Corpus(
    name="banglaser",
    title="BanglaSER, a speech emotion recognition dataset for the Bangla language",
    languages=("bn",),
    style="acted",
    license="CC BY 4.0",
    page="https://doi.org/10.17632/t9h6p943xy",
    layout="Actor_01/03-01-01-01-01-01-01.wav",
    read=read,
    speakers=34,
    label_counts={"happy": 306, "sad": 306, "angry": 306, "surprised": 306, "neutral": 243},
    remarks="Laypersons with their own phones and laptops. Seven actors recorded nothing neutral.",
)
