"""Runs that earlier versions wrote and published in results/: they are read, planned against, resumed and reported."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from affekt.config import as_table, load, read_toml
from affekt.data.manifest import Manifest
from affekt.experiments import plan
from affekt.experiments.jobs import run_jobs
from affekt.report import write_report
from affekt.results import Results, RunDirectory, summarize
from affekt.results.packed_tables import packed_path
from affekt.results.run_directory import CONFIG
from affekt.results.study import CHANGED
from affekt.training.recipes import RECIPES, Recipe
from affekt.training.systems import SYSTEMS, resolve
from scripts.collect_results import collect

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


def test_a_published_copy_is_resumed(tmp_path: Path, bursts: Path) -> None:
    """Its jobs are not run again, and with one seed more it is what the whole run would have been."""
    options = {"folds": 2, "recipe": load(Recipe, bursts / "recipe.toml"), "device": "cpu", "cache": bursts / "cache"}
    manifest, systems = Manifest.read(bursts / "manifest.csv"), resolve(str(bursts / "systems.toml"))[:1]
    for out, seeds in ((tmp_path / "begun", 1), (tmp_path / "whole", 2)):
        experiment, _ = plan.plan_experiment(manifest, systems, out, seeds=seeds, **options)
        run_jobs(experiment, experiment.jobs)
    collect(tmp_path / "begun", tmp_path / "copy")
    resumed, _ = plan.plan_experiment(manifest, systems, tmp_path / "copy", seeds=2, **options)
    assert [job.done for job in resumed.jobs] == [True, True, False, False]
    run_jobs(resumed, resumed.jobs)
    assert not list(tmp_path.glob("copy/*/*/seed-0"))
    collect(tmp_path / "copy", tmp_path / "again")
    again, whole = Results.read(tmp_path / "again"), Results.read(tmp_path / "whole")
    pd.testing.assert_frame_equal(again.predictions, whole.predictions)
    assert summarize(again) == summarize(whole)
