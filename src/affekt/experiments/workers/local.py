"""Jobs of an experiment side by side, in processes of this machine.

A worker is told one job at a time and says what it does, through a pipe of its own that ends when either of the two
dies. A worker that dies gives its job back; a worker whose parent has died ends with its epoch. The jobs of an
interrupted experiment go on from their last epoch.
"""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from typing import Any

import torch.multiprocessing as multiprocessing

from affekt.errors import AffektError, Fault
from affekt.experiments.jobs import faults_of, run_jobs, take
from affekt.experiments.plan import Experiment, TrainingJob
from affekt.experiments.workers.engine import OnDone, OnEpoch, still_open

ATTEMPTS = 2
CLOSED = (EOFError, ConnectionError)  # of a pipe whose other end is gone


def run_parallel(
    experiment: Experiment,
    jobs: Sequence[TrainingJob],
    workers: int,
    on_epoch: OnEpoch = lambda job, epoch: None,
    on_done: OnDone = lambda job: None,
) -> None:
    """Run jobs in `workers` processes; with one worker, in this process.

    Raises:
        AffektError: why some jobs failed, once the others are done.
    """
    open_jobs = still_open(jobs, on_done)
    if workers <= 1 or len(open_jobs) <= 1:
        run_jobs(experiment, open_jobs, on_epoch, on_done)
    else:
        _Pool(experiment, open_jobs, min(workers, len(open_jobs)), on_epoch, on_done).run()


class _Worker:
    """A process, the pipe to it, and the job that it has."""

    def __init__(self, experiment: Experiment) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(experiment, theirs), daemon=True)
        with _sigint_held():
            self.process.start()
        theirs.close()
        self.job: TrainingJob | None = None


class _Pool:
    def __init__(
        self,
        experiment: Experiment,
        jobs: Sequence[TrainingJob],
        workers: int,
        on_epoch: OnEpoch,
        on_done: OnDone,
    ) -> None:
        self.experiment, self.on_epoch, self.on_done = experiment, on_epoch, on_done
        self.waiting = list(jobs)
        self.held: list[TrainingJob] = []
        self.deaths: dict[str, int] = {}
        self.faults: list[Fault] = []
        self.size = workers
        self.workers: list[_Worker] = []

    def run(self) -> None:
        """Hand out jobs until none is left."""
        try:
            while self.waiting or any(worker.job for worker in self.workers):
                self._hand_out()
                for pipe in connection.wait([worker.pipe for worker in self.workers]):
                    self._listen(next(worker for worker in self.workers if worker.pipe is pipe))
        finally:
            for worker in self.workers:
                worker.process.kill()  # even one that is stopped; what it wrote is whole, as after any other death
            for worker in self.workers:
                worker.process.join()
        try:
            run_jobs(self.experiment, self.held, self.on_epoch, self.on_done)
        except AffektError as error:
            self.faults += error.faults
        if self.faults:
            raise AffektError.of(self.faults)

    def _hand_out(self) -> None:
        while self.waiting and len(self.workers) < self.size:
            self.workers.append(_Worker(self.experiment))
        for worker in self.workers:
            if worker.job is None and self.waiting:
                worker.job = self.waiting.pop(0)
                with suppress(*CLOSED):  # it has died: we shall hear of it
                    worker.pipe.send(worker.job)

    def _listen(self, worker: _Worker) -> None:
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
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
        elif kind == "failed":
            self.faults += faults_of(job, content)
        else:
            raise RuntimeError(f"job {job.name}:\n{content}")

    def _bury(self, worker: _Worker) -> None:
        """Forget a dead worker; its job goes back to the front, but not for ever."""
        worker.process.join()
        worker.pipe.close()
        self.workers.remove(worker)
        if worker.job is None:
            return
        name = worker.job.name
        self.deaths[name] = self.deaths.get(name, 0) + 1
        if self.deaths[name] < ATTEMPTS:
            self.waiting.insert(0, worker.job)
            return
        got = f"a worker that died with exit code {worker.process.exitcode}, {ATTEMPTS} times"
        remedy = "is there enough memory? --jobs 1 needs least; what is finished is kept"
        self.faults.append(Fault(f"job {name}", got, "a worker that lives", remedy))


@contextmanager
def _sigint_held() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: the parent hears it, once they are started, and ends them.

    They inherit the mask. It is this thread's alone: where another takes the signal, Python would interrupt the main
    thread all the same, with half a process started. So the signal is noted, and raised again after the block.
    """
    resource_tracker.ensure_running()  # when it starts later, it lets the signal through again
    heard: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, _: heard.append(number)) if in_main else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if in_main:
            signal.signal(signal.SIGINT, handler)
        if heard:
            signal.raise_signal(signal.SIGINT)


def _work(experiment: Experiment, pipe: Any) -> None:
    """A worker's life: take a job, say how it went, take the next, until the parent is gone."""
    with suppress(*CLOSED):
        while True:
            pipe.send(_attempt(experiment, pipe.recv(), pipe))


def _attempt(experiment: Experiment, job: TrainingJob, pipe: Any) -> tuple[str, object]:
    try:
        taken = take(experiment, job, lambda job, epoch: pipe.send(("epoch", epoch)))
    except CLOSED:
        raise
    except AffektError as error:
        return "failed", error
    except Exception:  # it cannot be raised here, so it is raised in the parent
        return "broken", traceback.format_exc()
    return ("done" if taken else "held"), None
