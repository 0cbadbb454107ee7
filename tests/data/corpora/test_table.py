"""Own corpora: tables, folders and audformat databases."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from affekt.data.corpora import prepare
from affekt.data.labels import LabelSet
from affekt.data.manifest import Manifest
from affekt.errors import AffektError, ConfigError, CorpusError

Make = Callable[..., Path]


def write(root: Path, text: str, name: str = "mine.csv") -> Path:
    (root / name).write_text(text, encoding="utf-8")
    return root / name


class TestTable:
    @pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
    def test_columns_are_recognized_and_said(self, release: Make, separator: str) -> None:
        root = release("a b/ü.wav", "x.wav")
        lines = (
            ("Filename", "Emotion", "Speaker_ID", "sex"),
            ("a b/ü.wav", "Anger", "7", "F"),
            ("x.wav", "joy", "8", "m"),
        )
        table = write(root, "\n".join(separator.join(line) for line in lines) + "\n")
        manifest, notes = prepare("table", table)
        rows = manifest.table[["id", "label", "raw_label", "speaker", "gender", "corpus"]].to_numpy().tolist()
        assert rows == [
            ["a b/ü", "angry", "Anger", "mine-7", "female", "mine"],
            ["x", "happy", "joy", "mine-8", "male", "mine"],
        ]
        assert str(notes[0]) == (
            "columns read: got path from 'Filename', label from 'Emotion', speaker from 'Speaker_ID', gender from 'sex'"
        )

    def test_columns_can_be_named(self, release: Make) -> None:
        table = write(release("1.wav"), "n,truth,label,who\n1.wav,sad,3,kim\n")
        columns = {"path": "n", "label": "truth", "speaker": "who"}
        manifest, _ = prepare("table", table, columns=columns)
        assert (manifest.labels, manifest.table["speaker"][0]) == (["sad"], "mine-kim")

    def test_paths_may_be_elsewhere_absolute_converted_or_from_windows(self, release: Make, tmp_path: Path) -> None:
        root = release("wav/a.flac", "wav/deep/b.wav", "wav/deep/c.wav")
        (tmp_path / "lists").mkdir()
        lines = ["path,label", "a.wav,sad", "deep\\b.wav,sad", f"{root}/wav/deep/c.wav,sad"]
        table = write(tmp_path / "lists", "\n".join(lines) + "\n")
        manifest, _ = prepare("table", table, audio=root / "wav")
        names = ["a.flac", "deep/b.wav", "deep/c.wav"]
        assert manifest.audio_paths() == [root / "wav" / name for name in names]
        manifest, _ = prepare("table", write(tmp_path / "lists", f"path,label\n{root}/wav/deep/c.wav,sad\n"))
        assert manifest.audio_paths() == [root / "wav" / "deep" / "c.wav"]

    def test_a_missing_recording_is_a_failure(self, release: Make) -> None:
        table = write(release("1.wav", "x/2.wav", "y/2.wav"), "path,label\n1.wav,sad\n2.mp3,sad\n,sad\n")
        manifest, notes = prepare("table", table)
        [failed] = [note for note in notes if note.failed]
        assert failed.items == ("2.mp3", "row 4 without a path"), "two recordings have the stem 2: neither is taken"
        assert manifest.ids == ["1"]

    def test_parts_of_one_file_get_ids_and_their_times_are_checked(self, release: Make) -> None:
        lines = "path,label,start,end\n1.wav,sad,0,0.02\n1.wav,angry,0.02,0.04\n1.wav,angry,0.04,9\n"
        manifest, notes = prepare("table", write(release("1.wav"), lines))
        assert manifest.ids == ["1", "1#2", "1#3"]
        assert manifest.table["start"].tolist() == [0, 0.02, 0.04]
        [late] = [note for note in notes if "beyond the end" in note.what]
        assert late.items == ("1#3",)

    def test_own_labels_are_kept_and_said(self, release: Make) -> None:
        table = write(release("1.wav", "2.wav"), "path,label,votes.calm\n1.wav,positive,2\n2.wav,negative,0\n")
        valence = LabelSet("valence", {"positive": ("positive",), "negative": ("negative",)})
        manifest, notes = prepare("table", table, valence)
        assert manifest.labels == ["positive", "negative"]
        assert manifest.table["votes.calm"].tolist() == [2, 0]
        assert [note.items for note in notes if "vocabulary" in note.what] == [
            ("'positive' in 1 rows", "'negative' in 1 rows")
        ]

    def test_a_manifest_is_a_table(self, release: Make, tmp_path: Path) -> None:
        first, _ = prepare("emodb", release("wav/03a01Fa.wav", "wav/08a01Na.wav"))
        first.write(tmp_path / "release" / "m.csv")
        second, _ = prepare("table", tmp_path / "release" / "m.csv")
        assert second.table.equals(first.table)

    @pytest.mark.parametrize(
        ("text", "columns", "faults"),
        [
            ("a,b\n1,2\n", {}, ["no path column among a, b", "no label column among a, b"]),
            (
                "path,label\n",
                {"path": "x", "mood": "path"},
                ["got 'x'", "columns.mood: got a column that manifests do"],
            ),
        ],
    )
    def test_columns_that_are_not_there_are_all_said(
        self, tmp_path: Path, text: str, columns: dict[str, str], faults: list[str]
    ) -> None:
        with pytest.raises(ConfigError) as error:
            prepare("table", write(tmp_path, text), columns=columns)
        for fault, line in zip(faults, str(error.value).splitlines(), strict=True):
            assert fault in line

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("path,label,label\na,b,c\n", "columns of the same name: 1 (label)"),
            ("path,label\na,b,c\n", "rows with more cells than the header: 1 (line 2)"),
            ("path,label\n", "no utterance"),
            ("", "no path column"),
        ],
    )
    def test_broken_tables_are_said(self, tmp_path: Path, text: str, said: str) -> None:
        with pytest.raises(AffektError) as error:
            prepare("table", write(tmp_path, text))
        assert said in str(error.value)

    def test_what_is_no_text_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_bytes("path,label\nä,sad\n".encode("utf-16"))
        for path in (tmp_path / "t.csv", tmp_path):
            with pytest.raises(CorpusError, match="expected a CSV or TSV file in UTF-8"):
                prepare("table", path)


class TestFolders:
    def test_the_first_folder_that_names_an_emotion_is_the_label(self, release: Make) -> None:
        root = release("happy/1.wav", "train/Anger/kim/2.wav", "odd/3.wav", "4.wav")
        manifest, notes = prepare("folders", root)
        assert dict(zip(manifest.ids, manifest.labels, strict=True)) == {
            "happy/1": "happy",
            "train/Anger/kim/2": "angry",
            "odd/3": "odd",
        }
        said = {note.what: note.items for note in notes}
        assert said["recordings outside any folder, left out"] == ("4.wav",)
        assert said["labels outside the vocabulary"] == ("'odd' in 1 rows",)
        assert set(manifest.table["corpus"]) == {"release"}

    def test_a_pattern_tells_columns(self, release: Make) -> None:
        root = release("sad/kim_12.wav", "sad/lee_3.wav", "sad/other.wav")
        manifest, notes = prepare("folders", root, pattern=r"(?P<speaker>[^/_]+)_(?P<text_id>\d+)")
        assert manifest.table["speaker"].tolist() == ["release-kim", "release-lee", ""]
        assert manifest.table["text_id"].tolist() == ["12", "3", ""]
        assert [note.items for note in notes if "pattern" in note.what] == [("sad/other.wav",)]

    @pytest.mark.parametrize("pattern", ["(", "(?P<mood>x)", "x"])
    def test_a_pattern_that_tells_nothing_is_refused(self, release: Make, pattern: str) -> None:
        with pytest.raises(ConfigError, match="pattern"):
            prepare("folders", release("sad/1.wav"), pattern=pattern)


class TestAudformat:
    @pytest.fixture
    def database(self, release: Make) -> Path:
        """Speakers with facts, a table of files with emotions and one of segments with moods."""
        audformat = pytest.importorskip("audformat")
        files = ["audio/1.wav", "audio/2.wav", "audio/3.wav"]
        root = release("audio/1.wav", "audio/2.flac")
        base = audformat.Database("tiny", languages=["deu"])
        base.schemes["speaker"] = audformat.Scheme(labels={"kim": {"gender": "female"}, "lee": {"gender": "male"}})
        base["files"] = audformat.Table(audformat.filewise_index(files))
        base["files"]["speaker"] = audformat.Column(scheme_id="speaker")
        base["files"]["speaker"].set(["kim", "lee", "kim"])
        base["files"]["emotion"] = audformat.Column()
        base["files"]["emotion"].set(["anger", "happiness", "anger"])
        starts, ends = pd.to_timedelta([0, 0.02, 0], unit="s"), pd.to_timedelta([0.02, None, None], unit="s")
        base["parts"] = audformat.Table(audformat.segmented_index([files[0], files[0], files[1]], starts, ends))
        base["parts"]["mood"] = audformat.Column()
        base["parts"]["mood"].set(["good", "sad", None])
        base.save(str(root), storage_format="csv")
        return root

    def test_files(self, database: Path) -> None:
        manifest, notes = prepare("audformat", database.parent)
        rows = manifest.table[["id", "path", "label", "speaker", "gender", "language"]].to_numpy().tolist()
        assert rows == [
            ["audio/1", "audio/1.wav", "angry", "tiny-kim", "female", "de"],
            ["audio/2", "audio/2.flac", "happy", "tiny-lee", "male", "de"],
        ]
        assert [note.items for note in notes if note.failed] == [("audio/3.wav",)]

    def test_segments(self, database: Path) -> None:
        manifest, notes = prepare("audformat", database, table="parts", column="mood")
        rows = manifest.table[["id", "start", "label"]].to_numpy().tolist()
        assert rows == [["audio/1#0#0.02", 0.0, "good"], ["audio/1#0.02", 0.02, "sad"]]
        assert manifest.table["end"].isna().tolist() == [False, True]
        assert [note.items for note in notes if "without a label" in note.what] == [("audio/2.wav",)]

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (
                {"column": "mode"},
                "got 'mode' in 0 tables.*choose with --table and --column from files: speaker, emotion",
            ),
            ({"table": "files", "column": "mood"}, "no column 'mood' in table 'files'"),
        ],
    )
    def test_labels_that_are_not_there(self, database: Path, options: dict[str, str], said: str) -> None:
        with pytest.raises(ConfigError, match=said):
            prepare("audformat", database, **options)

    def test_a_column_of_measurements_is_refused_with_the_reason(self, database: Path) -> None:
        audformat = pytest.importorskip("audformat")
        base = audformat.Database.load(str(database))
        base["files"]["arousal"] = audformat.Column()
        base["files"]["arousal"].set([0.25, 0.75, 0.5])
        base.save(str(database), storage_format="csv")
        with pytest.raises(CorpusError, match=r"column 'arousal': got numbers .*expected classes; choose another with"):
            prepare("audformat", database, column="arousal")

    def test_a_damaged_database(self, database: Path) -> None:
        (database / "db.yaml").write_text("{")
        with pytest.raises(CorpusError, match=r"expected db\.yaml"):
            prepare("audformat", database)

    def test_without_the_package_its_extra_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "audformat", None)
        with pytest.raises(ConfigError, match=r"pip install affekt\[audformat\]"):
            prepare("audformat", tmp_path)


def test_a_table_of_many_rows_comes_back_whole(release: Make, tmp_path: Path) -> None:
    root = release(*(f"{n}.wav" for n in range(20)))
    text = "path,label,speaker\n" + "".join(f"{n}.wav,{'sad' if n % 2 else 'calm'},{n % 3}\n" for n in range(20))
    manifest, _ = prepare("table", write(root, text), check_audio=False)
    manifest.write(tmp_path / "m.csv")
    again = Manifest.read(tmp_path / "m.csv")
    assert again.table.drop(columns="path").equals(manifest.table.drop(columns="path"))
    assert again.audio_paths() == manifest.audio_paths()
