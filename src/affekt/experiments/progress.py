"""Progress of an experiment or of a training: bars on a terminal or in a notebook, lines in a file, or log records."""

from __future__ import annotations

import builtins
import logging
import sys
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Self

from affekt.runtime.logs import logs_json, say

if TYPE_CHECKING:
    from rich.progress import TaskID

    from affekt.experiments.plan import TrainingJob
    from affekt.training.fitted import Epoch


class ExperimentProgress:
    """Progress of an experiment: bars on a terminal or in a notebook, else one line for each finished job.

    Pass its methods to the functions that report progress.

    Args:
        max_epochs: of each training.
    """

    def __init__(self, max_epochs: int = 1) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.max_epochs = max_epochs
        self.console = Console(stderr=True)
        self.shows_bars = self.console.is_terminal or self.console.is_jupyter
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.shows_bars,
        )
        self.steps: dict[str, TaskID] = {}
        self.jobs: TaskID | None = None
        self.done = 0

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def on_progress(self, what: str, done: int, total: int) -> None:
        """Progress of a step before the jobs, such as the features."""
        if what not in self.steps:
            self.steps[what] = self.bar.add_task(what, total=total)
        self.bar.update(self.steps[what], completed=done)

    def start_jobs(self, total: int) -> None:
        """Set the number of jobs."""
        self.total = total
        self.jobs = self.bar.add_task("jobs", total=total)

    def on_epoch(self, job: TrainingJob, epoch: Epoch) -> None:
        """A job has finished an epoch."""
        if job.name not in self.steps:
            self.steps[job.name] = self.bar.add_task(f"  {job.name}", total=self.max_epochs)
        description = f"  {job.name}: validation accuracy {epoch.validation_accuracy:.3f}"
        self.bar.update(self.steps[job.name], completed=epoch.epoch, description=description)

    def on_done(self, job: TrainingJob) -> None:
        """A job is finished, now or in an earlier run."""
        self.done += 1
        if job.name in self.steps:
            self.bar.remove_task(self.steps.pop(job.name))
        if self.jobs is not None:
            self.bar.update(self.jobs, completed=self.done)
        if not self.shows_bars:
            print(f"[{self.done}/{self.total}] {job.name}", file=sys.stderr, flush=True)


class LoggedProgress(ExperimentProgress):
    """A log record for every event instead of bars; those of epochs are the rows of `history.csv`.

    Args:
        max_epochs: of each training.
    """

    def __init__(self, max_epochs: int = 1) -> None:
        super().__init__(max_epochs)
        self.bar.disable = True

    def on_epoch(self, job: TrainingJob, epoch: Epoch) -> None:
        """A job has finished an epoch."""
        say("epoch", logging.INFO, job=job.name, **asdict(epoch))

    def on_done(self, job: TrainingJob) -> None:
        """A job is finished, now or in an earlier run."""
        self.done += 1
        say("job done", logging.INFO, job=job.name, done=self.done, jobs=self.total)

    def on_model_epoch(self, epoch: Epoch) -> None:
        """The only training has finished an epoch."""
        say("epoch", logging.INFO, **asdict(epoch))


class ModelProgress(ExperimentProgress):
    """Progress of a single training, epoch by epoch."""

    def on_model_epoch(self, epoch: Epoch) -> None:
        """The training has finished an epoch."""
        task = self.steps.get("training")
        if task is None:
            task = self.steps["training"] = self.bar.add_task("training", total=self.max_epochs)
        self.bar.update(task, completed=epoch.epoch, description=f"training: validation UA {epoch.validation_ua:.3f}")
        if not self.shows_bars:
            print(
                f"[{epoch.epoch}/{self.max_epochs}] validation UA {epoch.validation_ua:.3f}",
                file=sys.stderr,
                flush=True,
            )


def make_progress(max_epochs: int) -> ExperimentProgress:
    """Progress of an experiment, as bars or, with `--log-format json`, as log records."""
    return LoggedProgress(max_epochs) if logs_json() else ExperimentProgress(max_epochs)


def make_model_progress(max_epochs: int) -> ModelProgress | LoggedProgress:
    """Progress of a single training, as bars or, with `--log-format json`, as log records."""
    return LoggedProgress(max_epochs) if logs_json() else ModelProgress(max_epochs)


def is_interactive() -> bool:
    """Whether this is a notebook or an interactive session of Python or IPython."""
    return hasattr(sys, "ps1") or "get_ipython" in vars(builtins)
