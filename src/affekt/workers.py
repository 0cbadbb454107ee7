"""Jobs of an experiment side by side, in processes of this machine.

A worker is told one job at a time and says what it does; one that dies gives its job back, and the jobs of an
interrupted experiment go on from their last epoch.
"""

from __future__ import annotations

import queue
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.multiprocessing as multiprocessing

from affekt.errors import AffektError, AudioError
from affekt.experiment import Experiment, Job, finish, plan_experiment, run_jobs, take
from affekt.manifest import Manifest
from affekt.results import Results
from affekt.systems import System
from affekt.training import Epoch

POLL_SECONDS = 0.5
ATTEMPTS = 2


@dataclass
class _Worker:
    process: Any
    inbox: Any
    job: Job | None = None


def run_parallel(
    experiment: Experiment,
    jobs: Sequence[Job],
    workers: int,
    on_epoch: Callable[[Job, Epoch], object] = lambda job, epoch: None,
    on_done: Callable[[Job], object] = lambda job: None,
) -> None:
    """Run jobs in `workers` processes; with one worker, in this process.

    Raises:
        AffektError: what a job raised, or that a job's worker died twice.
    """
    open_jobs = [job for job in jobs if not job.done]
    for job in jobs:
        if job not in open_jobs:
            on_done(job)
    if workers <= 1 or len(open_jobs) <= 1:
        run_jobs(experiment, open_jobs, on_epoch, on_done)
        return
    _Pool(experiment, open_jobs, min(workers, len(open_jobs)), on_epoch, on_done).run()


class _Pool:
    def __init__(
        self,
        experiment: Experiment,
        jobs: Sequence[Job],
        workers: int,
        on_epoch: Callable[[Job, Epoch], object],
        on_done: Callable[[Job], object],
    ) -> None:
        self.context = multiprocessing.get_context("spawn")
        self.experiment, self.on_epoch, self.on_done = experiment, on_epoch, on_done
        self.waiting = list(jobs)
        self.held: list[Job] = []
        self.failures: dict[str, int] = {}
        self.outbox = self.context.Queue()
        self.workers = [self._start() for _ in range(workers)]

    def _start(self) -> _Worker:
        inbox = self.context.Queue()
        process = self.context.Process(target=_work, args=(self.experiment, inbox, self.outbox), daemon=True)
        process.start()
        return _Worker(process, inbox)

    def run(self) -> None:
        """Hand out jobs until none is left."""
        try:
            while self.waiting or any(worker.job for worker in self.workers):
                self._hand_out()
                self._listen()
                self._bury()
        finally:
            for worker in self.workers:
                worker.process.terminate()
            for worker in self.workers:
                worker.process.join()
        run_jobs(self.experiment, self.held, self.on_epoch, self.on_done)

    def _hand_out(self) -> None:
        for worker in self.workers:
            if worker.job is None and self.waiting:
                worker.job = self.waiting.pop(0)
                worker.inbox.put(worker.job)

    def _listen(self) -> None:
        try:
            name, kind, content = self.outbox.get(timeout=POLL_SECONDS)
        except queue.Empty:
            return
        worker = next(worker for worker in self.workers if worker.job is not None and worker.job.name == name)
        job = worker.job
        assert job is not None
        if kind == "epoch":
            self.on_epoch(job, content)
            return
        worker.job = None
        if kind == "done":
            self.on_done(job)
        elif kind == "held":
            self.held.append(job)
        elif isinstance(content, AffektError):
            raise content
        else:
            raise RuntimeError(f"job {name} failed:\n{content}")

    def _bury(self) -> None:
        """Replace dead workers; their jobs go back to the front, but not for ever."""
        for index, worker in enumerate(self.workers):
            if worker.process.is_alive():
                continue
            if worker.job is not None:
                self._give_back(worker.job, worker.process.exitcode)
            self.workers[index] = self._start()

    def _give_back(self, job: Job, exit_code: int | None) -> None:
        self.failures[job.name] = self.failures.get(job.name, 0) + 1
        if self.failures[job.name] >= ATTEMPTS:
            raise AffektError(
                f"job {job.name}",
                got=f"a worker that died with exit code {exit_code}, {ATTEMPTS} times",
                expected="a worker that lives",
                remedy="is there enough memory? --jobs 1 needs least; what is finished is kept",
            )
        self.waiting.insert(0, job)


def _work(experiment: Experiment, inbox: Any, outbox: Any) -> None:
    """A worker's life: take a job, say how it went, take the next."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    while True:
        job = inbox.get()
        try:
            taken = take(experiment, job, lambda job, epoch: outbox.put((job.name, "epoch", epoch)))
            outbox.put((job.name, "done" if taken else "held", None))
        except AffektError as error:
            outbox.put((job.name, "failed", error))
        except Exception:
            outbox.put((job.name, "failed", traceback.format_exc()))


def run_experiment(
    manifest: Manifest,
    systems: Sequence[System],
    out: str | Path,
    *,
    workers: int = 1,
    on_epoch: Callable[[Job, Epoch], object] = lambda job, epoch: None,
    on_done: Callable[[Job], object] = lambda job: None,
    **options: Any,
) -> Results:
    """An experiment from manifest to results, in one call; resumes what `out` holds.

    Args:
        manifest, systems, out: what is compared, on what, and where it is kept.
        workers: jobs side by side; own classes then have to be importable from a module.
        on_epoch, on_done: called as the jobs go.
        options: of :func:`affekt.experiment.plan_experiment`: protocol, folds, seeds, labels, recipe, device, ...

    Raises:
        AudioError: recordings that cannot be decoded. (The command line leaves them out and says so.)
    """
    planned, failures = plan_experiment(manifest, systems, out, **options)
    if failures:
        raise AudioError.of(failures)
    run_parallel(planned, planned.jobs, workers, on_epoch, on_done)
    return finish(planned)
