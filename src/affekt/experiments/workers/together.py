"""Jobs of an experiment side by side on one GPU: in threads of this process that take turns, each with its own stream.

Processes would have to share the GPU by slices of time, and each would hold the features of the corpus. Streams run
beside each other: where one training leaves the GPU idle, between the small steps of its LSTM say, the others compute.
"""

from __future__ import annotations

from collections.abc import Sequence

from affekt.errors import AffektError, Fault
from affekt.experiment import Experiment, Job, faults_of, run_jobs, take, torch_threads
from affekt.turns import pass_on, take_turns
from affekt.workers.engine import OnDone, OnEpoch, still_open


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
        self.count = count

    def run(self) -> None:
        """Do all jobs, then those that another process held."""
        take_turns([self._work] * self.count, "affekt-job")
        try:
            run_jobs(self.experiment, self.held, self.on_epoch, self.on_done)
        except AffektError as error:
            self.faults += error.faults
        if self.faults:
            raise AffektError.of(self.faults)

    def _work(self) -> None:
        """A thread's life: take a job, do it, take the next, until none is left."""
        while self.waiting:
            self._do(self.waiting.pop(0))
            pass_on()

    def _do(self, job: Job) -> None:
        try:
            if take(self.experiment, job, self.on_epoch):
                self.on_done(job)
            else:
                self.held.append(job)
        except AffektError as error:
            self.faults += faults_of(job, error)
