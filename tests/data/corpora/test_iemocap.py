"""IEMOCAP on a stand-in of its release, with the traps that the real one has."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from affekt.data.corpora import CORPORA, prepare
from affekt.data.corpora.release import Note
from affekt.data.labels import LABEL_SETS
from affekt.data.manifest import Manifest

FOUR = LABEL_SETS["iemocap4"]
APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X\n[6.2901 - 8.2357]\tSes01F_impro01_F000\tsad\t[1, 1, 1]\n"
JUDGEMENTS = {
    "ang": ("Anger", "Anger", "Frustration; Anger"),
    "hap": ("Happiness", "Happiness", "Excited"),
    "exc": ("Excited", "Excited; Happiness", "Surprise"),
    "neu": ("Neutral", "Neutral state", "Neutral"),
    "sad": ("Sadness", "Sadness", "Sadness"),
    "fru": ("Frustration", "Frustration", "Anger"),
    "sur": ("Surprise", "Surprise", "Neutral"),
    "fea": ("Fear", "Fear", "Other"),
    "dis": ("Disgust", "Disgust", "Anger"),
    "oth": ("Other", "Other", "Bemused"),
    "xxx": ("Anger", "Sadness", "Neutral"),
}


def summary(turns: dict[str, str]) -> str:
    """A dialogue's summary, to the letter of the real ones."""
    lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
    for number, (turn, label) in enumerate(turns.items()):
        first, second, own = JUDGEMENTS[label]
        lines += [
            f"[{6 + 3 * number}.2901 - {8 + 3 * number}.2357]\t{turn}\t{label}\t[2.5000, 2.5000, 2.5000]",
            f"C-E2:\t{first};\t()",
            f"C-E3:\t{second};\t(mildly aggravated; \u00e9nerv\u00e9)",
            f"C-{turn[5]}1:\t{own};\t()",
            "A-E3:\tval 3; act 2; dom  2;\t()",
            "A-F1:\tval 3; act 2; dom  1;\t()",
            "",
        ]
    return "\n".join(lines) + "\n"


def write_dialogue(session: Path, turns: dict[str, str]) -> None:
    """A summary and its recordings, with what lies beside them in the release."""
    dialogue = next(iter(turns)).rpartition("_")[0]
    folder = session / "dialog" / "EmoEvaluation"
    for annotators in ("Attribute", "Categorical", "Self-evaluation"):
        (folder / annotators).mkdir(parents=True, exist_ok=True)
    (folder / f"{dialogue}.txt").write_text(summary(turns), encoding="latin-1")
    (folder / f"._{dialogue}.txt").write_bytes(APPLE_DOUBLE)
    (folder / "Categorical" / f"{dialogue}_e2_cat.txt").write_text(f"{dialogue}_F000 :Anger; ()\n")
    for place in (session / "dialog" / "wav", session / "sentences" / "wav" / dialogue):
        place.mkdir(parents=True, exist_ok=True)
    (session / "dialog" / "wav" / f"{dialogue}.wav").write_bytes(b"the whole dialogue")
    (session / "sentences" / "wav" / dialogue / f"._{dialogue}_F000.wav").write_bytes(APPLE_DOUBLE)


@pytest.fixture
def root(tmp_path: Path, recording: Callable[..., Path]) -> Path:
    """Five sessions, two dialogues each, a woman and a man, all labels."""
    base = tmp_path / "IEMOCAP_full_release"
    labels = list(JUDGEMENTS)
    for number in range(1, 6):
        session = base / f"Session{number}"
        for dialogue in (f"Ses0{number}F_impro01", f"Ses0{number}M_script01_1{'b' if number == 5 else ''}"):
            turns = {f"{dialogue}_{'FM'[n % 2]}{n // 2:03}": label for n, label in enumerate(labels)}
            write_dialogue(session, turns)
            for turn in turns:
                recording(session / "sentences" / "wav" / dialogue / f"{turn}.wav", seconds=0.01)
    return base


