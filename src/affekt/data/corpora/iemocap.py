"""IEMOCAP: five pairs of actors in dialogues, improvised and from scripts, judged turn by turn by several people.

A turn is read from its dialogue's summary (``Session1/dialog/EmoEvaluation/Ses01F_impro01.txt``)::

    [6.2901 - 8.2357]	Ses01F_impro01_F000	neu	[2.5000, 2.5000, 2.5000]
    C-E2:	Neutral;	()
    C-F1:	Neutral; Surprise;	(curious)

and its sound from ``Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav``, which holds the turn alone: the
times are those in the dialogue, and no part of the manifest.

*Speakers.* The letter before the turn's number is the speaker's, the one after the session's number belongs to the
dialogue (it tells who wore the markers): ``Ses01F_impro01_M002`` is spoken by the man of session 1, ``iemocap-1M``.

*Texts.* Every session performs the same scripts, so what is said in ``script01_1`` is the same in all of them, up to
slips of the tongue: the script's section is the `text_id` of its turns (``script01_1b`` is section 01_1 once more).
Improvised turns have no text of their own before they are spoken, so theirs is empty. An audit of texts thus says
whether a script was heard in training; that two improvisations both hold a "yeah" does not count.

*Votes.* Each judge may choose several emotions, each counts once. The actors' own judgments (C-F, C-M) count as the
others' do (C-E).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from affekt.data.corpora.files import AudioFiles, branches, find, stem_key
from affekt.data.corpora.release import Corpus, Note, Release, Row, noted
from affekt.data.manifest import VOTES_PREFIX
from affekt.data.vocabulary import canonical

FOLDER = re.compile(r"Session[1-5]", re.IGNORECASE)
HEADER = re.compile(r"\[\s*[\d.]+\s*-\s*[\d.]+\s*\]\s+(?P<turn>\S+)\s+(?P<label>\S+)\s+\[.*")
JUDGEMENT = re.compile(r"C-[EFM]\w*:(?P<emotions>[^(]*)")
TURN = re.compile(
    r"Ses0(?P<session>[1-5])[FM]_(?P<kind>impro|script)(?P<scene>\d\d(?:_\d)?)\w*?_(?P<speaker>[FM])\w+", re.IGNORECASE
)
EMOTIONS = {
    "ang": "angry",
    "hap": "happy",
    "exc": "excited",
    "neu": "neutral",
    "sad": "sad",
    "fru": "frustrated",
    "sur": "surprised",
    "fea": "fearful",
    "dis": "disgusted",
    "oth": "other",
    "xxx": "unknown",
}


@dataclass
class DialogTurns:
    """The turns in the summaries of a release.

    Attributes:
        rows: turn -> row, without its path.
        votes: turn -> emotions chosen.
        faults: lines that could not be read.
        repeated: turns with a second, different label.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    votes: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)


def read(root: Path) -> Release:
    """The release's folder with ``Session1`` to ``Session5`` in it, or the folder above, or one of the sessions."""
    base, sessions = branches(root, FOLDER)
    turns = DialogTurns()
    for session in sessions:
        for summary in _summaries(session):
            _read_summary(summary, turns)
    found = find(base, [wavs if (wavs := session / "sentences" / "wav").is_dir() else session for session in sessions])
    files = found.by_stem()
    rows = [
        row | {"path": str(files[stem_key(turn)])} | _vote_columns(turns, turn)
        for turn, row in turns.rows.items()
        if stem_key(turn) in files
    ]
    return Release(rows, base, _notes(turns, found))


def _summaries(session: Path) -> list[Path]:
    """The dialogues' summaries; the annotators' own folders lie beside them, AppleDouble files among them."""
    folder = session / "dialog" / "EmoEvaluation"
    return sorted(
        path
        for path in folder.glob("*")
        if path.suffix.lower() == ".txt" and path.name.lower().startswith("ses") and path.is_file()
    )


