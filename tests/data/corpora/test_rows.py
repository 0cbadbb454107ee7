"""A row of a table is its own file, its own label and its own time; what is wrong is said once."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from affekt.cli import main
from affekt.data.corpora import prepare
from affekt.data.labels import LabelSet
from affekt.data.manifest import Manifest
from affekt.errors import AffektError, CorpusError

Make = Callable[..., Path]


def table(root: Path, *lines: str, name: str = "table.csv") -> Path:
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / name


def said(notes: list[Any]) -> dict[str, tuple[str, ...]]:
    return {note.what: note.items for note in notes}


class TestOwnFile:
    def test_a_missing_row_does_not_get_the_file_of_another_row(self, release: Make) -> None:
        root = release("train/dia1_utt7.wav")
        manifest, notes = prepare(
            "table", table(root, "path,label,speaker", "train/dia1_utt7.wav,angry,A", "dev/dia1_utt7.wav,sad,B")
        )
        assert manifest.table[["label", "speaker"]].to_numpy().tolist() == [["angry", "table-A"]]
        [missing] = [note for note in notes if note.failed]
        assert missing.items == ("dev/dia1_utt7.wav",)

    def test_the_only_recording_of_a_name_is_used_and_said(self, release: Make) -> None:
        root = release("train/a.wav", "train/b.wav")
        manifest, notes = prepare("table", table(root, "path,label", "dev/a.wav,sad", "train/b.wav,calm"))
        assert manifest.table["path"].tolist() == ["train/a.wav", "train/b.wav"]
        assert said(notes)["paths that are not there, the only recording of that name is used"] == (
            "dev/a.wav is train/a.wav",
        )
        assert not any(note.failed for note in notes)

    def test_no_file_answers_two_rows(self, release: Make) -> None:
        root = release("wav/a.wav")
        with pytest.raises(CorpusError, match=r"missing recordings: 2 \(train/a.wav, dev/a.wav\)"):
            prepare("table", table(root, "path,label", "train/a.wav,sad", "dev/a.wav,calm"))

    def test_one_path_in_several_rows_is_one_claim(self, release: Make) -> None:
        root = release("wav/a.flac")
        lines = ["path,label,start,end", "wav/a.wav,sad,0,0.02", "wav/a.wav,calm,0.02,0.04"]
        manifest, notes = prepare("table", table(root, *lines))
        assert manifest.table["path"].tolist() == ["wav/a.flac"] * 2
        assert said(notes)["paths that are there under another suffix or spelling"] == ("wav/a.wav is wav/a.flac",)

    def test_two_candidates_are_none(self, release: Make) -> None:
        root = release("a.flac", "a.ogg", "b.wav")
        manifest, notes = prepare("table", table(root, "path,label", "a.wav,sad", "b.wav,calm"))
        assert manifest.ids == ["b"]
        assert said(notes)["missing recordings"] == ("a.wav",)

    @pytest.mark.parametrize("extra", [True, False])
    def test_a_film_is_answered_by_the_sound_beside_it(
        self, release: Make, extra: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("affekt.audio.containers.available", lambda: extra)
        root = release("clips/dia0.wav", "elsewhere/dia1.wav")
        for name in ("clips/dia0.mp4", "clips/dia1.mp4"):
            (root / name).write_bytes(b"\0\0\0\x18ftypmp42" + bytes(64))
        manifest, notes = prepare(
            "table", table(root, "file,emotion", "clips/dia0.mp4,neutral", "clips/dia1.mp4,neutral")
        )
        assert manifest.table["path"].tolist() == ["clips/dia0.wav"]
        [films] = [note for note in notes if "films" in note.what]
        assert films.items == ("clips/dia0.mp4 is clips/dia0.wav",)
        [failed] = [note for note in notes if note.failed]
        assert len(failed.items) == 1, "a recording in another folder is not the sound of a film that is there"
        assert failed.items[0].startswith("clips/dia1.mp4")

    @pytest.mark.usefixtures("without_containers")
    def test_a_film_does_not_take_the_recording_of_another_row(self, release: Make) -> None:
        root = release("a.wav")
        (root / "a.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(64))
        manifest, notes = prepare("table", table(root, "path,label,speaker", "a.mp4,sad,x", "a.wav,calm,y"))
        assert manifest.table[["path", "label"]].to_numpy().tolist() == [["a.wav", "calm"]]
        [failed] = [note for note in notes if note.failed]
        assert failed.items[0].startswith("a.mp4: ")

    def test_a_path_that_no_system_takes_is_missing(self, release: Make) -> None:
        manifest, notes = prepare("table", table(release("a.wav"), "path,label", "a.wav,sad", f"{'x' * 5_000}.wav,sad"))
        assert manifest.ids == ["a"]
        assert len(said(notes)["missing recordings"]) == 1

    def test_a_manifest_of_version_0_1_is_read_where_it_says(self, release: Make, tmp_path: Path) -> None:
        release("wav/a.wav", "other/a.wav")
        (tmp_path / "lists").mkdir()
        old = table(tmp_path / "lists", "# root: ../release", "id,path,label", "u,wav/a.wav,sad")
        manifest, notes = prepare("table", old)
        assert [path.relative_to(tmp_path) for path in manifest.audio_paths()] == [Path("release/wav/a.wav")]
        assert len(notes) == 1


class TestOneFileTwice:
    def test_labels_and_speakers_that_contradict_each_other_are_said(self, release: Make) -> None:
        root = release("a.wav", "b.wav", "c.wav")
        rows = [
            "a.wav,happy,x",
            "a.wav,sad,x",
            "a.wav,happy,x",
            "b.wav,sad,x",
            "b.wav,sad,y",
            "c.wav,sad,x",
            "c.wav,sad,x",
        ]
        manifest, notes = prepare("table", table(root, "path,label,speaker", *rows))
        assert len(manifest) == 7
        found = said(notes)
        assert found["one recording under different labels"] == ("a.wav is happy 2 times, sad",)
        assert found["one recording under different speakers"] == ("b.wav is of table-x, table-y",)
        assert found["recordings that are listed more than once"] == ("b.wav 2 times", "c.wav 2 times")
        assert [note.what for note in notes if note.warning] == [
            "one recording under different labels",
            "one recording under different speakers",
        ]

    def test_parts_of_one_file_are_no_repetition(self, release: Make) -> None:
        lines = ["path,label,start,end", "a.wav,happy,0,0.02", "a.wav,sad,0.02,0.04", "a.wav,sad,0.02,0.04"]
        _, notes = prepare("table", table(release("a.wav"), *lines))
        assert said(notes)["recordings that are listed more than once"] == ("a.wav from 0.02 s to 0.04 s 2 times",)
        assert "one recording under different labels" not in said(notes)

    def test_other_spellings_of_a_path_are_the_same_path(self, release: Make) -> None:
        _, notes = prepare("table", table(release("w/a.wav"), "path,label", "w/a.wav,happy", "./w/../w/a.wav,sad"))
        assert said(notes)["one recording under different labels"] == ("w/a.wav is happy, sad",)


class TestTimes:
    def test_times_as_people_write_them(self, release: Make) -> None:
        lines = [
            "file;start;end;emotion",
            "a.wav;0,01;0,02;joy",
            "a.wav;0 days 00:00:00.020000;0 days 00:00:00.030000;anger",
            "a.wav;0:00.03;40ms;sad",
            "a.wav;NaT;;calm",
        ]
        manifest, _ = prepare("table", table(release("a.wav"), *lines))
        np.testing.assert_allclose(manifest.table["start"], [0.01, 0.02, 0.03, np.nan])
        np.testing.assert_allclose(manifest.table["end"], [0.02, 0.03, 0.04, np.nan])

    def test_what_pandas_writes_is_read_back(self, release: Make) -> None:
        root = release("a.wav")
        frame = pd.DataFrame({"file": ["a.wav"] * 2, "emotion": ["joy", "fear"]})
        frame["start"], frame["end"] = pd.to_timedelta([0, 0.02], unit="s"), pd.to_timedelta([0.02, None], unit="s")
        frame.to_csv(root / "t.csv", index=False)
        manifest, _ = prepare("table", root / "t.csv")
        np.testing.assert_array_equal(manifest.table["start"], [0, 0.02])
        np.testing.assert_array_equal(manifest.table["end"], [0.02, np.nan])

    @pytest.mark.parametrize(
        ("start", "end", "fault"),
        [
            ("soon", "1", "row 3: start: got 'soon', expected seconds"),
            ("-1", "1", "row 3: start: got '-1', expected seconds"),
            ("0:01", "0.5", "row 3: end: got '0.5', expected a time after the start"),
        ],
    )
    def test_a_row_that_cannot_be_read_is_named_as_the_table_counts(
        self, release: Make, capsys: pytest.CaptureFixture[str], start: str, end: str, fault: str
    ) -> None:
        root = release("a.wav")
        mine = table(root, "path,label,start,end", "gone.wav,sad,,", f"a.wav,sad,{start},{end}")
        assert main(["prepare", "table", str(mine), "-o", str(root / "m.csv")]) == 2
        error = capsys.readouterr().err
        assert fault in error
        assert len(error.splitlines()) == 1
        assert not (root / "m.csv").exists()


class TestLabels:
    def test_rows_without_a_label_are_left_out_and_said_once(
        self, release: Make, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = release("a.wav")
        mine = table(root, "path,label", *["a.wav,"] * 5_000, "a.wav,nan", "a.wav,sad")
        assert main(["prepare", "table", str(mine), "-o", str(root / "m.csv")]) == 0
        out, error = capsys.readouterr()
        assert error == ""
        assert "note: rows without a label, left out: 5,001 (2, 3, 4 and 4,998 more)" in out
        assert Manifest.read(root / "m.csv").labels == ["sad"]

    def test_a_table_without_any_label_is_refused_in_few_lines(
        self, release: Make, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = release("a.wav")
        assert (
            main(["prepare", "table", str(table(root, "path,label", *["a.wav,"] * 999)), "-o", str(root / "m.csv")])
            == 2
        )
        error = capsys.readouterr().err
        assert "rows without a label, left out: 999 (2, 3, 4 and 996 more)" in error
        assert len(error.splitlines()) <= 4

    @pytest.mark.parametrize(
        ("cells", "reason"),
        [
            (["0.4", "0.1", "0.4", "0.1"], r"column 'arousal': got numbers \(0.4, 0.1\), expected classes"),
            (["1", "5", "1", "5"], "got numbers"),
            (["I am here", "no", "what", "yes"], r"4 different labels in 4 rows \(I am here, no, what \.\.\.\)"),
        ],
    )
    def test_columns_that_are_no_classes_are_refused_with_the_reason(
        self, release: Make, cells: list[str], reason: str
    ) -> None:
        root = release(*(f"{n}.wav" for n in range(len(cells))))
        mine = table(root, "path,arousal", *(f"{n}.wav,{cell}" for n, cell in enumerate(cells)))
        with pytest.raises(AffektError, match=reason):
            prepare("table", mine, columns={"label": "arousal"})

    @pytest.mark.parametrize("cells", [["0", "1", "1", "0"], ["1", "2", "3"] * 2, ["angry", "happy", "neutral", "sad"]])
    def test_codes_of_classes_and_single_emotions_are_classes(self, release: Make, cells: list[str]) -> None:
        root = release(*(f"{n}.wav" for n in range(len(cells))))
        manifest, _ = prepare("table", table(root, "path,label", *(f"{n}.wav,{cell}" for n, cell in enumerate(cells))))
        assert manifest.labels == cells

    def test_a_label_set_that_names_the_numbers_is_obeyed(self, release: Make) -> None:
        root = release("a.wav", "b.wav")
        chosen = LabelSet("levels", {"low": ("0.5",), "high": ("1.5",)})
        manifest, _ = prepare("table", table(root, "path,label", "a.wav,0.5", "b.wav,1.5"), chosen)
        assert manifest.labels == ["low", "high"]


class TestArchives:
    @pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "x.tar", "renamed.dat"])
    @pytest.mark.parametrize("corpus", ["ravdess", "table", "folders"])
    def test_an_archive_is_called_one(self, tmp_path: Path, name: str, corpus: str) -> None:
        path = tmp_path / name
        if ".tar" in name:
            with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as archive:
                archive.addfile(tarfile.TarInfo("a.wav"), io.BytesIO())
        else:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("a.wav", b"")
        with pytest.raises(CorpusError, match="got an archive; unpack it first") as error:
            prepare(corpus, path)
        assert len(error.value.faults) == 1

    def test_archives_in_a_folder_without_recordings_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "AudioWAV.zip").write_bytes(b"PK\3\4")
        with pytest.raises(CorpusError, match=r"archives: 1 \(AudioWAV.zip\); unpack them first"):
            prepare("crema-d", tmp_path)


class TestNothingIsOverwritten:
    def test_the_table_that_is_read_is_not_written(self, release: Make, capsys: pytest.CaptureFixture[str]) -> None:
        root = release("a.wav")
        mine = table(root, "path,label,notes", "a.wav,sad,hours of work")
        before = mine.read_bytes()
        (root / "link.csv").symlink_to(mine)
        for output in (mine, root / "link.csv"):
            assert main(["prepare", "table", str(mine), "-o", str(output)]) == 2
            assert "would be overwritten" in capsys.readouterr().err
        assert mine.read_bytes() == before

    def test_a_table_of_the_release_is_not_written(self, release: Make, capsys: pytest.CaptureFixture[str]) -> None:
        root = release("AudioWAV/1001_DFA_ANG_XX.wav")
        votes = table(root, "a,b", "1,2", name="summaryTable.csv")
        before = votes.read_bytes()
        assert main(["prepare", "crema-d", str(root), "-o", str(votes)]) == 2
        assert "a file of the corpus" in capsys.readouterr().err
        assert votes.read_bytes() == before

    def test_an_earlier_manifest_is_written_if_forced(self, release: Make, capsys: pytest.CaptureFixture[str]) -> None:
        root = release("AudioWAV/1001_DFA_ANG_XX.wav")
        words = ["prepare", "crema-d", str(root), "-o", str(root / "m.csv")]
        assert main(words) == 0
        table(root, "# root: .", *(root / "m.csv").read_text().splitlines(), name="m.csv")
        corrected = (root / "m.csv").read_bytes()
        assert main(words) == 2
        assert "m.csv: got an existing file, expected a new one; choose another name" in capsys.readouterr().err
        assert (root / "m.csv").read_bytes() == corrected
        assert main([*words, "--force"]) == 0
        assert (root / "m.csv").read_bytes() != corrected
