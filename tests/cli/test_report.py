"""`affekt report`, as a user calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from affekt import cli
from affekt.cli.report import report
from affekt.errors import CheckpointError, ConfigError
from affekt.results import Results, summarize


@pytest.fixture
def run(tmp_path: Path, make_run: Callable[..., Path]) -> Path:
    return make_run(tmp_path / "run", systems=("baseline", "focal"), folds=2, seeds=1, utterances=32)


def test_report_goes_into_the_run_directory(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(run, formats=("html",)) == 0
    assert json.loads((run / "summary.json").read_text()) == summarize(Results.read(run))
    printed = capsys.readouterr().out
    assert "focal" in printed
    assert printed.splitlines()[-1] == str(run / "report.html")
    assert (run / "report.html").exists()
    assert not (run / "report.md").exists()


def test_report_elsewhere_with_another_baseline(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report(run, out=out, formats=("markdown",), baseline="focal", projection="tsne")
    assert json.loads((out / "summary.json").read_text())["baseline"] == "focal"
    assert "t-SNE" in (out / "report.md").read_text()
    assert not (run / "summary.json").exists()


def test_a_damaged_run_is_not_reported(run: Path) -> None:
    path = run / "focal/fold-0/seed-0/predictions.csv"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"predictions\.csv: got sha256 .* and run the experiment again"):
        report(run)
    assert not (run / "report.html").exists()


def test_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config\.toml"):
        report(tmp_path)


def test_several_runs_are_a_study(
    run: Path, tmp_path: Path, make_run: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    other = make_run(tmp_path / "other", systems=("baseline",), folds=2, seeds=1, utterances=32, corpus="nemo")
    assert cli.main(["report", str(run), str(other), "-o", str(tmp_path / "out"), "--formats", "markdown"]) == 0
    text = (tmp_path / "out" / "study.md").read_text()
    assert "study plan" not in text
    assert "Not run" not in text
    pages = ["study.md", "study/emodb-random.md", "study/nemo-random.md"]
    assert capfd.readouterr().out.splitlines() == [str(tmp_path / "out" / page) for page in pages]
    assert "| baseline |" in (tmp_path / "out" / "study" / "nemo-random.md").read_text()
    assert not (run / "summary.json").exists()


def test_a_study_needs_a_folder_and_whole_runs(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(run), str(run)]) == 2
    assert (
        capfd.readouterr().err == "affekt: error: -o: got nothing, expected a folder for the report on several runs\n"
    )
    assert cli.main(["report", str(run), str(tmp_path / "x"), str(tmp_path / "y"), "-o", str(tmp_path / "out")]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert [name in line for name, line in zip(("x", "y"), lines, strict=True)] == [True, True]
    assert not (tmp_path / "out").exists()
