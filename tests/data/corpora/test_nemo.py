"""nEMO: the table beside the recordings, and what it says that is not so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from affekt.data.corpora import prepare
from affekt.errors import CorpusError

HEADER = "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"


def line(speaker: str, emotion: str, sentence: int, told: str = "") -> str:
    name = f"{speaker}_{emotion}_{sentence}.wav"
    return f'{name}\t{told or emotion}\t"Źle!\tźle\t        {speaker}\t{"male" if speaker == "WR0" else "female"}\t23\n'


@pytest.fixture
def root(release: Callable[..., Path]) -> Path:
    folder = release("samples/WR0_fear_1.opus", "samples/EB0_surprised_90.opus", "samples/EB0_anger_2.opus")
    (folder / "data.tsv").write_text(
        HEADER + line("WR0", "fear", 1) + line("EB0", "surprised", 90) + line("EB0", "anger", 2), encoding="utf-8"
    )
    return folder


def test_lines_match_recordings_by_their_stem_and_speakers_lose_their_spaces(root: Path) -> None:
    manifest, notes = prepare("nemo", root)
    rows = manifest.table.set_index("id")[["path", "label", "speaker", "gender", "text_id"]]
    assert rows.loc["WR0_fear_1"].tolist() == ["samples/WR0_fear_1.opus", "fearful", "nemo-WR0", "male", "1"]
    assert rows.loc["EB0_surprised_90", "text_id"] == "90"
    assert [note.what for note in notes] == ["release", "speakers"]


@pytest.mark.parametrize("level", ["..", ".", "samples"])
def test_the_root_may_be_one_level_off(root: Path, level: str) -> None:
    manifest, _ = prepare("nemo", root / level, check_audio=False)
    assert [path.is_file() for path in manifest.audio_paths()] == [True] * 3


def test_table_and_folder_are_compared(root: Path, recording: Callable[..., Path]) -> None:
    recording(root / "samples" / "KS0_sadness_5.wav")
    with (root / "data.tsv").open("a", encoding="utf-8") as table:
        table.write(line("MP0", "neutral", 7) + line("KS0", "sadness", 5, told="neutral"))
    recording(root / "samples" / "WR0_anger_3.wav")
    manifest, notes = prepare("nemo", root, check_audio=False)
    by_what = {note.what: note.items for note in notes}
    assert by_what["missing recordings"] == ("MP0_neutral_7.wav",)
    assert by_what["recordings without a line in data.tsv, left out"] == ("samples/WR0_anger_3.wav",)
    assert by_what["mislabeled, name and data.tsv disagree and the table is believed"] == (
        "KS0_sadness_5 is neutral of KS0 in data.tsv",
    )
    assert manifest.table.set_index("id")["label"]["KS0_sadness_5"] == "neutral"


def test_a_label_that_is_none_is_a_failure_with_its_line(root: Path) -> None:
    table = root / "data.tsv"
    table.write_text(table.read_text(encoding="utf-8").replace("\tanger\t", "\tbliss\t"), encoding="utf-8")
    manifest, notes = prepare("nemo", root, check_audio=False)
    [failed] = [note for note in notes if note.failed]
    assert failed.items == ("EB0_anger_2.wav bliss",)
    assert len(manifest) == 2


@pytest.mark.parametrize(
    ("content", "said"), [("file_id;emotion\na;b\n", "no column 'file_id'"), ("\xff", "can't decode")]
)
def test_a_table_that_cannot_be_read_is_said(root: Path, content: str, said: str) -> None:
    (root / "data.tsv").write_bytes(content.encode("latin-1"))
    with pytest.raises(CorpusError, match=said):
        prepare("nemo", root)


def test_without_its_table_the_release_is_not_recognized(root: Path) -> None:
    (root / "data.tsv").unlink()
    with pytest.raises(CorpusError, match=r"no data\.tsv, expected data\.tsv and samples/; the release is at http"):
        prepare("nemo", root)
