"""Output paths: an input is never overwritten, and two inputs never share an output."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from affekt.errors import ConfigError
from affekt.runtime.outputs import outputs_under, refuse_overwriting, refuse_replacing, refuse_sharing


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text("path,label\n")
    return tmp_path / "mine.csv"


@pytest.mark.parametrize("way", ["itself", "relative", "symbolic", "hard", "dots", "folder link"])
def test_an_output_that_is_an_input_is_refused(table: Path, way: str) -> None:
    folder = table.parent
    output = {"itself": table, "relative": Path("mine.csv"), "dots": folder / "sub" / ".." / "mine.csv"}.get(way)
    (folder / "sub").mkdir()
    if output is None:
        output = folder / "other.csv"
        if way == "symbolic":
            output.symlink_to(table)
        elif way == "hard":
            os.link(table, output)
        else:
            (folder / "link").symlink_to(folder, target_is_directory=True)
            output = folder / "link" / "mine.csv"
    with pytest.raises(ConfigError, match=r"got the input .*mine\.csv, expected another file"):
        refuse_overwriting([output], [table])


def test_other_outputs_pass(table: Path) -> None:
    (table.parent / "copy.csv").write_bytes(table.read_bytes())
    refuse_overwriting(
        ["new.csv", "copy.csv", None, "-", table.parent], [table, "-", None, table.parent, "missing.wav"]
    )


def test_an_input_that_is_not_there_counts_too(table: Path) -> None:
    """A missing recording must not be created as text."""
    with pytest.raises(ConfigError, match=r"got the input none\.csv"):
        refuse_overwriting([Path("none.csv").resolve()], ["none.csv"])


def test_suffixes_of_recordings_are_refused(table: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_overwriting(["a.wav", "b.MP3", "c.csv", "d.webm"], [])
    assert [fault.what for fault in caught.value.faults] == ["output a.wav", "output b.MP3", "output d.webm"]


def test_outputs_that_exist_are_refused_unless_forced(table: Path) -> None:
    (table.parent / "b.csv").write_text("b")
    with pytest.raises(ConfigError) as caught:
        refuse_replacing([table, "new.csv", None, table.parent, Path("b.csv")])
    assert [fault.what for fault in caught.value.faults] == [f"output {table}", "output b.csv"]
    assert str(caught.value.faults[1]) == (
        "output b.csv: got an existing file, expected a new one; choose another name, or replace it with --force"
    )
    refuse_replacing([table, "b.csv"], force=True)


def test_empty_files_and_devices_may_be_written(table: Path) -> None:
    """Nothing is lost by that: a program makes an empty file to reserve its name."""
    Path("empty.csv").touch()
    refuse_replacing(["empty.csv", os.devnull])


def test_inputs_that_share_an_output_are_refused() -> None:
    pairs = [("a/x.wav", Path("x.csv")), ("b/x.wav", Path("./x.csv")), ("a/x.wav", Path("x.csv")), ("c", Path("c.csv"))]
    with pytest.raises(ConfigError) as caught:
        refuse_sharing(pairs)
    assert [fault.got for fault in caught.value.faults] == ["2 inputs (a/x.wav, b/x.wav)"]


def _under(bases: dict[str, str], suffix: str = ".csv") -> list[str]:
    return [
        path.as_posix() for path in outputs_under(Path("out"), [(Path(b), Path(p)) for p, b in bases.items()], suffix)
    ]


def test_the_folder_structure_is_kept() -> None:
    assert _under({"in/deep/c.ogg": "in", "in/b.wav": "in"}) == ["out/deep/c.csv", "out/b.csv"]
    assert _under({"one/x.wav": "one", "two/x.wav": "two"}) == ["out/one/x.csv", "out/two/x.csv"]
    assert _under({"in/only/x.wav": "in"}) == ["out/only/x.csv"]
    assert _under({"elsewhere/x.tar.wav": "elsewhere"}) == ["out/x.tar.csv"]
    assert _under({}) == []


def test_the_suffix_is_kept_where_stems_are_equal() -> None:
    assert _under({"in/a.wav": "in", "in/a.flac": "in", "in/b.wav": "in"}) == [
        "out/a.wav.csv",
        "out/a.flac.csv",
        "out/b.csv",
    ]


def test_names_that_still_meet_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"output out.a\.wav\.csv: got 2 inputs"):
        _under({"in/a.wav": "in", "in/a.flac": "in", "in/a.wav.mp3": "in"})


@pytest.mark.skipif(sys.platform == "win32", reason="one drive here")
def test_unrelated_folders_share_the_root(tmp_path: Path) -> None:
    assert _under({"/x/a.wav": "/x", "/y/a.wav": "/y"}) == ["out/x/a.csv", "out/y/a.csv"]