def _read_summary(summary: Path, turns: DialogTurns) -> None:
    try:
        lines = summary.read_text(encoding="latin-1").splitlines()
    except OSError as error:
        turns.faults.append(f"{summary.name}: {error.strerror}")
        return
    turn = ""
    for line in lines:
        if line.startswith("["):
            turn = _read_header(line, turns) or ""
            if not turn:
                turns.faults.append(f"{summary.name}: {line[:60]}")
        elif turn and (judgment := JUDGEMENT.match(line)):
            turns.votes.setdefault(turn, Counter()).update(_emotions(judgment["emotions"]))


def _read_header(line: str, turns: DialogTurns) -> str | None:
    """Enter the turn of a header line; None if the line is not understood."""
    header = HEADER.fullmatch(line.strip())
    name = TURN.fullmatch(header["turn"]) if header else None
    if header is None or name is None or header["label"] not in EMOTIONS:
        return None
    turn = header["turn"]
    row = _row(turn, header["label"], name)
    if turns.rows.setdefault(turn, row)["label"] != row["label"]:
        turns.repeated.append(f"{turn} {turns.rows[turn]['raw_label']} and {row['raw_label']}")
    return turn


def _row(turn: str, label: str, name: re.Match[str]) -> Row:
    letter, scripted = name["speaker"].upper(), name["kind"].lower() == "script"
    return {
        "id": turn,
        "label": EMOTIONS[label],
        "raw_label": label,
        "speaker": f"{name['session']}{letter}",
        "session": name["session"],
        "gender": "female" if letter == "F" else "male",
        "text_id": f"script{name['scene']}" if scripted else "",
        "style": "scripted" if scripted else "improvised",
    }


def _emotions(chosen: str) -> Iterator[str]:
    """Canonical labels of one judge's words; a word that is none of them counts as another emotion."""
    words = {word.strip() for word in chosen.split(";")} - {""}
    yield from {canonical(word) or "other" for word in words}


def _vote_columns(turns: DialogTurns, turn: str) -> Row:
    """Counts of judges by emotion; nothing if no turn of the release has a judgment."""
    if not turns.votes:
        return {}
    votes = turns.votes.get(turn, Counter[str]())
    return {f"{VOTES_PREFIX}{label}": votes[label] for label in sorted(set(EMOTIONS.values()) - {"unknown"})}


def _notes(turns: DialogTurns, found: AudioFiles) -> list[Note]:
    files = found.by_stem()
    known = {stem_key(turn) for turn in turns.rows}
    return [
        *found.notes,
        *noted("missing recordings", (turn for turn in turns.rows if stem_key(turn) not in files)),
        *noted("recordings without a label, left out", (str(file) for key, file in files.items() if key not in known)),
        *noted("lines of the summaries that cannot be read", turns.faults, failed=True),
        *noted("mislabeled, two summaries disagree and the first is believed", turns.repeated),
    ]


def _by_session(angry: int, happy: int, neutral: int, sad: int) -> dict[str, int]:
    return {"angry": angry, "happy": happy, "neutral": neutral, "sad": sad}


CORPUS = Corpus(
    name="iemocap",
    title="Interactive Emotional Dyadic Motion Capture database (IEMOCAP)",
    languages=("en-US",),
    style="",
    license="research only, by a signed license; not to be passed on",
    page="https://sail.usc.edu/iemocap/",
    layout="Session1/dialog/EmoEvaluation/Ses01F_impro01.txt and Session1/sentences/wav/Ses01F_impro01/*.wav",
    read=read,
    speakers=10,
    label_counts={
        "angry": 1103,
        "happy": 595,
        "excited": 1041,
        "neutral": 1708,
        "sad": 1084,
        "frustrated": 1849,
        "surprised": 107,
        "fearful": 40,
        "disgusted": 2,
        "other": 3,
        "unknown": 2507,
    },
    session_counts={
        "iemocap4": {
            "1": _by_session(229, 278, 384, 194),
            "2": _by_session(137, 327, 362, 197),
            "3": _by_session(240, 286, 320, 305),
            "4": _by_session(327, 303, 258, 143),
            "5": _by_session(170, 442, 384, 245),
        }
    },
    remarks="The usual four classes (iemocap4) merge excited into happy: 5531 turns, 2943 of them improvised.",
)
