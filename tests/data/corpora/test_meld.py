"""MELD: three tables, three folders with the same names in each, and films that must become sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from affekt.data.corpora import prepare
from affekt.errors import CorpusError

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
FOLDERS = {"train": "mirror_of_test/train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}


def line(utterance: str, speaker: str, emotion: str, dialogue: int, number: int) -> str:
    return f'1,"{utterance}",{speaker},{emotion},neutral,{dialogue},{number},8,21,"00:16:16,059","00:16:21,731"\n'


@pytest.fixture
def root(release: Callable[..., Path]) -> Path:
    """The same name in all three parts, and an utterance more in the test part."""
    folder = release(*(f"{place}/dia0_utt0.wav" for place in FOLDERS.values()), f"{FOLDERS['test']}/dia0_utt1.wav")
    tables = {"train": "mirror_of_test/train_sent_emo.csv", "dev": "dev_sent_emo.csv", "test": "test_sent_emo.csv"}
    for part, table in tables.items():
        text = HEADER + line(f"Oh, my {part}!", "Chandler", "joy", 0, 0)
        (folder / table).write_bytes(text.encode())
    with (folder / "test_sent_emo.csv").open("ab") as table:
        table.write(line("Why\x92s that?", "Joey's Date", "surprise", 0, 1).encode("cp1252", "replace"))
    return folder


def test_parts_keep_their_utterances_apart(root: Path) -> None:
    manifest, notes = prepare("meld", root)
    rows = manifest.table.set_index("id")
    assert sorted(rows.index) == ["dev-dia0_utt0", "test-dia0_utt0", "test-dia0_utt1", "train-dia0_utt0"]
    row = rows.loc["train-dia0_utt0"]
    assert (row["label"], row["speaker"], row["gender"]) == ("happy", "meld-Chandler", "male")
    assert (row["session"], row["text_id"]) == ("meld-train-dia0", "oh my train")
    assert rows.loc["test-dia0_utt1", "gender"] == ""
    assert all(path.is_file() for path in manifest.audio_paths())
    assert not any(note.failed for note in notes)


@pytest.mark.usefixtures("without_containers")
def test_films_missing_recordings_and_extra_ones_are_said(root: Path) -> None:
    folder = root / FOLDERS["test"]
    (folder / "dia0_utt1.wav").rename(folder / "dia0_utt1.mp4")
    (root / FOLDERS["dev"] / "dia0_utt0.wav").rename(root / FOLDERS["dev"] / "final_videos_testdia0_utt0.wav")
    (root / "mirror_of_test" / "train_sent_emo.csv").unlink()
    manifest, notes = prepare("meld", root)
    said = {note.what: note.items for note in notes}
    assert manifest.ids == ["test-dia0_utt0"]
    assert said["films whose sound is not extracted"] == ("test-dia0_utt1",)
    assert said["missing recordings"] == ("dev-dia0_utt0",)
    assert said["missing tables"] == ("train_sent_emo.csv",)
    assert len(said["recordings without a line in a table, left out"]) == 2
    assert [note.what for note in notes if note.failed] == ["films whose sound is not extracted"]


@pytest.mark.usefixtures("without_containers")
def test_a_release_of_films_alone_says_how_to_go_on(root: Path) -> None:
    for recording in root.rglob("*.wav"):
        recording.rename(recording.with_suffix(".mp4"))
    with pytest.raises(
        CorpusError, match=r"films whose sound is not extracted: 4 .*; pip install .*, or extract .*ffmpeg"
    ):
        prepare("meld", root)


def test_unknown_emotions_and_broken_tables_are_said(root: Path) -> None:
    table = root / "dev_sent_emo.csv"
    table.write_text(table.read_text().replace("joy", "glee"))
    _, notes = prepare("meld", root, check_audio=False)
    assert [note.items for note in notes if note.failed] == [("dev-dia0_utt0 glee",)]
    table.write_text("a,b\n1,2\n")
    with pytest.raises(CorpusError, match="no column 'Utterance'"):
        prepare("meld", root)
