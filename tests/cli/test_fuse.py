"""`affekt fuse`, as a user calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from affekt import cli
from affekt.results import Results, summarize


def test_a_fused_system_stands_in_the_run_s_own_report(
    tmp_path: Path, make_run: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", systems=("baseline", "focal", "lstm"), folds=2, seeds=1, utterances=32)
    assert cli.main(["fuse", str(run), "--systems", "focal, lstm", "--name", "both"]) == 0
    printed = capfd.readouterr().out
    assert "both" in printed
    assert str(run / "report.html") in printed.splitlines()
    summary = json.loads((run / "summary.json").read_text())
    assert summary == summarize(Results.read(run))
    assert set(summary["systems"]) == {"baseline", "focal", "lstm", "both"}
    assert "both" in (run / "report.md").read_text()


def test_what_cannot_vote_costs_a_line_each(
    tmp_path: Path, make_run: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", systems=("baseline",), folds=2, seeds=1, utterances=32)
    assert cli.main(["fuse", str(run), "--systems", "focal"]) == 2
    said = [line.partition("error: ")[2] for line in capfd.readouterr().err.splitlines()]
    assert said == [
        "member focal: got no trained system of this run, expected one of baseline",
        "members: got focal, expected at least 2 systems",
    ]
    assert not (run / "fused").exists()
