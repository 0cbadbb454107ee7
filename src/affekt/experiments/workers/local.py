"""An engine of worker processes on this machine.

Each worker has a pipe of its own, on which it receives one job at a time and reports epochs and results. The pipe
closes when either end dies. The job of a dead worker is queued again; a worker whose parent has died ends after its
epoch. Interrupted jobs resume from their last epoch.
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
CLOSED = (EOFError, ConnectionError)  # a pipe whose other end is closed


def run_parallel(
    experiment: Experiment,
    jobs: Sequence[TrainingJob],
    workers: int,
    on_epoch: OnEpoch = lambda job, epoch: None,
    on_done: OnDone = lambda job: None,
) -> None:
    """Run jobs in worker processes.

    Args:
        experiment, jobs, on_epoch, on_done: as for every engine.
        workers: number of processes; 1 runs the jobs in this process.

    Raises:
        AffektError: the faults of failed jobs, after all others are done.
    """
    open_jobs = still_open(jobs, on_done)
    if workers <= 1 or len(open_jobs) <= 1:
        run_jobs(experiment, open_jobs, on_epoch, on_done)
    else:
        _Pool(experiment, open_jobs, min(workers, len(open_jobs)), on_epoch, on_done).run()


class _Worker:
    """A worker process, its pipe and its current job."""

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
        """Hand out jobs until all are finished."""
        try:
            while self.waiting or any(worker.job for worker in self.workers):
                self._hand_out()
                for pipe in connection.wait([worker.pipe for worker in self.workers]):
                    self._listen(next(worker for worker in self.workers if worker.pipe is pipe))
        finally:
            for worker in self.workers:
                worker.process.kill()  # even one that is stopped (SIGSTOP); its files are written atomically
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
                with suppress(*CLOSED):  # it has died, which `_listen` will notice
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
        """Remove a dead worker and queue its job again, up to :data:`ATTEMPTS` times."""
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
        remedy = "is there enough memory? --jobs 1 needs least; finished jobs are kept"
        self.faults.append(Fault(f"job {name}", got, "a worker that lives", remedy))


@contextmanager
def _sigint_held() -> Iterator[None]:
    """Block SIGINT while processes start, so that they inherit the mask and only the parent reacts to Ctrl-C.

    The mask holds for this thread alone: another thread may receive the signal, and Python would then interrupt the
    main thread while a process is half started. So the signal is also caught, and raised again after the block.
    """
    resource_tracker.ensure_running()  # started later, it would unblock the signal
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
    """Main loop of a worker: receive a job, run it, report, until the parent closes the pipe."""
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
    except Exception:  # a bug: its traceback is raised in the parent
        return "broken", traceback.format_exc()
    return ("done" if taken else "held"), None
