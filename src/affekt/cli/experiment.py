"""`affekt experiment`: systems x folds x seeds, resumable, and the report."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from affekt.cli.changes import given, optional_fields
from affekt.cli.framework.arguments import Option
from affekt.cli.progress import ExperimentProgress, make_progress
from affekt.config import merge
from affekt.data.labels import label_set
from affekt.data.manifest import Manifest
from affekt.errors import AffektError, ConfigError, Fault
from affekt.experiments.costs import CLIP_SECONDS, Cost, estimate, measure, write_costs
from affekt.experiments.experiment import Experiment, default_jobs, finish, plan_experiment
from affekt.experiments.workers import Engine, RayJobs, run_on_ray, run_parallel
from affekt.report import print_table, write_report
from affekt.results import summarize
from affekt.runtime.logs import LogFormat, log_as, say
from affekt.training.config import TrainConfig
from affekt.training.recipes import Recipe, find_recipe
from affekt.training.systems import System, resolve

if TYPE_CHECKING:
    TrainChanges = TrainConfig
else:
    TrainChanges = optional_fields(TrainConfig)

CHANGED = ", changed"
"""What follows the name of a recipe whose settings were changed."""


def experiment(
    manifest: Path,
    /,
    *,
    out: Annotated[Path, Option("-o")],
    systems: str = "headline",
    protocol: str = "random",
    folds: int = 5,
    fold_seed: int = 0,
    seeds: int = 1,
    labels: str | None = None,
    recipe: str = "paper",
    train: TrainChanges | None = None,
    device: str = "auto",
    jobs: int | None = None,
    threads: int | None = None,
    plan: bool = False,
    cache: Path | None = None,
    engine: Literal["local", "ray"] = "local",
    ray: RayJobs | None = None,
    log_format: LogFormat = "text",
    config: Path | None = None,
) -> int:
    """Train and compare systems over folds and seeds; resumes where it was interrupted.

    Args:
        manifest: utterances, as `affekt prepare` writes them (CSV or Parquet).
        out: run directory. One that exists is gone on with: what is finished is not run again.
        systems: names, groups (headline, table1, table2, integration, study, poolings) or TOML files, separated by
            commas.
        protocol: random (the paper's), speaker, session, loso, corpus or text; or a file of folds (another run's
            folds.json), or a folder of EmoBox's lists.
        folds: number of folds, where the protocol leaves it open.
        fold_seed: seed of the folds.
        seeds: trainings of each system on each fold.
        labels: label set: a name (iemocap4, ...) or a TOML file; by default every label is a class.
        recipe: paper, robust or quick; or a TOML file.
        train: changes to the recipe's training, e.g. --train.max-epochs 50.
        device: auto, cpu, cuda or mps.
        jobs: jobs side by side; by default one per core on a CPU, one on an accelerator. On a GPU they take turns in
            one process.
        threads: CPU threads of each job; results are the same bit for bit only at the same number.
        plan: train nothing: print the jobs that are left, with their estimated hours on this device, and keep what was
            measured in `costs.json`.
        cache: where decoded audio is kept.
        engine: local: processes of this machine. ray: the nodes of a cluster; the results are the same.
        ray: with `--engine ray`: which cluster, and what each job has of it.
        log_format: json: a line for every event on standard error, for programs, and no progress bars.
        config: TOML file with values for these options; or another run's config.toml, to do the same again.
    """
    log_as(log_format)
    chosen = changed_recipe(recipe, train)
    workers = side_by_side(jobs, device)
    runs = choose_engine(engine, workers, ray, jobs)
    with make_progress(chosen.train.max_epochs) as progress:
        planned, failures = plan_experiment(
            Manifest.read(manifest),
            resolve(systems),
            out,
            protocol=protocol,
            folds=folds,
            fold_seed=fold_seed,
            seeds=seeds,
            labels=label_set(labels) if labels else None,
            recipe=chosen,
            device=device,
            threads=threads,
            cache=cache,
            on_progress=progress.on_progress,
        )
        for fault in failures:
            say(f"left out: {fault}", **asdict(fault))
        if not plan:
            failures += run_with_progress(planned, runs, progress)
    if plan:
        print_plan(planned, workers)
    else:
        conclude(planned)
    return 1 if failures else 0


def side_by_side(jobs: int | None, device: str) -> int:
    """How many jobs run at a time: as many as asked for, or as the device is good for."""
    if jobs is None:
        return default_jobs(device)
    if jobs < 1:
        raise ConfigError("--jobs", got=str(jobs), expected="at least 1")
    return jobs


def choose_engine(name: str, workers: int, ray: RayJobs | None = None, jobs: int | None = None) -> Engine:
    """Where the jobs run; `jobs` is how many side by side were asked for, which a cluster decides by itself."""
    if name == "ray":
        if jobs is not None:
            raise ConfigError("--jobs", got=f"{jobs} with --engine ray", expected="none: a cluster has its own CPUs")
        return partial(run_on_ray, cluster=ray)
    if ray is not None:
        raise ConfigError("--ray", got="options of a cluster", expected="--engine ray with them")
    return partial(run_parallel, workers=workers)


def one_system(name: str) -> System:
    """The system of this name, or in this TOML file, where several make no sense."""
    systems = resolve(name)
    if len(systems) != 1:
        raise ConfigError("system", got=f"{len(systems)} systems", expected="one", remedy="see `affekt experiment`")
    return systems[0]


def changed_recipe(name: str, train: TrainChanges | None) -> Recipe:
    """A recipe by name, with some of its training's settings changed; a number of epochs is not stretched."""
    recipe, changes = find_recipe(name), given(train)
    if "max_epochs" in changes:
        changes = {"min_steps": 0} | changes
    changed = merge(recipe.train, changes, where="--train")
    changed_name = f"{recipe.name.removesuffix(CHANGED)}{CHANGED}"
    return recipe if changed == recipe.train else replace(recipe, name=changed_name, train=changed)


