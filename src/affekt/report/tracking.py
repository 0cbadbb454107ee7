"""Export of histories and measures to TensorBoard and MLflow.

The values come from :class:`affekt.results.Results`, which has checked them, so they equal those of the report. A run
can be exported repeatedly, also while the experiment is running. Nothing leaves this machine unless MLflow is given the
address of a server.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from affekt.report import Tracker
from affekt.results import JobKey, Results
from affekt.results.run_directory import file_sha256

MEASURES = ("wa", "ua", "macro_f1")
NOT_MEASURES = ("epoch",)


def write_tensorboard(results: Results, folder: str | Path) -> Path:
    """Write a TensorBoard run per finished job to `folder/tensorboard/<system>/fold-K/seed-S`, replacing earlier ones.

    Scalars are `history/<column>` by epoch and `test/wa`, `test/ua`, `test/macro_f1` at the kept epoch.
    """
    from torch.utils.tensorboard import SummaryWriter

    root = Path(folder) / "tensorboard"
    shutil.rmtree(root, ignore_errors=True)
    for job, history, row in _jobs(results):
        with SummaryWriter(str(root / str(job))) as writer:
            for values in history.to_dict("records"):
                for name, value in _series(values):
                    writer.add_scalar(f"history/{name}", value, int(values["epoch"]))
            for name in MEASURES:
                writer.add_scalar(f"test/{name}", row[name], int(row["best_epoch"]))
            writer.add_text("protocol", results.protocol_line)
    return root


def log_to_mlflow(results: Results, folder: str | Path) -> str:
    """Log an MLflow run per finished job; unchanged ones that exist are kept.

    The target is `MLFLOW_TRACKING_URI`, or `folder/mlflow` if it is not set. The experiment is named by the protocol
    line.

    Returns:
        The tracking URI.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    uri = os.environ.get("MLFLOW_TRACKING_URI") or (Path(folder).resolve() / "mlflow").as_uri()
    client = MlflowClient(uri)
    known = client.get_experiment_by_name(results.protocol_line)
    experiment = known.experiment_id if known else client.create_experiment(results.protocol_line)
    logged = {run.data.tags.get("affekt.sha256") for run in _runs(client, experiment)}
    for job, history, row in _jobs(results):
        digest = file_sha256(results.path / str(job) / "result.json")
        if digest in logged:
            continue
        run = client.create_run(experiment, run_name=str(job))
        metrics = [
            Metric(name, value, 0, int(values["epoch"]))
            for values in history.to_dict("records")
            for name, value in _series(values)
        ]
        metrics += [Metric(f"test_{name}", row[name], 0, int(row["best_epoch"])) for name in MEASURES]
        params = [Param(name, str(value)) for name, value in job._asdict().items()]
        params += [Param("parameters", str(row["parameters"])), Param("recipe", results.recipe)]
        tags = [RunTag("affekt.sha256", digest), RunTag("affekt.protocol", results.protocol_line)]
        client.log_batch(run.info.run_id, metrics=metrics, params=params, tags=tags)
        client.set_terminated(run.info.run_id)
    return uri


TRACKERS: dict[Tracker, Callable[[Results, Path], Path | str]] = {
    "tensorboard": write_tensorboard,
    "mlflow": log_to_mlflow,
}
"""Exporters by name: each takes a run and the folder of its report."""


def _runs(client: Any, experiment: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs([experiment], page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _jobs(results: Results) -> Iterator[tuple[JobKey, pd.DataFrame, dict[str, Any]]]:
    for row in results.jobs.to_dict("records"):
        job = JobKey(str(row["system"]), int(row["fold"]), int(row["seed"]))
        yield job, results.history(*job), {str(name): value for name, value in row.items()}


def _series(values: dict[Any, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if name not in NOT_MEASURES and pd.notna(value):
            yield str(name), float(value)
