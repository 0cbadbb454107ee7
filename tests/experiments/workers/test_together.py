"""Jobs that take turns in one process: the same numbers as one after the other, whatever happens to one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from affekt import experiment as experiments
from affekt.config import load
from affekt.devices import seeded
from affekt.errors import AffektError
from affekt.experiment import Experiment, Job, finish, plan_experiment, run_jobs
from affekt.manifest import Manifest
from affekt.recipes import Recipe
from affekt.systems import resolve
from affekt.training import Epoch
from affekt.turns import Abandoned, Turns, pass_on, pass_on_until, take_turns
from affekt.workers import local
from affekt.workers.together import run_together

EXACT = ("model.safetensors", "predictions.csv", "embeddings.npy", "summary.json")
Plan = Callable[[Path], Experiment]


@pytest.fixture
def plan(bursts: Path) -> Plan:
    def make(out: Path) -> Experiment:
        manifest, recipe = Manifest.read(bursts / "manifest.csv"), load(Recipe, bursts / "recipe.toml")
        systems = resolve(str(bursts / "systems.toml"))
        options: dict[str, Any] = {"folds": 2, "recipe": recipe, "device": "cpu", "cache": bursts / "cache"}
        return plan_experiment(manifest, systems, out, **options)[0]

    return make


def numbers(out: Path) -> dict[str, bytes]:
    """Every file that holds no times."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.name in EXACT}


@pytest.fixture
def reference(plan: Plan, tmp_path: Path) -> dict[str, bytes]:
    """One job after the other."""
    experiment = plan(tmp_path / "reference")
    run_jobs(experiment, experiment.jobs)
    finish(experiment)
    return numbers(experiment.out)


def test_taking_turns_changes_no_number(plan: Plan, reference: dict[str, bytes], tmp_path: Path) -> None:
    """Three of four jobs at a time, their epochs interleaved; on a CPU, where all is bit for bit."""
    experiment = plan(tmp_path / "run")
    epochs: list[str] = []
    done: list[str] = []
    before = torch.get_rng_state()
    run_together(
        experiment,
        experiment.jobs,
        3,
        lambda job, epoch: epochs.append(job.name),
        lambda job: done.append(job.name),
    )
    finish(experiment)
    assert numbers(experiment.out) == reference
    assert sorted(done) == sorted(job.name for job in experiment.jobs)
    assert len(set(epochs[:3])) > 1  # they did take turns
    assert torch.equal(torch.get_rng_state(), before)
    run_together(experiment, experiment.jobs, 3, lambda *epoch: pytest.fail("run twice"))


def test_a_job_that_fails_costs_the_others_nothing(
    plan: Plan, reference: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = plan(tmp_path / "run")
    fit = experiments.fit
    seed = experiment.job_seed(experiment.jobs[1])

    def failing(*arguments: Any, **options: Any) -> Any:
        if seed in arguments:
            raise AffektError("training", got="a loss of nan", expected="numbers")
        return fit(*arguments, **options)

    monkeypatch.setattr(experiments, "fit", failing)
    with pytest.raises(AffektError, match="loss of nan") as caught:
        run_together(experiment, experiment.jobs, 2)
    assert [fault.what for fault in caught.value.faults] == [f"job {experiment.jobs[1].name}: training"]
    assert [job.done for job in experiment.jobs] == [True, False, True, True]
    monkeypatch.undo()
    run_together(experiment, experiment.jobs, 2)
    finish(experiment)
    assert numbers(experiment.out) == reference


def test_a_defect_is_raised_and_ends_the_others_at_their_next_step(plan: Plan, tmp_path: Path) -> None:
    experiment = plan(tmp_path / "run")

    def on_epoch(job: Job, epoch: Epoch) -> None:
        if epoch.epoch == 2:
            raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError, match="a defect"):
        run_together(experiment, experiment.jobs, 2, on_epoch)
    assert not any(job.done for job in experiment.jobs)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("affekt-job")]


