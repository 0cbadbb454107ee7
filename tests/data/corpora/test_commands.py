"""`affekt prepare` and `affekt corpora`: what they print, write and return; and the table in the documentation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from affekt.cli.corpora import corpora, markdown_table
from affekt.cli.prepare import prepare
from affekt.data.corpora import CORPORA
from affekt.data.manifest import Manifest
from affekt.errors import ConfigError

Make = Callable[..., Path]
NAMES = [f"wav/03a01{code}{take}.wav" for code in "WFNT" for take in "ab"]


def test_prepare_prints_classes_notes_license_and_place(
    release: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "emodb.csv"
    assert prepare("emodb", release(*NAMES), output=output, labels="iemocap4") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:7] == [
        "Berlin Database of Emotional Speech (EmoDB)",
        "",
        "8 utterances, 1 speaker",
        "  angry               2",
        "  happy               2",
        "  neutral             2",
        "  sad                 2",
    ]
    assert [line.partition(":")[0] for line in lines[8:]] == ["note", "note", "warning", "", "license", "written"]
    assert lines[-2] == "license: CC0-1.0 (http://emodb.bilderbar.info)"
    assert len(Manifest.read(output)) == 8
    assert all(path.is_file() for path in Manifest.read(output).audio_paths())


def test_a_failed_recording_is_dropped_said_and_counts_as_exit_code_1(
    release: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = release(*NAMES)
    (root / NAMES[0]).write_bytes(b"no sound")
    assert prepare("emodb", root, output=tmp_path / "m.parquet") == 1
    assert "failed: recordings that cannot be decoded, left out: 1 (wav/03a01Wa.wav: " in capsys.readouterr().out
    assert len(Manifest.read(tmp_path / "m.parquet")) == 7
    assert prepare("emodb", root, output=tmp_path / "m.csv", check_audio=False) == 0
    assert len(Manifest.read(tmp_path / "m.csv")) == 8


def test_options_reach_the_reader_and_no_other(
    release: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = release("sad/kim_1.wav", "angry/lee_2.wav")
    assert prepare("folders", root, output=tmp_path / "m.csv", pattern=r"(?P<speaker>[^/_]+)_") == 0
    assert "2 utterances, 2 speakers" in capsys.readouterr().out
    assert prepare("folders", root, output=tmp_path / "m.csv", force=True) == 0
    assert "2 utterances, unknown speakers" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="options: got pattern"):
        prepare("emodb", root, output=tmp_path / "new.csv", pattern="x")


def test_what_cannot_be_written_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a name ending in \.csv or \.parquet"):
        prepare("emodb", tmp_path / "nowhere", output=tmp_path / "m.xlsx")


def test_a_bar_is_shown_where_somebody_watches(
    release: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert prepare("emodb", release(*NAMES), output=tmp_path / "m.csv") == 0
    assert "decoding" in capsys.readouterr().err


def test_corpora_lists_all_and_describes_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert corpora() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(CORPORA)
    assert next(line for line in lines if line.startswith("emodb")).split()[:4] == ["emodb", "535", "10", "339"]
    assert corpora("emodb") == 0
    page = capsys.readouterr().out
    assert "iemocap4:      339: angry 127, happy 71, neutral 79, sad 62" in page
    assert "license:       CC0-1.0" in page
    with pytest.raises(ConfigError, match="got 'emo-db'"):
        corpora("emo-db")


def test_the_documentation_holds_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert corpora(markdown=True) == 0
    assert capsys.readouterr().out.strip() == markdown_table()
    page = Path(__file__).parents[3] / "docs" / "corpora.md"
    assert markdown_table() in page.read_text(encoding="utf-8"), "paste what `affekt corpora --markdown` prints"
