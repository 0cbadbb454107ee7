"""What experiments cost: added up rightly from what was timed; no test asks how long anything took."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from affekt.config import load
from affekt.data.manifest import Manifest
from affekt.experiments import costs
from affekt.experiments.costs import Cost, device_name, estimate, measure, write_costs
from affekt.experiments.jobs import run_jobs
from affekt.experiments.plan import Experiment, plan_experiment
from affekt.features.clips import Clips
from affekt.training import fitting
from affekt.training.recipes import Recipe
from affekt.training.systems import SYSTEMS, System, resolve
from affekt.training.train_config import TrainConfig


@pytest.fixture
def plan(bursts: Path, tmp_path: Path) -> Callable[..., Experiment]:
    def make(systems: tuple[System, ...] | None = None, **train: Any) -> Experiment:
        recipe = load(Recipe, bursts / "recipe.toml")
        chosen = systems or resolve(str(bursts / "systems.toml"))
        options = {"folds": 2, "recipe": replace(recipe, train=replace(recipe.train, **train)), "device": "cpu"}
        manifest = Manifest.read(bursts / "manifest.csv")
        return plan_experiment(manifest, chosen, tmp_path / "run", cache=bursts / "cache", **options)[0]

    return make


def cost(training: float, scoring: float = 0.0, epochs: int = 100) -> Cost:
    return Cost(training, scoring, front_end=0.001, recognition=0.002, epochs=epochs, parameters=10)


def test_what_is_left_is_added_up(plan: Any) -> None:
    experiment = plan(max_epochs=100, patience=10)
    fold = experiment.plan.folds[0]
    train, validation = len(fold.train), len(fold.validation)
    found = estimate(experiment, 1, {"baseline": cost(0.1, 0.05), "focal": cost(0.2)})
    assert found.hours["baseline/fold-0/seed-0"] == pytest.approx(100 * (0.1 * train + 0.05 * validation) / 3600)
    assert found.longest_hours == pytest.approx(sum(found.hours.values()))
    assert found.typical_hours == pytest.approx(costs.TYPICAL_EPOCHS * found.longest_hours)
    assert estimate(experiment, 4, found.costs).longest_hours == pytest.approx(found.longest_hours / 4)
    assert estimate(experiment, 99, found.costs).longest_hours == pytest.approx(found.longest_hours / 4)  # four jobs


def test_finished_jobs_cost_nothing_and_a_network_s_own_epochs_count(plan: Any) -> None:
    experiment = plan()
    run_jobs(experiment, experiment.jobs[:1])
    known = {"baseline": cost(0.1, epochs=3), "focal": cost(0.1, epochs=1)}
    found = estimate(experiment, 1, known)
    assert sorted(found.hours) == ["baseline/fold-1/seed-0", "focal/fold-0/seed-0", "focal/fold-1/seed-0"]
    train = {fold.index: len(fold.train) for fold in experiment.plan.folds}
    assert found.hours["baseline/fold-1/seed-0"] == pytest.approx(3 * 0.1 * train[1] / 3600)
    assert found.hours["focal/fold-1/seed-0"] == pytest.approx(0.1 * train[1] / 3600)
    assert found.typical_hours == found.longest_hours  # three epochs and a patience of ten: none stops early


def test_measured_on_the_utterances_themselves(plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step of a batch, and one scoring of another."""
    experiment, shown = plan(), []
    fit = costs.fit

    def watched(system: System, clips: Clips, train: Any, validation: Any, *rest: Any, **options: Any) -> Any:
        shown.append((clips is experiment.data.clips[system.features], len(train.rows), len(validation.rows)))
        return fit(system, clips, train, validation, *rest, **options)

    monkeypatch.setattr(costs, "fit", watched)
    before = torch.get_num_threads()
    found = measure(experiment, experiment.systems)
    assert torch.get_num_threads() == before
    assert shown == [(True, 8, 8)]  # both systems have one network: their losses make no difference
    assert found["baseline"] == found["focal"]
    network, _ = experiment.systems[0].build(4)
    assert found["baseline"].parameters == sum(parameter.numel() for parameter in network.parameters())
    assert found["baseline"].epochs == 3
    for each in found.values():
        assert min(each.training, each.scoring, each.front_end, each.recognition) >= 0


def test_an_epoch_is_a_step_and_a_scoring(plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that each scoring moves by a second and each step by three."""
    experiment, now = plan(), [0.0]
    monkeypatch.setattr(costs, "_clock", lambda experiment: lambda: now[0])

    def ticking(work: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            now[0] += seconds
            return work(*arguments, **options)

        return timed

    monkeypatch.setattr(costs, "score", ticking(costs.score, 1.0))
    monkeypatch.setattr(fitting, "score", ticking(fitting.score, 1.0))
    monkeypatch.setattr(fitting, "augment", ticking(fitting.augment, 3.0))  # once a batch
    found = measure(experiment, experiment.systems)["baseline"]
    assert (found.training, found.scoring) == pytest.approx((3.0 / 8, 1.0 / 8))
    assert (found.front_end, found.recognition) == (0.0, 1.0)


def test_other_programs_do_not_count_where_a_job_has_one_thread(plan: Any) -> None:
    experiment = plan()
    assert costs._clock(experiment) is time.process_time
    assert costs._clock(replace(experiment, threads=2)) is time.perf_counter


def test_batches_are_as_the_recipe_makes_them() -> None:
    clips = Clips.of([torch.zeros(length, 1) for length in (1, 50, 100, 49, 99, 51, 50)], silence=0.0)
    bucketed = costs._training_rows(clips, TrainConfig(batch_size=3, bucketed=True))
    assert sorted(clips.lengths[bucketed].tolist()) == [50, 50, 51]
    unordered = costs._training_rows(clips, TrainConfig(batch_size=7))
    assert sorted(unordered.tolist()) == list(range(7))
    assert len(costs._typical_rows(clips, 99)) == 7


def test_the_least_number_of_steps_is_counted_in_epochs(plan: Any) -> None:
    experiment = plan(max_epochs=2, min_steps=100)
    batches = -(-len(experiment.plan.folds[0].train) // experiment.recipe.train.batch_size)
    assert measure(experiment, experiment.systems)["baseline"].epochs == -(-100 // batches)


def test_a_machine_that_solves_has_few_epochs(plan: Any) -> None:
    experiment = plan((SYSTEMS["functionals-svm"],), max_epochs=50)
    assert measure(experiment, experiment.systems)["functionals-svm"].epochs == 6


def test_costs_are_kept_by_device_and_added_to(plan: Any, tmp_path: Path) -> None:
    experiment = plan(max_epochs=100, patience=10)
    path = write_costs(experiment, {"baseline": cost(0.1)})
    write_costs(experiment, {"focal": cost(0.2)})
    (device,) = json.loads(path.read_text())
    assert device == device_name(experiment)
    assert device.endswith("1 thread")
    kept = json.loads(path.read_text())[device]
    assert set(kept) == {"baseline", "focal"}
    train = np.mean([len(fold.train) for fold in experiment.plan.folds])
    assert kept["focal"]["longest_job_hours"] == pytest.approx(100 * 0.2 * train / 3600)
    assert kept["focal"]["job_hours"] == pytest.approx(costs.TYPICAL_EPOCHS * kept["focal"]["longest_job_hours"])
    assert {"training", "scoring", "front_end", "recognition", "parameters", "epochs"} <= set(kept["focal"])
