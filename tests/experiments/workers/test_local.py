"""Jobs side by side: the same numbers as one after the other, whoever dies meanwhile."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from filelock import FileLock
from torch import Tensor

from affekt.config import load
from affekt.data.manifest import Manifest
from affekt.errors import AffektError, AudioError, Fault
from affekt.experiments.jobs import finish
from affekt.experiments.plan import Experiment, TrainingJob, plan_experiment
from affekt.experiments.workers import local as workers
from affekt.experiments.workers import run_experiment, run_parallel
from affekt.training.fitted import Epoch
from affekt.training.recipes import Recipe
from affekt.training.systems import System, resolve

EXACT = ("model.safetensors", "predictions.csv", "embeddings.npy", "summary.json", "folds.json")

PROGRAM = """
import os, signal, sys
from pathlib import Path
from affekt.config import load
from affekt.experiments.jobs import finish
from affekt.experiments.plan import plan_experiment
from affekt.data.manifest import Manifest
from affekt.training.recipes import Recipe
from affekt.training.systems import resolve
from affekt.experiments.workers import run_parallel

bursts, out, workers, kill_after = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
experiment, _ = plan_experiment(
    Manifest.read(bursts / "manifest.csv"), resolve(str(bursts / "systems.toml")), out, folds=2,
    recipe=load(Recipe, bursts / "recipe.toml"), device="cpu", cache=bursts / "cache")
seen = []

def on_epoch(job, epoch):
    seen.append(epoch)
    if len(seen) == kill_after:
        import multiprocessing
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

run_parallel(experiment, experiment.jobs, workers, on_epoch)
finish(experiment)
"""
"""An experiment in a process of its own, which kills itself after so many epochs (-1: never)."""


@pytest.fixture
def plan(bursts: Path) -> Callable[..., Experiment]:
    def make(out: Path, systems: tuple[System, ...] = ()) -> Experiment:
        manifest, recipe = Manifest.read(bursts / "manifest.csv"), load(Recipe, bursts / "recipe.toml")
        systems = systems or resolve(str(bursts / "systems.toml"))
        cache = bursts / "cache"
        return plan_experiment(manifest, systems, out, folds=2, recipe=recipe, device="cpu", cache=cache)[0]

    return make


@pytest.fixture(scope="module")
def reference(bursts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one worker computes, one job after the other."""
    out = tmp_path_factory.mktemp("reference") / "run"
    manifest, recipe = Manifest.read(bursts / "manifest.csv"), load(Recipe, bursts / "recipe.toml")
    options: dict[str, Any] = {"folds": 2, "recipe": recipe, "device": "cpu", "cache": bursts / "cache"}
    results = run_experiment(manifest, resolve(str(bursts / "systems.toml")), out, **options)
    assert len(results.jobs) == 4
    return numbers(out)