def test_an_interrupt_leaves_what_can_be_gone_on_with(
    plan: Plan, reference: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = plan(tmp_path / "run")
    heard = threading.Event()
    join = threading.Thread.join

    def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
        if heard.is_set():
            heard.clear()
            raise KeyboardInterrupt
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_together(experiment, experiment.jobs, 2, lambda job, epoch: heard.set())
    monkeypatch.undo()
    epochs: list[Epoch] = []
    run_together(experiment, experiment.jobs, 2, lambda job, epoch: epochs.append(epoch))
    finish(experiment)
    assert 0 < len(epochs) < 12  # something was kept
    assert numbers(experiment.out) == reference


def test_a_job_that_another_process_holds_is_waited_for(
    plan: Plan, reference: dict[str, bytes], tmp_path: Path
) -> None:
    experiment = plan(tmp_path / "run")
    held = experiment.jobs[0]
    held.folder.mkdir(parents=True)
    lock = FileLock(held.folder / ".lock", thread_local=False)
    lock.acquire()
    finished: list[str] = []

    def on_done(job: Job) -> None:
        finished.append(job.name)
        if len(finished) == len(experiment.jobs) - 1:
            lock.release()

    run_together(experiment, experiment.jobs, 2, on_done=on_done)
    finish(experiment)
    assert finished[-1] == held.name
    assert numbers(experiment.out) == reference


def test_a_gpus_jobs_take_turns_and_a_cpus_have_processes(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[str, int]] = []
    experiment = plan(tmp_path / "run")
    monkeypatch.setattr(local, "run_together", lambda planned, jobs, count, *_: called.append(("together", count)))
    monkeypatch.setattr(local, "run_jobs", lambda *_: called.append(("here", 1)))
    monkeypatch.setattr(local, "choose_device", lambda name: torch.device("cuda"))
    local.run_parallel(experiment, experiment.jobs, 4)
    monkeypatch.setattr(local, "choose_device", lambda name: torch.device("cpu"))
    local.run_parallel(experiment, experiment.jobs, 1)
    assert called == [("together", 4), ("here", 1)]


def test_random_numbers_go_with_the_thread() -> None:
    """What each of three threads draws, passing on after every draw, is what it would draw alone."""
    drawn: dict[int, list[float]] = {1: [], 2: [], 3: []}

    def draw(seed: int) -> None:
        with seeded(seed):
            for _ in range(4 + seed):
                drawn[seed].append(float(torch.rand(())))
                pass_on()

    before = torch.get_rng_state()
    take_turns([partial(draw, seed) for seed in drawn])
    assert torch.equal(torch.get_rng_state(), before)
    for seed, got in drawn.items():
        with seeded(seed):
            assert got == [float(torch.rand(())) for _ in range(4 + seed)]


def test_turns_go_round_and_end() -> None:
    order: list[str] = []

    def work(name: str, rounds: int) -> None:
        for _ in range(rounds):
            order.append(name)
            pass_on()

    def wait_for_all() -> None:
        order.append("first")
        pass_on_until(lambda: len(order) == 5)
        order.append("all")
        pass_on_until(lambda: False)  # until it is alone
        pass_on()
        order.append("alone")

    take_turns([wait_for_all, partial(work, "a", 1), partial(work, "b", 3)])
    assert order == ["first", "a", "b", "b", "b", "all", "alone"]


def test_one_that_fails_ends_those_that_wait() -> None:
    reached: list[str] = []

    def fail() -> None:
        pass_on()
        raise ZeroDivisionError("a defect")

    def wait_for_ever() -> None:
        reached.append("waiting")
        while True:
            pass_on()

    with pytest.raises(ZeroDivisionError, match="a defect"):
        take_turns([wait_for_ever, fail, wait_for_ever])
    assert reached == ["waiting", "waiting"]


def test_who_is_abandoned_says_so() -> None:
    turns = Turns(1)
    with turns.taken(0):
        turns.give_up()
        with pytest.raises(Abandoned):
            turns.pass_on()
    assert len(turns) == 0
    pass_on()  # outside: nothing
    pass_on_until(lambda: False)
