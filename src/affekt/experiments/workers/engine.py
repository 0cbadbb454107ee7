"""The interface of engines: functions that run the jobs of an experiment somewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from affekt.experiments.plan import Experiment, TrainingJob
from affekt.training.fitted import Epoch

OnEpoch = Callable[[TrainingJob, Epoch], object]
OnDone = Callable[[TrainingJob], object]


class Engine(Protocol):
    """Runs jobs. It is called in the process that has the run directory, and only that process writes to it.

    A finished job is reported and not repeated. A job that another process holds is waited for at the end. A job
    resumes from the state in its folder, whichever engine wrote it. The numbers do not depend on the engine.

    Raises:
        AffektError: the faults of failed jobs, after all others are done.
    """

    def __call__(
        self, experiment: Experiment, jobs: Sequence[TrainingJob], on_epoch: OnEpoch = ..., on_done: OnDone = ...
    ) -> None:
        """Return when every job is done or has failed."""
        ...


def still_open(jobs: Sequence[TrainingJob], on_done: OnDone) -> list[TrainingJob]:
    """The unfinished jobs; finished ones are reported to `on_done`."""
    left = []
    for job in jobs:
        if job.done:
            on_done(job)
        else:
            left.append(job)
    return left
