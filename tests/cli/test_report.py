"""`affekt report`, as a user calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from affekt.cli.report import report
from affekt.errors import CheckpointError, ConfigError
from affekt.results import Results, summarise


@pytest.fixture
def run(tmp_path: Path, make_run: Callable[..., Path]) -> Path:
    return make_run(tmp_path / "run", systems=("baseline", "focal"), folds=2, seeds=1, utterances=32)


def test_report_goes_into_the_run_directory(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(run, formats=("html",)) == 0
    assert json.loads((run / "summary.json").read_text()) == summarise(Results.read(run))
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
