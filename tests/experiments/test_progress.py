"""Progress of an experiment from Python: shown in interactive sessions and on demand, silent in programs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from affekt.experiments import workers

JOBS = [SimpleNamespace(name="baseline/fold-0/seed-0"), SimpleNamespace(name="focal/fold-0/seed-0")]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """`run(progress=...)`: an experiment of two jobs without data; the names of those whose end was reported."""
    steps: list[Any] = []

    def plan(*_: Any, on_progress: Callable[[str, int, int], object] = lambda *_: None, **__: Any) -> Any:
        steps.append(on_progress)
        on_progress("features", 1, 2)
        return SimpleNamespace(jobs=JOBS, recipe=SimpleNamespace(train=SimpleNamespace(max_epochs=3))), []

    def engine(planned: Any, jobs: Any, on_epoch: Any, on_done: Any) -> None:
        for job in jobs:
            on_epoch(job, SimpleNamespace(epoch=1, validation_accuracy=0.5))
            on_done(job)

    monkeypatch.setattr(workers, "plan_experiment", plan)
    monkeypatch.setattr(workers, "finish", lambda planned: None)

    def start(**options: Any) -> list[str]:
        done: list[str] = []
        workers.run_experiment(None, [], "out", engine=engine, on_done=lambda job: done.append(job.name), **options)  # type: ignore[arg-type]
        return done

    return start


def test_a_program_is_silent(run: Callable[..., list[str]], capfd: pytest.CaptureFixture[str]) -> None:
    assert run() == [job.name for job in JOBS]
    assert capfd.readouterr().err == ""


def test_progress_is_shown_on_demand(run: Callable[..., list[str]], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(progress=True) == [job.name for job in JOBS]  # the caller's own function is called too
    assert capfd.readouterr().err.splitlines() == [f"[{count}/2] {job.name}" for count, job in enumerate(JOBS, 1)]


def test_an_interactive_session_shows_it(
    run: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    run()
    assert "[2/2] focal/fold-0/seed-0" in capfd.readouterr().err
    run(progress=False)
    assert capfd.readouterr().err == ""
