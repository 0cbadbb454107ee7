"""BanglaSER, the Javanese corpus and CREMA-D's crowd: stand-in trees in their official layouts; and real corpora."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from affekt.data.corpora import CORPORA, prepare
from affekt.data.vocabulary import canonical

Make = Callable[..., Path]


class TestBanglaser:
    def test_names_tell_everything(self, release: Make) -> None:
        root = release(
            "Actor_01/03-01-01-01-02-03-01.wav",
            "Actor_02/03-01-03-02-01-01-02.wav",
            "Actor_15/01-01-04-02-03-01-15.wav",
            "Actor_19/03-01-05-01-01-01-19.wav",
            "Actor_19/notes 3.wav",
        )
        manifest, notes = prepare("banglaser", root)
        rows = manifest.table[["label", "speaker", "gender", "text_id", "language"]].to_numpy().tolist()
        assert rows == [
            ["happy", "banglaser-01", "male", "02", "bn"],
            ["angry", "banglaser-02", "female", "01", "bn"],
            ["surprised", "banglaser-15", "male", "03", "bn"],
            ["neutral", "banglaser-19", "male", "01", "bn"],
        ]
        said = {note.what: note.items for note in notes}
        assert said["recordings that are not named or placed as the corpus does it, left out"] == (
            "Actor_19/notes 3.wav",
        )
        assert len(said["missing recordings"]) == CORPORA["banglaser"].utterances - 4
        assert "01-01-04-02-03-02-15" in said["missing recordings"]
        assert "03-01-04-02-03-02-15" not in said["missing recordings"]

    def test_ravdess_is_not_taken_for_it(self, release: Make) -> None:
        """The same scheme with other codes: emotions 06 to 08 and two statements, so the counts differ and are said."""
        manifest, notes = prepare(
            "banglaser", release("Actor_01/03-01-01-01-01-01-01.wav", "Actor_01/03-01-07-01-01-01-01.wav")
        )
        assert len(manifest) == 1
        assert any("not named or placed" in note.what for note in notes)


class TestJavanese:
    @pytest.mark.parametrize("folder", ["dataset", "01", "dataset/dataset-person-01"])
    @pytest.mark.parametrize("mark", ["_", "-"])
    def test_names_tell_everything(self, release: Make, folder: str, mark: str) -> None:
        root = release(*(f"{folder}/01-02-0{emotion}{mark}03.wav" for emotion in range(1, 7)))
        manifest, notes = prepare("javanese", root)
        assert manifest.labels == ["neutral", "sad", "happy", "surprised", "fearful", "angry"]
        assert set(manifest.table["speaker"]) == {"javanese-01"}
        assert set(manifest.table["text_id"]) == {"02"}
        assert manifest.ids[0] == "01-02-01_03"
        [missing] = [note for note in notes if note.what == "missing recordings"]
        assert len(missing.items) == 1680 - 6


class TestCrowdVotes:
    NAMES = ("1001_IEO_ANG_MD", "1001_IEO_HAP_HI", "1002_TIE_SAD_XX")

    @pytest.fixture
    def crema(self, release: Make) -> Path:
        return release(*(f"AudioWAV/{name}.wav" for name in self.NAMES))

    def test_numbers_of_listeners(self, crema: Path) -> None:
        lines = [
            '"","A","D","F","H","N","S","fileName","numResponses"',
            '"100009",5,4,0,0,1,0,"1001_IEO_ANG_MD",10',
            '"200009",0,9,0,0,0,0,"1001_IEO_ANG_MD",9',
            '"107442",1,0,0,1,2,0,"1001_IEO_HAP_HI",4',
        ]
        (crema / "processedResults").mkdir()
        (crema / "processedResults" / "tabulatedVotes.csv").write_text("\n".join(lines))
        (crema / "summaryTable.csv").write_text("of no use")
        manifest, notes = prepare("crema-d", crema)
        soft = manifest.soft_labels(["angry", "disgusted", "happy", "neutral", "sad"])
        np.testing.assert_allclose(soft, [[0.5, 0.4, 0, 0.1, 0], [0.25, 0, 0.25, 0.5, 0], [0, 0, 0, 0, 1]], atol=1e-7)
        assert str(notes[0]) == (
            "votes read: got numbers of listeners from tabulatedVotes.csv, on the voice alone, for 2 utterances"
        )

    def test_winners_share_a_tie(self, crema: Path) -> None:
        lines = [
            '"","FileName","VoiceVote","VoiceLevel","FaceVote"',
            '"9","1001_IEO_ANG_MD","A:D","37.2:58.6","A"',
            '"10","1001_IEO_HAP_HI","N","1","H"',
        ]
        (crema / "summaryTable.csv").write_text("\n".join(lines))
        manifest, notes = prepare("crema-d", crema / "AudioWAV")
        soft = manifest.soft_labels(["angry", "disgusted", "neutral", "sad"])
        np.testing.assert_allclose(soft, [[0.5, 0.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        assert "winners of the vote from summaryTable.csv" in str(notes[0])
        assert manifest.labels == ["angry", "happy", "sad"], "the intended emotion stays the label"

    def test_a_table_that_cannot_be_read_is_said_and_not_used(self, crema: Path) -> None:
        (crema / "summaryTable.csv").write_text("a,b\n1,2\n")
        manifest, notes = prepare("crema-d", crema)
        assert "votes of summaryTable.csv, not used: got no column 'FileName'" in str(notes[0])
        assert manifest.soft_labels(["angry"]) is None

    def test_without_a_table_there_are_no_votes(self, crema: Path) -> None:
        manifest, notes = prepare("crema-d", crema)
        assert manifest.soft_labels(["angry"]) is None
        assert not any("votes" in note.what for note in notes)


COUNTS = {
    "emodb": (339, 10),
    "ravdess": (1440, 24),
    "nemo": (4481, 9),
    "crema_d": (7442, 91),
    "banglaser": (1466, 34),
    "javanese": (1680, 10),
    "emovo": (588, 6),
}


@pytest.mark.parametrize("folder", COUNTS)
def test_real_corpora_give_their_counts(corpora: Path, folder: str) -> None:
    """All seven, without decoding, against the tables beside four of them."""
    manifest, notes = prepare(folder.replace("_", "-"), corpora / folder, check_audio=False)
    utterances, speakers = COUNTS[folder]
    assert len(manifest) == utterances
    assert manifest.table["speaker"].nunique() == speakers
    assert not any(note.failed for note in notes)
    metadata = corpora / folder / "metadata.csv"
    if metadata.is_file():
        with metadata.open(newline="") as file:
            wanted = {row["path"]: row for row in csv.DictReader(file)}
        rows = {row["path"]: row for row in manifest.table.to_dict("records")}
        assert set(rows) == set(wanted)
        texts = set()
        for path, row in wanted.items():
            own = rows[path]
            assert own["label"] == canonical(row["label"]), path
            assert own["speaker"].endswith(f"-{row['speaker']}"), path
            assert own["gender"] == row["gender"] or not row["gender"], path
            texts.add((row["text_id"], own["text_id"]))
        assert len(texts) == len({text for text, _ in texts}), "equal texts have equal names"


def test_real_votes_are_those_of_the_crowd(corpora: Path) -> None:
    """How often the sole winner, by voice alone, is the intended emotion: counted from the table by its compilers."""
    manifest, notes = prepare("crema-d", corpora / "crema_d", check_audio=False)
    assert any(note.what == "votes read" and "7,442 utterances" in note.got for note in notes)
    table = manifest.table
    sole = table.filter(like="votes.").sum(axis=1) == 1
    labels = ("angry", "happy", "sad", "neutral")
    heard = {label: int((sole & (table["label"] == label) & (table[f"votes.{label}"] == 1)).sum()) for label in labels}
    assert heard == {"angry": 770, "happy": 330, "sad": 209, "neutral": 1040}