def read(root: Path, *, check_audio: bool = False) -> tuple[Manifest, dict[str, Note]]:
    manifest, notes = prepare("iemocap", root, FOUR, check_audio)
    return manifest, {note.what: note for note in notes}


def test_summaries_give_turns_classes_sessions_and_the_ten_true_speakers(root: Path) -> None:
    manifest, notes = read(root, check_audio=True)
    table = manifest.table.set_index("id")
    assert Counter(table["label"]) == {"angry": 10, "happy": 20, "neutral": 10, "sad": 10}
    assert sorted(set(table["speaker"])) == [f"iemocap-{session}{letter}" for session in range(1, 6) for letter in "FM"]
    assert Counter(table["session"]) == {f"iemocap-{session}": 10 for session in range(1, 6)}
    assert not any(note.failed for note in notes.values())
    assert notes["label set iemocap4"].warning


def test_the_letter_of_the_turn_is_the_speaker_s_and_not_the_dialogue_s(
    tmp_path: Path, recording: Callable[..., Path]
) -> None:
    write_dialogue(tmp_path / "Session1", {"Ses01F_impro01_M002": "neu"})
    recording(tmp_path / "Session1" / "sentences" / "wav" / "Ses01F_impro01" / "Ses01F_impro01_M002.wav")
    manifest, _ = prepare("iemocap", tmp_path)
    row = manifest.table.iloc[0]
    assert (row["speaker"], row["gender"], row["session"]) == ("iemocap-1M", "male", "iemocap-1")
    assert row[["start", "end"]].isna().all(), "the recording is the turn already"


def test_scripts_have_a_text_in_common_and_improvisations_have_none(root: Path) -> None:
    table = read(root)[0].table
    scripted = table["id"].str.contains("script")
    assert set(table["style"][scripted]) == {"scripted"}
    assert set(table["style"][~scripted]) == {"improvised"}
    assert set(table["text_id"][scripted]) == {"script01_1"}, "the b of session 5 is the same section once more"
    assert set(table["text_id"][~scripted]) == {""}


def test_all_labels_are_read_and_the_label_set_chooses(root: Path) -> None:
    manifest, _ = prepare("iemocap", root, check_audio=False)
    assert Counter(manifest.labels) == dict.fromkeys(CORPORA["iemocap"].label_counts, 10)
    assert dict(zip(manifest.table["raw_label"], manifest.labels, strict=True))["xxx"] == "unknown"


def test_votes_count_every_judge_s_choices(root: Path) -> None:
    table = prepare("iemocap", root, check_audio=False)[0].table.set_index("raw_label")
    votes = table[~table.index.duplicated()].filter(like="votes.")
    chosen = {raw: {name[6:]: int(count) for name, count in row[row > 0].items()} for raw, row in votes.iterrows()}
    assert chosen["ang"] == {"angry": 3, "frustrated": 1}
    assert chosen["exc"] == {"excited": 2, "happy": 1, "surprised": 1}
    assert chosen["neu"] == {"neutral": 3}
    assert chosen["oth"] == {"other": 3}, "a word of no emotion counts as another emotion"


def test_votes_for_merged_labels_are_added_up_as_soft_labels(root: Path) -> None:
    manifest, _ = read(root)
    assert "votes.excited" not in manifest.table.columns
    soft = manifest.soft_labels(FOUR.classes)
    assert soft is not None
    by_label = dict(zip(manifest.table["raw_label"], soft.tolist(), strict=True))
    assert by_label["exc"] == [0, 1, 0, 0]
    assert by_label["ang"] == [1, 0, 0, 0]


@pytest.mark.parametrize("level", ["above", "itself", "below"])
def test_the_root_may_be_one_level_off(root: Path, level: str) -> None:
    there = {"above": root.parent, "itself": root, "below": root / "Session3"}[level]
    assert len(read(there)[0]) == 50


