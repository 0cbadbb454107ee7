"""What an engine is: a function that sees to it that the jobs of an experiment are done, wherever they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from affekt.experiments.plan import Experiment, TrainingJob
from affekt.training.fitted import Epoch

OnEpoch = Callable[[TrainingJob, Epoch], object]
OnDone = Callable[[TrainingJob], object]


class Engine(Protocol):
    """Runs jobs; called in the process that has the run directory, which alone writes to it.

    A job that is done already is reported and not run; one that another process holds is waited for at the end. A job
    goes on from the last epoch that its folder holds, whichever engine computed that. The numbers do not depend on the
    engine.

    Raises:
        AffektError: why some jobs failed, once the others are done.
    """

    def __call__(
        self, experiment: Experiment, jobs: Sequence[TrainingJob], on_epoch: OnEpoch = ..., on_done: OnDone = ...
    ) -> None:
        """Return when every job is done or has failed."""
        ...


def still_open(jobs: Sequence[TrainingJob], on_done: OnDone) -> list[TrainingJob]:
    """The jobs that are to be run; the others are reported."""
    left = []
    for job in jobs:
        if job.done:
            on_done(job)
        else:
            left.append(job)
    return left
