"""Javanese emotional speech (2black0): ten actors say four Javanese sentences in six emotions, seven times each."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path, PurePosixPath

from affekt.data.corpora.naming import read_by_name
from affekt.data.corpora.release import Corpus, Release, Row

NAME = re.compile(r"(?P<actor>0[1-9]|10)-(?P<sentence>0[1-4])-(?P<emotion>0[1-6])[-_](?P<repetition>0[1-7])")
EMOTIONS = {"01": "neutral", "02": "sad", "03": "happy", "04": "surprised", "05": "fearful", "06": "angry"}


def read(root: Path) -> Release:
    """``dataset/04-02-06_03.wav``: actor 04, sentence 02, emotion 06, repetition 03; in any folders."""
    return read_by_name(root, NAME, _row, complete=_complete())


def _row(file: PurePosixPath, name: re.Match[str]) -> Row:
    return {
        "id": _id(name["actor"], name["sentence"], name["emotion"], name["repetition"]),
        "label": EMOTIONS[name["emotion"]],
        "raw_label": name["emotion"],
        "speaker": name["actor"],
        "text_id": name["sentence"],
    }


def _complete() -> list[str]:
    """Names of the whole corpus."""
    parts = (range(1, 11), range(1, 5), range(1, 7), range(1, 8))
    return [_id(*(f"{number:02}" for number in numbers)) for numbers in product(*parts)]


def _id(actor: str, sentence: str, emotion: str, repetition: str) -> str:
    """The recordings are named so; the release's description has a hyphen before the repetition."""
    return f"{actor}-{sentence}-{emotion}_{repetition}"


CORPUS = Corpus(
    name="javanese",
    title="Javanese emotional speech (2black0)",
    languages=("jv",),
    style="acted",
    license="MIT",
    page="https://github.com/2black0/sound-emotion-recognition-javanese",
    layout="dataset/01-01-01_01.wav",
    read=read,
    speakers=10,
    label_counts={"neutral": 280, "sad": 280, "happy": 280, "surprised": 280, "fearful": 280, "angry": 280},
    remarks="The release has a zip file per actor, to be unpacked. The actors' genders are not stated.",
)
