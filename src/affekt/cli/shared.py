"""Code that several verbs share: changes of a recipe, the run of an experiment's jobs, progress on standard error.

Nothing heavy is imported at the top, so that the help of every verb works in the core install.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, make_dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from affekt.config import merge
from affekt.errors import AffektError, ConfigError, Fault, gathered
from affekt.runtime.logs import say
from affekt.runtime.ray_cluster import RayJobs
from affekt.training.train_config import TrainConfig

if TYPE_CHECKING:
    from affekt.experiments.costs import Cost
    from affekt.experiments.plan import Experiment
    from affekt.experiments.progress import ExperimentProgress
    from affekt.experiments.workers import Engine
    from affekt.training.recipes import Recipe
    from affekt.training.systems import System

Config = TypeVar("Config")

CHANGED = ", changed"
"""Suffix of the name of a recipe whose settings were changed on the command line."""


def use_encoder(folder: Path | None) -> None:
    """Read the encoder's weights from this folder, here and in every worker process; None: where AFFEKT_ENCODER says.

    Raises:
        ConfigError: there is no such folder.
    """
    if folder is not None:
        from affekt.nn.encoder import FOLDER_VARIABLE, encoder_folder

        os.environ[FOLDER_VARIABLE] = str(encoder_folder(folder).resolve())


def optional_fields(kind: type[Config]) -> type[Config]:
    """A dataclass with the fields of `kind`, all None by default; nested configurations likewise.

    >>> from affekt.training.train_config import AugmentConfig
    >>> optional_fields(AugmentConfig)(warp=0.1).tempo is None
    True
    """
    hints = get_type_hints(kind)
    names = [part.name for part in fields(kind)]  # type: ignore[arg-type]
    parts = [(name, _optional(hints[name]), None) for name in names]
    made: Any = make_dataclass(f"{kind.__name__}Changes", parts, frozen=True)
    made.__doc__ = kind.__doc__
    return made  # type: ignore[no-any-return]


def _optional(hint: Any) -> Any:
    return (optional_fields(hint) if isinstance(hint, type) and is_dataclass(hint) else hint) | None


if TYPE_CHECKING:
    TrainChanges = TrainConfig
else:
    TrainChanges = optional_fields(TrainConfig)


def given(changes: object) -> dict[str, Any]:
    """The values that are not None, as nested mappings for :func:`affekt.config.merge`."""
    if changes is None:
        return {}
    values = {part.name: getattr(changes, part.name) for part in fields(changes)}  # type: ignore[arg-type]
    present = {name: value for name, value in values.items() if value is not None}
    return {name: given(value) if is_dataclass(value) else value for name, value in present.items()}


def changed_recipe(name: str, train: TrainChanges | None, **changes_of_systems: Any) -> Recipe:
    """A recipe by name, with changes to its training; a given number of epochs is not stretched.

    Args:
        name: name or TOML file of the recipe.
        train: changes to its training.
        changes_of_systems: other fields of the recipe; those that are None stay as they are.

    Raises:
        ConfigError: an unknown recipe, or values out of range.
    """
    from affekt.training.recipes import find_recipe

    recipe, changes = find_recipe(name), given(train)
    if "max_epochs" in changes:
        changes = {"min_steps": 0} | changes
    others = {field: value for field, value in changes_of_systems.items() if value is not None}
    changed = replace(recipe, train=merge(recipe.train, changes, where="--train"), **others)
    return recipe if changed == recipe else replace(changed, name=f"{recipe.name.removesuffix(CHANGED)}{CHANGED}")


def one_system(name: str) -> System:
    """The system of this name or in this TOML file.

    Raises:
        ConfigError: an unknown name, or one that stands for several systems.
    """
    from affekt.training.systems import resolve

    systems = resolve(name)
    if len(systems) != 1:
        raise ConfigError("system", got=f"{len(systems)} systems", expected="one", remedy="see `affekt experiment`")
    return systems[0]


def side_by_side(jobs: int | None, device: str) -> int:
    """Number of jobs that run at a time: as given, or the default of the device."""
    from affekt.experiments.jobs import default_jobs

    if jobs is None:
        return default_jobs(device)
    if jobs < 1:
        raise ConfigError("--jobs", got=str(jobs), expected="at least 1")
    return jobs


def choose_engine(name: str, workers: int, ray: RayJobs | None = None, jobs: int | None = None) -> Engine:
    """The engine that runs the jobs.

    Args:
        name: local or ray.
        workers: processes of the local engine.
        ray: options of the cluster, with `ray` only.
        jobs: value of `--jobs`, with `local` only: a cluster decides by its CPUs.
    """
    from affekt.experiments.workers import run_on_ray, run_parallel

    if name == "ray":
        if jobs is not None:
            raise ConfigError("--jobs", got=f"{jobs} with --engine ray", expected="none: a cluster has its own CPUs")
        return partial(run_on_ray, cluster=ray)
    if ray is not None:
        raise ConfigError("--ray", got="options of a cluster", expected="--engine ray with them")
    return partial(run_parallel, workers=workers)


def run_with_progress(planned: Experiment, engine: Engine, progress: ExperimentProgress) -> tuple[Fault, ...]:
    """Run all jobs of an experiment with progress; return the faults of those that failed."""
    progress.start_jobs(len(planned.jobs))
    try:
        engine(planned, planned.jobs, on_epoch=progress.on_epoch, on_done=progress.on_done)
    except AffektError as error:
        for fault in error.faults:
            say(f"failed: {fault}", logging.ERROR, **asdict(fault))
        return error.faults
    return ()


def print_estimate(planned: Experiment, workers: int, costs: Mapping[str, Cost] | None = None) -> None:
    """Print the jobs that are left and their estimated time, from a few timed steps of each system.

    Args:
        planned: the experiment.
        workers: jobs at a time.
        costs: measured before; every job is then listed.
    """
    from affekt.experiments.costs import CLIP_SECONDS, estimate

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
    """Write the summary and the report, and print the table."""
    from affekt.experiments.jobs import finish
    from affekt.report import write_report
    from affekt.report.terminal import print_table
    from affekt.results import summarize

    results = finish(planned)
    summary = summarize(results)
    written = write_report(results, planned.out, summary=summary)
    print_table(summary)
    for path in written:
        print(path)


def say_left_out(faults: Sequence[Fault]) -> None:
    """Name the recordings that cannot be used, on standard error; in one line where many have the same fault."""
    for fault in gathered(faults):
        say(f"left out: {fault}", **asdict(fault))