def run_with_progress(planned: Experiment, engine: Engine, progress: ExperimentProgress) -> tuple[Fault, ...]:
    """All jobs of an experiment, shown as they go; gives back why some failed, when the others are done."""
    progress.start_jobs(len(planned.jobs))
    try:
        engine(planned, planned.jobs, on_epoch=progress.on_epoch, on_done=progress.on_done)
    except AffektError as error:
        for fault in error.faults:
            say(f"failed: {fault}", logging.ERROR, **asdict(fault))
        return error.faults
    return ()


def print_plan(planned: Experiment, workers: int) -> None:
    """What is left to do, job by job; what was measured for it is kept in `costs.json`."""
    costs = measure(planned, planned.systems)
    print_estimate(planned, workers, costs)
    print(write_costs(planned, costs))


def print_estimate(planned: Experiment, workers: int, costs: Mapping[str, Cost] | None = None) -> None:
    """What is left to do and how long it will take here, from a few timed steps of each system.

    With costs that were measured before, every job is listed.
    """
    expected = estimate(planned, workers, costs)
    typical, longest = expected.typical_hours, expected.longest_hours
    print(planned.line)
    print(f"{len(expected.jobs)} of {len(planned.jobs)} jobs left, {workers} side by side on this device:")
    print(f"about {typical:.2g} hours, {longest:.2g} if no job stops early")
    for name, cost in expected.costs.items():
        print(
            f"  {name}: {1e3 * cost.training:.1f} ms to train on an utterance, {1e3 * cost.scoring:.1f} to score it; "
            f"{1e3 * (cost.front_end + cost.recognition):.1f} to recognize a clip of {CLIP_SECONDS:g} s"
        )
    for job in expected.jobs if costs else ():
        print(f"  {job.name}: at most {expected.hours[job.name]:.3f} hours")


def conclude(planned: Experiment) -> None:
    """Summary, report and the table on the terminal."""
    results = finish(planned)
    summary = summarize(results)
    written = write_report(results, planned.out, summary=summary)
    print_table(summary)
    for path in written:
        print(path)
