"""Runs exported to TensorBoard and MLflow, read back: the numbers of the report, at their epochs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from affekt import cli
from affekt.report.tracking import log_to_mlflow, write_tensorboard
from affekt.results import Results

JOBS = [f"{system}/fold-{fold}/seed-0" for system in ("baseline", "focal") for fold in range(2)]


@pytest.fixture
def run(make_run: Callable[..., Path], tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", systems=("baseline", "focal"), folds=2, seeds=1)


def test_tensorboard_reads_the_history(run: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    root = write_tensorboard(Results.read(run), tmp_path)
    root = write_tensorboard(Results.read(run), tmp_path)  # anew, and not beside the old one
    assert sorted(str(path.parent.relative_to(root)) for path in root.rglob("events.*")) == JOBS
    for job in JOBS:
        events = EventAccumulator(str(root / job)).Reload()
        history = pd.read_csv(run / job / "history.csv")
        columns = [name for name in history.columns if name != "epoch"]
        measures = ("wa", "ua", "macro_f1")
        expected = {f"history/{name}" for name in columns} | {f"test/{name}" for name in measures}
        assert set(events.Tags()["scalars"]) == expected
        for name in columns:
            points = events.Scalars(f"history/{name}")
            assert [point.step for point in points] == history["epoch"].tolist()
            assert [point.value for point in points] == pytest.approx(history[name].tolist())
        result = json.loads((run / job / "result.json").read_text())
        for name in measures:
            (point,) = events.Scalars(f"test/{name}")
            assert (point.step, point.value) == (result["best_epoch"], pytest.approx(result[name]))


def test_mlflow_reads_the_history(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.move(run / "focal", tmp_path / "focal")  # not yet finished
    results = Results.read(run)
    uri = log_to_mlflow(results, tmp_path)
    shutil.move(tmp_path / "focal", run / "focal")
    assert log_to_mlflow(Results.read(run), tmp_path) == uri  # what is there stays, what is new is added
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(results.protocol_line)
    found = client.search_runs([experiment.experiment_id])
    assert sorted(logged.info.run_name for logged in found) == JOBS  # each once
    runs = {logged.info.run_name: logged for logged in found}
    for job, logged in runs.items():
        history = pd.read_csv(run / job / "history.csv")
        points = client.get_metric_history(logged.info.run_id, "validation_ua")
        assert [(point.step, point.value) for point in points] == list(
            zip(history["epoch"], history["validation_ua"], strict=True)
        )
        result = json.loads((run / job / "result.json").read_text())
        assert logged.data.metrics["test_ua"] == result["ua"]
        assert logged.data.params["system"] == job.partition("/")[0]
        assert logged.data.tags["affekt.protocol"] == results.protocol_line
        assert logged.info.status == "FINISHED"


def test_the_command(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert cli.main(["report", str(run), "--formats", "markdown", "--track", "tensorboard", "--track", "mlflow"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-2:] == [str(run / "tensorboard"), (run.resolve() / "mlflow").as_uri()]
    results = Results.read(run)  # their folders are no systems
    assert results.systems == ("baseline", "focal")
