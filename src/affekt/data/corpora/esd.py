"""ESD: ten Mandarin and ten English speakers say the same 350 sentences (per language) in five emotions."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from affekt.data.corpora.naming import read_by_name
from affekt.data.corpora.release import Corpus, Release, Row

FOLDER = re.compile(r"00(0[1-9]|1\d|20)")
NAME = re.compile(r"(?P<speaker>00(?:0[1-9]|1\d|20))_(?P<number>\d{6})")
EMOTIONS = ("neutral", "angry", "happy", "sad", "surprised")
SENTENCES = 350
FEMALE = {"0001", "0002", "0003", "0007", "0009", "0015", "0016", "0017", "0018", "0019"}
LAST_MANDARIN_SPEAKER = 10


def read(root: Path) -> Release:
    """``0011/Angry/0011_000351.wav``: speaker and number; each emotion has 350 numbers, in the order of `EMOTIONS`."""
    complete = [
        f"{speaker:04}_{number:06}" for speaker in range(1, 21) for number in range(1, len(EMOTIONS) * SENTENCES + 1)
    ]
    return read_by_name(root, NAME, _row, FOLDER, complete=complete)


def _row(file: PurePosixPath, name: re.Match[str]) -> Row | None:
    emotion, sentence = divmod(int(name["number"]) - 1, SENTENCES)
    if not 0 <= emotion < len(EMOTIONS):
        return None
    language = "zh" if int(name["speaker"]) <= LAST_MANDARIN_SPEAKER else "en"
    return {
        "label": EMOTIONS[emotion],
        "raw_label": name["number"],
        "speaker": name["speaker"],
        "gender": "female" if name["speaker"] in FEMALE else "male",
        "text_id": f"{language}-{sentence + 1:03}",
        "language": language,
    }


CORPUS = Corpus(
    name="esd",
    title="Emotional Speech Dataset (ESD)",
    languages=("zh", "en"),
    style="acted",
    license="research only, by a signed license",
    page="https://hltsingapore.github.io/ESD/",
    layout="0011/Angry/0011_000351.wav",
    read=read,
    speakers=20,
    label_counts=dict.fromkeys(EMOTIONS, 20 * SENTENCES),
)
