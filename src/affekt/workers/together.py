"""Jobs of an experiment side by side on one GPU: in threads of this process that take turns, each with its own stream.

Processes would have to share the GPU by slices of time, and each would hold the features of the corpus. Streams run
beside each other: where one training leaves the GPU idle, between the small steps of its LSTM say, the others compute.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress

from affekt.errors import AffektError, Fault
from affekt.experiment import Experiment, Job, faults_of, run_jobs, take, torch_threads
from affekt.turns import Abandoned, Turns
from affekt.workers.engine import OnDone, OnEpoch, still_open

POLL_SECONDS = 0.1  # so that Ctrl-C is heard on every system


def run_together(
    experiment: Experiment,
    jobs: Sequence[Job],
    count: int,
    on_epoch: OnEpoch = lambda job, epoch: None,
    on_done: OnDone = lambda job: None,
) -> None:
    """Run jobs in this process, `count` at a time; the results are those of one after the other.

    Raises:
        AffektError: why some jobs failed, once the others are done.
    """
    open_jobs = still_open(jobs, on_done)
    count = min(count, len(open_jobs))
    if count <= 1:
        run_jobs(experiment, open_jobs, on_epoch, on_done)
    else:
        with torch_threads(experiment.threads):
            _Together(experiment, open_jobs, count, on_epoch, on_done).run()


class _Together:
    def __init__(
        self, experiment: Experiment, jobs: Sequence[Job], count: int, on_epoch: OnEpoch, on_done: OnDone
    ) -> None:
        self.experiment, self.on_epoch, self.on_done = experiment, on_epoch, on_done
        self.waiting = list(jobs)
        self.held: list[Job] = []
        self.faults: list[Fault] = []
        self.broken: list[Exception] = []
        self.turns = Turns()
        self.threads = [threading.Thread(target=self._work, name=f"affekt-job-{n}", daemon=True) for n in range(count)]

    def run(self) -> None:
        """Wait for the threads; what interrupts the waiting ends them with their step."""
        try:
            for thread in self.threads:
                thread.start()
            while alive := [thread for thread in self.threads if thread.is_alive()]:
                alive[0].join(POLL_SECONDS)
        finally:
            self.turns.give_up()
            for thread in self.threads:
                if thread.ident is not None:
                    thread.join()
        if self.broken:
            raise self.broken[0]
        try:
            run_jobs(self.experiment, self.held, self.on_epoch, self.on_done)
        except AffektError as error:
            self.faults += error.faults
        if self.faults:
            raise AffektError.of(self.faults)

    def _work(self) -> None:
        """A thread's life: take a job, do it, take the next, until none is left."""
        with suppress(Abandoned), self.turns.taken():
            while self.waiting:
                self._do(self.waiting.pop(0))
                self.turns.pass_on()

    def _do(self, job: Job) -> None:
        try:
            if take(self.experiment, job, self.on_epoch):
                self.on_done(job)
            else:
                self.held.append(job)
        except AffektError as error:
            self.faults += faults_of(job, error)
        except Exception as error:  # it is raised where the threads are waited for
            self.broken.append(error)
            self.turns.give_up()
