"""Manifest files: plain tables, relative to themselves, and every fault with its rows."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from affekt.config import load
from affekt.data.labels import LABEL_SETS, LabelSet
from affekt.data.manifest import COLUMNS, Manifest
from affekt.errors import ManifestError
from affekt.experiments.plan import plan_experiment
from affekt.training.recipes import Recipe
from affekt.training.systems import resolve


def rows(count: int = 3, **changes: Any) -> list[dict[str, Any]]:
    return [{"id": f"u{n}", "path": f"wav/u{n}.wav", "label": "sad"} | changes for n in range(count)]


class TestFiles:
    def test_pandas_and_csv_read_the_file_as_it_is(self, tmp_path: Path) -> None:
        Manifest.from_rows(rows(), tmp_path / "release").write(tmp_path / "m.csv")
        table = pd.read_csv(tmp_path / "m.csv")
        assert list(table.columns) == list(COLUMNS)
        assert table["path"].tolist() == [f"release/wav/u{n}.wav" for n in range(3)]
        with (tmp_path / "m.csv").open(newline="") as file:
            assert [row["id"] for row in csv.DictReader(file)] == ["u0", "u1", "u2"]

    @pytest.mark.parametrize("name", ["m.csv", "m.parquet"])
    @pytest.mark.parametrize(
        ("folder", "path"),
        [
            (".", "release/wav/u0.wav"),
            ("release", "wav/u0.wav"),
            ("release/wav", "u0.wav"),
            ("release/wav/deep", "../u0.wav"),
            ("release/lists/deep", "../../wav/u0.wav"),
            ("lists", "../release/wav/u0.wav"),
        ],
    )
    def test_paths_start_from_the_file(self, tmp_path: Path, name: str, folder: str, path: str) -> None:
        manifest = Manifest.from_rows(rows(1), tmp_path / "release")
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        file = tmp_path / folder / name
        manifest.write(file)
        raw = pd.read_csv(file) if file.suffix == ".csv" else pd.read_parquet(file)
        assert raw["path"].tolist() == [path]
        again = Manifest.read(file)
        assert [path.resolve() for path in again.audio_paths()] == [tmp_path / "release" / "wav" / "u0.wav"]
        again.write(tmp_path / f"again-{name}")
        assert Manifest.read(tmp_path / f"again-{name}").audio_paths() == manifest.audio_paths()

    def test_file_and_audio_move_together(self, tmp_path: Path) -> None:
        (tmp_path / "a" / "lists").mkdir(parents=True)
        Manifest.from_rows(rows(1), tmp_path / "a" / "release").write(tmp_path / "a" / "lists" / "m.csv")
        shutil.move(tmp_path / "a", tmp_path / "b")
        [path] = Manifest.read(tmp_path / "b" / "lists" / "m.csv").audio_paths()
        assert path == tmp_path / "b" / "release" / "wav" / "u0.wav"

    @pytest.mark.parametrize("header", ["# root: ../release\n", "# root: ../release,,\r\n"])
    def test_a_csv_file_of_version_0_1_is_read(self, tmp_path: Path, header: str) -> None:
        (tmp_path / "lists").mkdir()
        file = tmp_path / "lists" / "m.csv"
        file.write_text(f"{header}id,path,label\nu0,wav/u0.wav,sad\n", newline="")
        assert [path.resolve() for path in Manifest.read(file).audio_paths()] == [tmp_path / "release/wav/u0.wav"]

    def test_a_parquet_file_of_version_0_1_is_read(self, tmp_path: Path) -> None:
        table = pd.DataFrame(rows(1))
        table.attrs["root"] = "release"
        table.to_parquet(tmp_path / "m.parquet", index=False)
        assert Manifest.read(tmp_path / "m.parquet").audio_paths() == [tmp_path / "release" / "wav" / "u0.wav"]

    def test_a_parquet_file_whose_text_is_damaged_is_refused(self, tmp_path: Path) -> None:
        Manifest.from_rows(rows(1), tmp_path).write(tmp_path / "m.parquet")
        content = (tmp_path / "m.parquet").read_bytes()
        (tmp_path / "m.parquet").write_bytes(content.replace(b"u0.wav", b"u\xff\xfewav"))
        with pytest.raises(ManifestError, match="column path holds text that is not UTF-8"):
            Manifest.read(tmp_path / "m.parquet")

    def test_a_root_can_be_given(self, tmp_path: Path) -> None:
        Manifest.from_rows(rows(1), tmp_path).write(tmp_path / "m.csv")
        assert Manifest.read(tmp_path / "m.csv", root="/data").audio_paths() == [Path("/data/wav/u0.wav")]

    def test_mixed_levels_share_a_root(self, tmp_path: Path) -> None:
        (tmp_path / "x" / "y").mkdir(parents=True)
        paths = ["a.wav", "../b.wav", "../../c/d.wav", "e/../../f.wav"]
        file = tmp_path / "x" / "y" / "m.csv"
        file.write_text("id,path,label\n" + "".join(f"{n},{path},sad\n" for n, path in enumerate(paths)))
        wanted = [tmp_path / place for place in ("x/y/a.wav", "x/b.wav", "c/d.wav", "x/f.wav")]
        assert Manifest.read(file).audio_paths() == wanted

    @pytest.mark.parametrize("path", ["/etc/a.wav", "../" * 60 + "a.wav"])
    def test_absolute_paths_and_paths_from_nowhere_are_refused(self, tmp_path: Path, path: str) -> None:
        file = tmp_path / "m.csv"
        file.write_text(f"id,path,label\n1,{path},sad\n")
        with pytest.raises(ManifestError, match=r"row 2: path: got '.*expected a path inside"):
            Manifest.read(file)

    def test_an_absolute_path_beside_others_is_refused_and_not_bent(self, tmp_path: Path) -> None:
        (tmp_path / "m.csv").write_text("id,path,label\n1,/etc/a.wav,sad\n2,../b.wav,sad\n")
        with pytest.raises(ManifestError, match=r"^row 2: path: got '/etc/a.wav', expected a path inside"):
            Manifest.read(tmp_path / "m.csv")

    def test_a_run_begun_with_a_manifest_of_version_0_1_resumes(self, bursts: Path, tmp_path: Path) -> None:
        new = (bursts / "manifest.csv").read_text()
        old = tmp_path / "lists" / "old.csv"
        old.parent.mkdir()
        old.write_text(f"# root: {os.path.relpath(bursts, old.parent)}\n{new}")
        systems = resolve(str(bursts / "systems.toml"))
        options: dict[str, Any] = {
            "folds": 2,
            "recipe": load(Recipe, bursts / "recipe.toml"),
            "cache": bursts / "cache",
        }
        plan_experiment(Manifest.read(old), systems, tmp_path / "run", **options)
        before = (tmp_path / "run" / "config.toml").read_bytes()
        Manifest.read(old).write(tmp_path / "new.csv")
        plan_experiment(Manifest.read(tmp_path / "new.csv"), systems, tmp_path / "run", **options)
        assert (tmp_path / "run" / "config.toml").read_bytes() == before


class TestTimes:
    def test_files_hold_times_as_people_write_them(self, tmp_path: Path) -> None:
        times = [("0 days 00:00:00.5", "NaT"), ("1:02.5", "00:02:00"), ('"0,5"', "1.5s"), ("", "2")]
        lines = "".join(f"{n},a.wav,sad,{start},{end}\n" for n, (start, end) in enumerate(times))
        (tmp_path / "m.csv").write_text("id,path,label,start,end\n" + lines)
        table = Manifest.read(tmp_path / "m.csv").table
        np.testing.assert_array_equal(table["start"], [0.5, 62.5, 0.5, np.nan])
        np.testing.assert_array_equal(table["end"], [np.nan, 120, 1.5, 2])

    @pytest.mark.parametrize("dtype", [None, object])
    def test_a_timedelta_of_one_second_is_one_second(self, dtype: Any) -> None:
        times = pd.Series(pd.to_timedelta([1.0, None, 2.0], unit="s"), dtype=dtype)
        table = pd.DataFrame(rows()).assign(start=0.0, end=times)
        np.testing.assert_array_equal(Manifest(table, Path()).table["end"], [1, np.nan, 2])
        table["end"] = np.array([1_000, "NaT", 2_000], "timedelta64[ms]")
        np.testing.assert_array_equal(Manifest(table, Path()).table["end"], [1, np.nan, 2])

    @pytest.mark.parametrize("value", ["soon", "1:75", -1.0, np.inf, True])
    def test_anything_else_is_named_by_its_row(self, value: Any) -> None:
        table = pd.DataFrame(rows()).assign(start=pd.Series([0.0, value, None], dtype=object))
        with pytest.raises(ManifestError, match=r"^row 3: start: got .*, expected seconds \(1\.5\), mm:ss") as error:
            Manifest(table, Path())
        assert len(error.value.faults) == 1

    def test_times_are_written_as_numbers(self, tmp_path: Path) -> None:
        Manifest.from_rows(rows(1, start="0:01", end="1,5"), tmp_path).write(tmp_path / "m.csv")
        assert pd.read_csv(tmp_path / "m.csv")[["start", "end"]].to_numpy().tolist() == [[1.0, 1.5]]


class TestFaults:
    def test_a_fault_of_many_rows_is_one_line(self) -> None:
        table = pd.DataFrame(rows(5_000)).assign(label="", start="x", gender="?")
        with pytest.raises(ManifestError) as error:
            Manifest(table, Path())
        assert str(error.value).splitlines() == [
            "5,000 rows (2, 3, 4 and 4,997 more): label: got nothing, expected a value; "
            "`affekt prepare table` leaves such rows out",
            "5,000 rows (2, 3, 4 and 4,997 more): gender: got '?', expected female, male or empty",
            "5,000 rows (2, 3, 4 and 4,997 more): start: got 'x', expected seconds (1.5), mm:ss, hh:mm:ss, "
            "a Timedelta, or empty",
        ]

    def test_different_values_are_shown_by_example(self) -> None:
        with pytest.raises(ManifestError) as error:
            Manifest(pd.DataFrame(rows(9)).assign(gender=[f"g{n}" for n in range(9)]), Path())
        assert str(error.value).startswith("9 rows (2, 3, 4 and 6 more): gender: got 'g0', 'g1', 'g2' ..., expected")

    def test_few_rows_have_a_line_each(self) -> None:
        table = pd.DataFrame(rows()).assign(start=2.0, end=[1.0, 3.0, 2.0])
        with pytest.raises(ManifestError) as error:
            Manifest(table, Path())
        assert str(error.value).splitlines() == [
            f"row {row}: end: got {end} s, expected more than start = 2 s" for row, end in ((2, 1), (4, 2))
        ]


class TestSelect:
    def test_labels_are_matched_by_the_vocabulary(self) -> None:
        table = pd.DataFrame(rows(7)).assign(label=["anger", "Angry", "JOY", "excited", "neu", "sadness", "fear"])
        selected = Manifest(table, Path()).select(LABEL_SETS["iemocap4"])
        assert selected.labels == ["angry", "angry", "happy", "happy", "neutral", "sad"]

    def test_a_label_set_s_own_names_come_first(self) -> None:
        chosen = LabelSet("odd", {"one": ("anger", "joy"), "two": ("angry",)})
        table = pd.DataFrame(rows(3)).assign(label=["anger", "angry", "rage"])
        assert Manifest(table, Path()).select(chosen).labels == ["one", "two", "two"]
