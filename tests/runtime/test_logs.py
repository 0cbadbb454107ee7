"""Lines for people and records for programs: the same events, and nothing between the records."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from affekt import cli
from affekt.experiments.progress import LoggedProgress, ModelProgress, make_model_progress, make_progress
from affekt.runtime.logs import LOG, JsonFormatter, log_as, say
from affekt.serving import run as serving
from affekt.serving.access_log import logging_config


@pytest.fixture(autouse=True)
def as_text() -> Iterator[None]:
    yield
    log_as("text")


def records(text: str) -> list[dict[str, Any]]:
    """Every line, each of which must be an object."""
    return [json.loads(line) for line in text.splitlines()]


def test_as_text_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    say("left out: a.wav", what="a.wav")
    assert capsys.readouterr().err == "affekt: left out: a.wav\n"
    log_as("json")
    say("left out: a.wav", what="ä.wav")
    say("epoch", logging.INFO, ua=0.5)
    first, second = records(capsys.readouterr().err)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {"level": "warning", "message": "left out: a.wav", "what": "ä.wav"}
    assert (second["level"], second["message"], second["ua"]) == ("info", "epoch", 0.5)
    log_as("text")
    say("again")
    assert capsys.readouterr().err == "affekt: again\n"
    assert LOG.handlers == []


def test_a_trace_is_one_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "broken", (), (ValueError, error, error.__traceback__))
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert json.loads(line)["trace"].endswith("ValueError: two\nlines")


def test_an_experiment_in_records(bursts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["experiment", str(bursts / "manifest.csv"), "-o", str(tmp_path / "run"), "--log-format", "json"]
    words += ["--systems", str(bursts / "systems.toml"), "--folds", "2", "--train.max-epochs", "2", "--device", "cpu"]
    assert cli.main([*words, "--cache", str(bursts / "cache"), "--jobs", "1"]) == 0
    printed = capfd.readouterr()
    seen = records(printed.err)
    jobs = [f"{system}/fold-{fold}/seed-0" for fold in range(2) for system in ("baseline", "focal")]
    assert [record["job"] for record in seen if record["message"] == "job done"] == jobs
    for job in jobs:
        rows = [record for record in seen if record["message"] == "epoch" and record["job"] == job]
        history = (tmp_path / "run" / job / "history.csv").read_text().splitlines()
        assert len(rows) == len(history) - 1 == 2
        for row, line in zip(rows, history[1:], strict=True):
            values = dict(zip(history[0].split(","), map(float, line.split(",")), strict=True))
            assert {name: row[name] for name in values} == values
    assert cli.main([*words, "--fold-seed", "1"]) == 2  # another experiment
    (error,) = records(capfd.readouterr().err)
    assert error["level"] == "error"
    assert error["message"].startswith("error: ")
    assert cli.main(["report", str(tmp_path / "nowhere")]) == 2  # the next command logs as it likes
    assert capfd.readouterr().err.startswith("affekt: error: No such folder: ")


def test_a_training_in_records(bursts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.toml").write_text("[one]\nfeatures = { mels = 12, clip_seconds = 0.4 }\n")
    words = ["train", str(bursts / "manifest.csv"), "-o", str(tmp_path / "run"), "--system", str(tmp_path / "one.toml")]
    words += ["--train.max-epochs", "2", "--device", "cpu", "--cache", str(bursts / "cache"), "--log-format", "json"]
    assert cli.main(words) == 0
    assert [record["epoch"] for record in records(capfd.readouterr().err)] == [1, 2]


def test_programs_get_no_bars() -> None:
    assert not isinstance(make_progress(1), LoggedProgress)
    assert isinstance(make_model_progress(1), ModelProgress)
    log_as("json")
    for progress in (make_progress(1), make_model_progress(1)):
        assert isinstance(progress, LoggedProgress)
        assert progress.bar.disable


def test_the_server_says_where_it_listens(
    small_model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    started: list[uvicorn.Config] = []
    monkeypatch.setattr(serving.uvicorn.Server, "run", lambda server, sockets: started.append(server.config))
    words = ["serve", "--port", "0", "--model", str(small_model), "--access-log"]
    assert cli.main([*words, "--log-format", "json"]) == 0
    printed = capfd.readouterr()
    (line,) = records(printed.err)
    assert printed.out == ""
    assert line["message"] == "listening"
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", line["url"])
    assert (line["reach"], line["token"], line["labels"]) == (
        "this machine only",
        False,
        ["angry", "happy", "neutral", "sad"],
    )
    assert started[0].log_config == logging_config(access_log=True, as_json=True)
    assert cli.main(words) == 0
    assert capfd.readouterr().out.startswith("affekt: listening at http://127.0.0.1:")
    assert started[1].log_config == logging_config(access_log=True, as_json=False)
