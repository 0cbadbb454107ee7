"""CREMA-D: 91 actors say twelve English sentences in six emotions."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from affekt.data.corpora.crowd_votes import add_votes
from affekt.data.corpora.naming import read_by_name
from affekt.data.corpora.release import Corpus, Release, Row

FOLDER = re.compile(r"AudioWAV", re.IGNORECASE)
NAME = re.compile(r"(?P<actor>1\d{3})_(?P<text>[A-Z]{3})_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(?P<level>LO|MD|HI|XX?)")
EMOTIONS = {"ANG": "angry", "DIS": "disgusted", "FEA": "fearful", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
FEMALE = {  # VideoDemographics.csv
    *(1002, 1003, 1004, 1006, 1007, 1008, 1009, 1010, 1012, 1013, 1018, 1020, 1021, 1024, 1025, 1028, 1029, 1030),
    *(1037, 1043, 1046, 1047, 1049, 1052, 1053, 1054, 1055, 1056, 1058, 1060, 1061, 1063, 1072, 1073, 1074, 1075),
    *(1076, 1078, 1079, 1082, 1084, 1089, 1091),
}


def read(root: Path) -> Release:
    """``AudioWAV/1001_DFA_ANG_XX.wav``: actor, sentence, emotion, intensity; and the votes of the crowd."""
    release = read_by_name(root, NAME, _row, FOLDER)
    folders = [release.root / "processedResults", release.root, *release.root.glob("data/*/processedResults")]
    return replace(release, notes=[*add_votes(release.rows, folders), *release.notes])


def _row(file: PurePosixPath, name: re.Match[str]) -> Row:
    return {
        "label": EMOTIONS[name["emotion"]],
        "raw_label": name["emotion"],
        "speaker": name["actor"],
        "gender": "female" if int(name["actor"]) in FEMALE else "male",
        "text_id": name["text"],
    }


CORPUS = Corpus(
    name="crema-d",
    title="Crowd-sourced Emotional Multimodal Actors Dataset (CREMA-D)",
    languages=("en-US",),
    style="acted",
    license="ODbL-1.0 (content: DbCL-1.0)",
    page="https://github.com/CheyneyComputerScience/CREMA-D",
    layout="AudioWAV/1001_DFA_ANG_XX.wav",
    read=read,
    speakers=91,
    label_counts={"angry": 1271, "disgusted": 1271, "fearful": 1271, "happy": 1271, "neutral": 1087, "sad": 1271},
    remarks="1076_MTI_SAD_XX is silent. A clone without Git LFS holds pointers instead of sound.",
)