def numbers(out: Path) -> dict[str, bytes]:
    """Every file that holds no times."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.name in EXACT}


def start(bursts: Path, out: Path, workers: int, kill_after: int = -1) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", PROGRAM, str(bursts), str(out), str(workers), str(kill_after)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # gone meanwhile, or a system without /proc
        return not Path("/proc").exists()


def test_two_workers_give_the_numbers_of_one_though_one_of_them_is_killed(
    plan: Any, reference: dict[str, bytes], tmp_path: Path
) -> None:
    experiment = plan(tmp_path / "run")
    epochs: list[str] = []
    done: list[str] = []
    killed: list[int] = []

    def on_epoch(job: TrainingJob, epoch: Epoch) -> None:
        epochs.append(f"{job.name}:{epoch.epoch}")
        if not killed and epoch.epoch == 2:
            victims = [child.pid for child in multiprocessing.active_children()]
            assert len(victims) == 2
            killed.append(victims[0])  # perhaps in the middle of this job, perhaps of the other
            os.kill(victims[0], signal.SIGKILL)

    run_parallel(experiment, experiment.jobs, 2, on_epoch, lambda job: done.append(job.name))
    finish(experiment)
    assert len(killed) == 1
    assert numbers(tmp_path / "run") == reference
    assert sorted(done) == sorted(job.name for job in experiment.jobs)
    assert {f"{job.name}:{epoch}" for job in experiment.jobs for epoch in (1, 2, 3)} == set(epochs)
    assert multiprocessing.active_children() == []
    run_parallel(
        experiment, experiment.jobs, 2, lambda *epoch: epochs.append("again"), lambda job: done.append(job.name)
    )
    assert "again" not in epochs
    assert len(done) == 8  # all jobs are reported, though none was run


def test_killed_in_the_middle_and_started_again(bursts: Path, plan: Any, reference: Any, tmp_path: Path) -> None:
    """SIGKILL for the parent: its workers end by themselves, and what they did is gone on with."""
    out = tmp_path / "run"
    process = start(bursts, out, workers=2, kill_after=4)
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, errors
    children = [int(pid) for pid in printed.split()]
    assert len(children) == 2
    experiment = plan(out)
    assert not all(job.done for job in experiment.jobs)
    epochs: list[Epoch] = []
    run_parallel(experiment, experiment.jobs, 1, lambda job, epoch: epochs.append(epoch))
    finish(experiment)
    assert numbers(out) == reference
    assert len(epochs) < 12  # something was kept
    deadline = time.monotonic() + 60
    while any(map(is_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, children))


def test_two_processes_on_one_run_directory(bursts: Path, plan: Any, reference: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(bursts, out, workers=1)
    try:
        while process.poll() is None and not (out / "config.toml").exists():
            time.sleep(0.01)
        experiment = plan(out)
        done: list[str] = []
        run_parallel(experiment, experiment.jobs, 1, on_done=lambda job: done.append(job.name))
        finish(experiment)
        assert numbers(out) == reference
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert numbers(out) == reference
    assert sorted(done) == sorted(job.name for job in experiment.jobs)


@dataclass
class Actor:
    """In the place of a worker: a thread that answers each job as the play says, or dies of it."""

    experiment: Experiment
    play: ClassVar[dict[str, tuple[str, object]]] = {}
    job: TrainingJob | None = None

    def __post_init__(self) -> None:
        self.pipe, self.theirs = multiprocessing.Pipe()
        self.process = SimpleNamespace(exitcode=-9, join=lambda: None, kill=lambda: None)
        threading.Thread(target=self.act, daemon=True).start()

    def act(self) -> None:
        with contextlib.suppress(*workers.CLOSED):
            while True:
                answer = self.play[self.theirs.recv().name]
                if answer[0] == "dies":
                    self.theirs.close()
                    return
                self.theirs.send(answer)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, object]]:
    """What workers answer to each job."""
    monkeypatch.setattr(Actor, "play", {})
    monkeypatch.setattr(workers, "_Worker", Actor)
    return Actor.play


def test_jobs_that_fail_or_kill_their_workers_do_not_stop_the_others(plan: Any, tmp_path: Path, play: Any) -> None:
    experiment = plan(tmp_path / "run")
    names = [job.name for job in experiment.jobs]
    error = AffektError.of([Fault("memory", "none"), Fault("disk", "full")])
    play |= dict(zip(names, [("dies", None), ("done", None), ("failed", error), ("done", None)], strict=True))
    done: list[str] = []
    with pytest.raises(AffektError) as raised:
        run_parallel(experiment, experiment.jobs, 2, on_done=lambda job: done.append(job.name))
    assert sorted(done) == sorted([names[1], names[3]])
    lines = sorted(map(str, raised.value.faults))
    assert len(lines) == 3
    assert lines[0].startswith(f"job {names[0]}: got a worker that died with exit code -9, 2 times, expected a worker")
    assert lines[1:] == [f"job {names[2]}: disk: got full", f"job {names[2]}: memory: got none"]


def test_a_defect_ends_it_all_with_its_traceback(plan: Any, tmp_path: Path, play: Any) -> None:
    experiment = plan(tmp_path / "run")
    play |= {job.name: ("broken", "Traceback: what happened") for job in experiment.jobs}
    with pytest.raises(RuntimeError, match=r"job (baseline|focal)/fold-0/seed-0:\nTraceback: what happened"):
        run_parallel(experiment, experiment.jobs[:2], 2)


def test_jobs_that_others_hold_are_waited_for_at_the_end(plan: Any, tmp_path: Path, play: Any) -> None:
    experiment = plan(tmp_path / "run")
    first, second = experiment.jobs[:2]
    play |= {first.name: ("held", None), second.name: ("done", None)}
    done: list[str] = []
    run_parallel(experiment, [first, second], 2, on_done=lambda job: done.append(job.name))
    assert done == [second.name, first.name]
    assert first.done  # by this process, since nobody held it any more
    assert not second.done


def test_what_a_worker_answers(plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = plan(tmp_path / "run")
    job, other = experiment.jobs[:2]
    ours, theirs = multiprocessing.Pipe()
    with FileLock(job.folder / ".lock"):
        assert workers._attempt(experiment, job, theirs) == ("held", None)
    assert workers._attempt(experiment, job, theirs) == ("done", None)
    assert [ours.recv()[0] for _ in range(3)] == ["epoch"] * 3
    labels = experiment.data.labels + 1  # the last is no class
    kind, trace = workers._attempt(replace(experiment, data=replace(experiment.data, labels=labels)), other, theirs)
    assert (kind, str(trace).splitlines()[0]) == ("broken", "Traceback (most recent call last):")
    kind, error = workers._attempt(replace(experiment, device="tpu"), other, theirs)
    assert (kind, str(error).partition(",")[0]) == ("failed", "device: got 'tpu'")
    assert [str(fault) for fault in pickle.loads(pickle.dumps(error)).faults] == [str(error)]  # as the pipe carries it
    ours.close()
    workers._work(experiment, theirs)  # ends, for its parent is gone


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Tests in the background of a shell ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("by", ["this thread", "another"])
def test_ctrl_c_while_a_worker_is_started_is_heard_when_it_is(hears_ctrl_c: None, by: str) -> None:
    """Whichever thread takes the signal; and what is started meanwhile does not hear it."""
    now, started = threading.Event(), []
    thread = threading.Thread(target=lambda: now.wait(30) and by == "another" and signal.raise_signal(signal.SIGINT))
    thread.start()  # before the block, whose mask it would inherit

    def start_something() -> None:
        if by == "this thread":
            signal.raise_signal(signal.SIGINT)
        now.set()
        thread.join()
        started.append(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))

    with pytest.raises(KeyboardInterrupt), workers._sigint_held():
        start_something()
    assert started == [True]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def squares(scores: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
    return scores.square().mean()


def test_an_experiment_in_one_call(bursts: Path, tmp_path: Path) -> None:
    root = shutil.copytree(bursts, tmp_path / "bursts")
    manifest, recipe = Manifest.read(root / "manifest.csv"), load(Recipe, root / "recipe.toml")
    own = replace(resolve(str(root / "systems.toml"))[0], name="own", loss=squares)
    options: dict[str, Any] = {"recipe": replace(recipe, train=replace(recipe.train, max_epochs=1))}
    options |= {"folds": 2, "device": "cpu", "cache": root / "cache"}
    results = run_experiment(manifest, [own], tmp_path / "run", **options)
    assert results.jobs["epochs"].tolist() == [1, 1]
    (root / manifest.table["path"][0]).write_text("no audio")
    with pytest.raises(AudioError, match=r"s0-angry-0\.wav"):
        run_experiment(manifest, [own], tmp_path / "other", **options)