def test_a_lost_recording_is_missing_and_an_unlabeled_one_is_extra(root: Path, recording: Callable[..., Path]) -> None:
    folder = root / "Session2" / "sentences" / "wav" / "Ses02F_impro01"
    (folder / "Ses02F_impro01_F001.wav").rename(folder / "Ses02F_impro01_F099.wav")
    manifest, notes = read(root)
    assert notes["missing recordings"].items == ("Ses02F_impro01_F001",)
    assert notes["recordings without a label, left out"].items == (
        "Session2/sentences/wav/Ses02F_impro01/Ses02F_impro01_F099.wav",
    )
    assert len(manifest) == 49


def test_damaged_and_contradictory_summaries_are_said(root: Path) -> None:
    folder = root / "Session1" / "dialog" / "EmoEvaluation"
    (folder / "Ses01F_impro02.txt").write_text(
        "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\n"  # angry in its own summary
        "[1.0 - 2.0]\tSes01F_impro02_F000\tjoy\t[2.5, 2.5, 2.5]\n"
        "C-E2:\tNeutral;\t()\n"
        "[1.0 - 2.0]\tSes09X\n"
    )
    _, notes = read(root)
    broken = notes["lines of the summaries that cannot be read"]
    assert broken.failed
    assert len(broken.items) == 2
    assert notes["mislabeled, two summaries disagree and the first is believed"].items == (
        "Ses01F_impro01_F000 ang and neu",
    )


@pytest.fixture(scope="module")
def full_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real release's numbers per session and class; all recordings are one file."""
    root = tmp_path_factory.mktemp("iemocap")
    sound = root / "sound.wav"
    soundfile.write(sound, np.full(160, 0.1), 16_000)
    for session, counts in CORPORA["iemocap"].session_counts["iemocap4"].items():
        labels = ["ang"] * counts["angry"] + ["neu"] * counts["neutral"] + ["sad"] * counts["sad"]
        labels += ["hap"] * 119 + ["exc"] * (counts["happy"] - 119)  # 595 happy ones in five sessions
        for part in range(0, len(labels), 100):
            dialogue = f"Ses0{session}M_impro{part // 100:02}"
            turns = {f"{dialogue}_{'FM'[n % 2]}{n:03}": label for n, label in enumerate(labels[part : part + 100])}
            write_dialogue(root / f"Session{session}", turns)
            for turn in turns:
                os.link(sound, root / f"Session{session}" / "sentences" / "wav" / dialogue / f"{turn}.wav")
    return root


def test_the_usual_5531_utterances_pass_without_a_warning(full_release: Path) -> None:
    manifest, notes = read(full_release)
    assert Counter(manifest.labels) == {"angry": 1103, "happy": 1636, "neutral": 1708, "sad": 1084}
    assert list(notes) == ["release"], "no warning; that frustration and the rest are not here is a note"


def test_any_other_number_is_a_warning_with_the_difference_per_class_and_session(full_release: Path) -> None:
    summaries = full_release / "Session3" / "dialog" / "EmoEvaluation"
    lost = summaries / "Ses03M_impro00.txt"  # the first hundred turns of session 3, which are angry
    lost.rename(lost.with_suffix(".bak"))
    _, notes = read(full_release)
    lost.with_suffix(".bak").rename(lost)
    assert str(notes["label set iemocap4"]).startswith(
        "label set iemocap4: got 5431 utterances, angry 1003 (-100); session 3: all 1051 (-100), angry 140 (-100), "
        "expected 5531 (angry 1103, happy 1636, neutral 1708, sad 1084); "
    )


def test_the_published_numbers_agree_with_each_other() -> None:
    facts = CORPORA["iemocap"]
    assert facts.expected_counts(FOUR) == {"angry": 1103, "happy": 1636, "neutral": 1708, "sad": 1084}
    sessions = facts.session_counts["iemocap4"]
    assert [sum(sessions[str(number)].values()) for number in range(1, 6)] == [1085, 1023, 1151, 1031, 1241]
    over_sessions = {name: sum(counts[name] for counts in sessions.values()) for name in FOUR.classes}
    assert over_sessions == facts.expected_counts(FOUR)
    assert facts.utterances == 10_039
