"""A study: several runs, finished or planned, and the jobs that remain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from affekt.errors import NO_FILE, AffektError, ConfigError, Fault
from affekt.results.run_directory import CONFIG, Costs, RunDirectory
from affekt.results.run_results import Results
from affekt.results.summary import measure_jobs, summarize
from affekt.training.systems import GROUPS

CORPORA, PROTOCOLS, RECIPES = ("emodb", "ravdess", "nemo"), ("random", "speaker"), ("paper", "robust")
FOLDS, SEEDS = 5, 3
SYSTEMS = tuple(system.name for system in GROUPS["study"])


@dataclass(frozen=True)
class Run:
    """A run with its summary, the measures of its jobs, and its costs.

    Attributes:
        results: the run, checked.
        costs: device -> system -> seconds and hours, as `affekt experiment --plan` measured them.
    """

    results: Results
    costs: Costs

    @classmethod
    def read(cls, path: str | Path) -> Run:
        """Read a run directory and its `costs.json`, if present."""
        return cls(Results.read(path), RunDirectory(Path(path)).read_costs())

    @cached_property
    def summary(self) -> dict[str, Any]:
        """As in `summary.json`."""
        return summarize(self.results)

    @cached_property
    def measures(self) -> pd.DataFrame:
        """Measures, one row per job."""
        return measure_jobs(self.results)

    @property
    def systems(self) -> list[str]:
        """Systems with a finished job."""
        return list(self.summary["systems"])

    @property
    def planned(self) -> Planned:
        """The part of the study that this run is."""
        results = self.results
        return Planned(results.corpus, results.protocol, results.recipe, self.costs)

    def first(self, names: Iterable[str]) -> str:
        """The first of some systems that has a finished job; empty if none has."""
        return next((name for name in names if name in self.systems), "")

    def table(self, system: str, measure: str = "ua") -> pd.Series:
        """A measure of a system by fold and seed."""
        own = self.measures[self.measures["system"] == system]
        return own.set_index(["fold", "seed"])[measure].dropna().sort_index()


@dataclass(frozen=True)
class Planned:
    """A part of the study: corpus, protocol and recipe, with measured costs of its jobs."""

    corpus: str
    protocol: str
    recipe: str
    costs: Costs

    @classmethod
    def read(cls, path: Path) -> Planned:
        """Read the plan of a run directory without finished jobs.

        Raises:
            ConfigError: not the configuration of a run.
        """
        directory = RunDirectory(path)
        data = directory.read_config()
        if data is None:
            raise ConfigError(str(path / CONFIG), got=NO_FILE, expected="the plan of an experiment")
        corpus, protocol, recipe = (str(data["experiment"].get(name)) for name in ("corpus", "protocol", "recipe"))
        return cls(corpus, protocol, recipe, directory.read_costs())

    @property
    def name(self) -> str:
        """The name of its folder in `results/`.

        >>> Planned("emodb", "speaker", "robust", {}).name, Planned("emodb", "random", "paper", {}).name
        ('emodb-speaker-robust', 'emodb-random')
        """
        return "-".join([self.corpus, self.protocol, *([self.recipe] if self.recipe != "paper" else [])])


@dataclass(frozen=True)
class Study:
    """Runs, and plans of runs without finished jobs."""

    runs: tuple[Run, ...]
    planned: tuple[Planned, ...] = ()

    @classmethod
    def read(cls, paths: Iterable[str | Path]) -> Study:
        """Read run directories: finished, started or only planned.

        Raises:
            AffektError: all their faults at once.
        """
        runs: list[Run] = []
        planned: list[Planned] = []
        faults: list[Fault] = []
        for path in map(Path, paths):
            try:
                directory = RunDirectory(path)
                if directory.has_results or not directory.has_costs:
                    runs.append(Run.read(path))
                else:
                    planned.append(Planned.read(path))
            except AffektError as error:
                faults += error.faults
        if faults:
            raise AffektError.of(faults)
        return cls(tuple(runs), tuple(planned))

    def run(self, corpus: str, protocol: str, recipe: str = "paper") -> Run | None:
        """The run of a part of the study, if it was started."""
        name = Planned(corpus, protocol, recipe, {}).name
        return next((run for run in self.runs if run.planned.name == name), None)

    def parts(self) -> list[tuple[Planned, Run | None]]:
        """All parts of the study, each with its costs and its run if there are any."""
        parts = []
        for recipe, corpus, protocol in product(RECIPES, CORPORA, PROTOCOLS):
            run = self.run(corpus, protocol, recipe)
            parts.append((Planned(corpus, protocol, recipe, self._costs(corpus, protocol, recipe)), run))
        return parts

    def _costs(self, corpus: str, protocol: str, recipe: str) -> Costs:
        """Costs of this part, or of its corpus under another protocol, whose folds have the same size."""
        known = {plan.name: plan for plan in (*self.planned, *(run.planned for run in self.runs)) if plan.costs}
        names = [Planned(corpus, other, recipe, {}).name for other in (protocol, *PROTOCOLS)]
        return next((known[name].costs for name in names if name in known), {})


def remaining(part: Planned, run: Run | None) -> dict[str, Any]:
    """Number of finished and expected jobs of a part, and hours of the remaining ones by device.

    Devices without the cost of a remaining system are left out.
    """
    wanted = {(name, fold, seed) for name in SYSTEMS for fold in range(FOLDS) for seed in range(SEEDS)}
    done = {tuple(job) for name in run.systems for job in run.results.finished(name)} if run else set()
    left = [name for name, _, _ in sorted(wanted - done)]
    hours = {
        device: [sum(costs[name][key] for name in left) for key in ("job_hours", "longest_job_hours")]
        for device, costs in part.costs.items()
        if set(left) <= set(costs)
    }
    return {"part": part, "finished": len(wanted & done), "expected": len(wanted), "hours": hours}
