"""Runs that earlier versions wrote and published in results/: they are read, planned against, resumed and reported."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from affekt.config import as_table, read_toml
from affekt.experiments import plan
from affekt.report import write_report
from affekt.results import Results, RunDirectory
from affekt.results.packed_tables import packed_path
from affekt.results.run_directory import CONFIG
from affekt.results.study import CHANGED
from affekt.training.recipes import RECIPES
from affekt.training.systems import SYSTEMS

RESULTS = Path(__file__).parents[2] / "results"
PUBLISHED = sorted(path.parent for path in RESULTS.glob("*/folds.json"))


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.name)
def test_the_same_experiment_is_accepted_and_keeps_what_the_run_has(path: Path) -> None:
    """What today's code would write for this run's systems and recipe differs in nothing that the run fixes."""
    before = read_toml(path / CONFIG)
    name, *changed = before["experiment"]["recipe"].split(CHANGED)
    recipe = replace(RECIPES[name], clip_seconds=before["recipe"]["clip_seconds"]) if changed else RECIPES[name]
    recipe = replace(recipe, name=before["experiment"]["recipe"])
    known = [name for name in before["experiment"]["systems"] if name in SYSTEMS]
    now = {
        "experiment": before["experiment"] | {"systems": known},
        "recipe": as_table(recipe),
        "systems": {name: plan._without_none(recipe.apply(SYSTEMS[name]).to_dict()) for name in known},
    }
    merged = plan._merge_plan(path / CONFIG, before, now)
    assert known
    assert merged["experiment"]["systems"] == before["experiment"]["systems"]
    assert merged["systems"].keys() >= set(known)


def test_finished_jobs_are_not_run_again() -> None:
    run = RunDirectory(RESULTS / "emodb-random")
    results = Results.read(run.path)
    jobs = [job for system in results.systems for job in results.finished(system)]
    assert len(jobs) == len(results.jobs) > 40
    assert all(run.job(job).finished for job in jobs)


def test_a_flipped_bit_of_a_published_job_is_found(tmp_path: Path) -> None:
    run = RunDirectory(shutil.copytree(RESULTS / "emodb-random", tmp_path / "run"))
    first, second = Results.read(run.path).finished("baseline")[:2]
    path = packed_path(run.path, "predictions.csv")
    table = pd.read_parquet(path)
    row = table.index[(table["system"] == "baseline") & (table["fold"] == first.fold)][0]
    value = np.float32(table.loc[row, "prob.angry"])
    table.loc[row, "prob.angry"] = np.frombuffer(np.uint32(value.view(np.uint32) ^ 4).tobytes(), np.float32)[0]
    table.to_parquet(path, index=False)
    assert [Path(fault.what).name for fault in run.job(first).damage()] == ["predictions.csv"]
    assert run.job(second).finished


def test_it_is_reported(tmp_path: Path) -> None:
    write_report(Results.read(RESULTS / "emodb-random"), tmp_path, ("markdown",))
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "random 5-fold, 1 seed" in text
    assert "baseline" in text
