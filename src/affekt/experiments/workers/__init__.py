"""Engines, which run the jobs of an experiment; one file with one function each.

:func:`run_parallel` uses processes on this machine, :func:`run_on_ray` the nodes of a Ray cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from affekt.data.manifest import Manifest
from affekt.errors import AudioError
from affekt.experiments.jobs import finish
from affekt.experiments.plan import Experiment, plan_experiment
from affekt.experiments.progress import ExperimentProgress, is_interactive
from affekt.experiments.workers.engine import Engine, OnDone, OnEpoch
from affekt.experiments.workers.local import run_parallel
from affekt.experiments.workers.ray import run_on_ray
from affekt.results import Results
from affekt.runtime.ray_cluster import RayJobs
from affekt.training.systems import System

__all__ = ["Engine", "OnDone", "OnEpoch", "RayJobs", "run_experiment", "run_on_ray", "run_parallel"]


def run_experiment(
    manifest: Manifest,
    systems: Sequence[System],
    out: str | Path,
    *,
    workers: int = 1,
    engine: Engine | None = None,
    on_epoch: OnEpoch = lambda job, epoch: None,
    on_done: OnDone = lambda job: None,
    progress: bool | None = None,
    **options: Any,
) -> Results:
    """An experiment from manifest to results, in one call; resumes what `out` holds.

    Args:
        manifest: the utterances.
        systems: the systems to compare.
        out: run directory.
        workers: parallel jobs on this machine; with more than one, user-defined classes must be importable.
        engine: another engine, e.g. ``partial(run_on_ray, cluster=RayJobs("auto"))``.
        on_epoch, on_done: called after every epoch and every job.
        progress: show bars, or one line per job where there is no terminal; None: in notebooks and interactive
            sessions.
        options: of :func:`affekt.experiments.plan.plan_experiment`: protocol, folds, seeds, labels, ...

    Returns:
        The results of all finished jobs.

    Raises:
        AudioError: recordings that cannot be decoded. (The command line leaves them out and says so.)
    """
    run = engine or partial(run_parallel, workers=workers)
    if not (is_interactive() if progress is None else progress):
        planned = _plan(manifest, systems, out, options)
        run(planned, planned.jobs, on_epoch=on_epoch, on_done=on_done)
        return finish(planned)
    with ExperimentProgress() as shown:
        planned = _plan(manifest, systems, out, {"on_progress": shown.on_progress} | options)
        shown.max_epochs = planned.recipe.train.max_epochs
        shown.start_jobs(len(planned.jobs))
        run(
            planned,
            planned.jobs,
            on_epoch=_both(shown.on_epoch, on_epoch),
            on_done=_both(shown.on_done, on_done),
        )
    return finish(planned)


def _plan(manifest: Manifest, systems: Sequence[System], out: str | Path, options: Mapping[str, Any]) -> Experiment:
    planned, failures = plan_experiment(manifest, systems, out, **options)
    if failures:
        raise AudioError.of(failures)
    return planned


def _both(first: Callable[..., Any], second: Callable[..., Any]) -> Callable[..., None]:
    def call(*arguments: Any) -> None:
        first(*arguments)
        second(*arguments)

    return call
