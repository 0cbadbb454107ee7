"""A study: several runs, finished or planned, and the jobs that are left of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from affekt.errors import AffektError, ConfigError, Fault
from affekt.results.run_directory import CONFIG, Costs, RunDirectory
from affekt.results.run_results import Results
from affekt.results.summary import measure_jobs, summarize
from affekt.training.systems import GROUPS

CORPORA, PROTOCOLS, RECIPES = ("emodb", "ravdess", "nemo"), ("random", "speaker"), ("paper", "robust")
FOLDS, SEEDS = 5, 3
SYSTEMS = tuple(system.name for system in GROUPS["study"])


@dataclass(frozen=True)
class Run:
    """A run with its summary, its jobs' measures and its costs.

    Attributes:
        results: the run, checked.
        costs: device -> system -> seconds and hours, as `affekt experiment --plan` measured them.
    """

    results: Results
    costs: Costs

    @classmethod
    def read(cls, path: str | Path) -> Run:
        """A run directory and its `costs.json`, if it has one."""
        return cls(Results.read(path), RunDirectory(Path(path)).read_costs())

    @cached_property
    def summary(self) -> dict[str, Any]:
        """As in `summary.json`."""
        return summarize(self.results)

    @cached_property
    def measures(self) -> pd.DataFrame:
        """A row per job."""
        return measure_jobs(self.results)

    @property
    def systems(self) -> list[str]:
        """Those that have a finished job."""
        return list(self.summary["systems"])

    @property
    def planned(self) -> Planned:
        """Which part of a study it is."""
        results = self.results
        return Planned(results.corpus, results.protocol, results.recipe, self.costs)

    def first(self, names: Iterable[str]) -> str:
        """The first of some names that was run; empty if none was."""
        return next((name for name in names if name in self.systems), "")

    def table(self, system: str, measure: str = "ua") -> pd.Series:
        """A measure of a system by fold and seed."""
        own = self.measures[self.measures["system"] == system]
        return own.set_index(["fold", "seed"])[measure].dropna().sort_index()


@dataclass(frozen=True)
class Planned:
    """A part of the study: a corpus, a protocol, a recipe; and what its jobs cost where that was measured."""

    corpus: str
    protocol: str
    recipe: str
    costs: Costs

    @classmethod
    def read(cls, path: Path) -> Planned:
        """The plan in a run directory of which no job is finished.

        Raises:
            ConfigError: a configuration of something else.
        """
        directory = RunDirectory(path)
        data = directory.read_config()
        if data is None:
            raise ConfigError(str(path / CONFIG), got="no such file", expected="the plan of an experiment")
        corpus, protocol, recipe = (str(data["experiment"].get(name)) for name in ("corpus", "protocol", "recipe"))
        return cls(corpus, protocol, recipe, directory.read_costs())

    @property
    def name(self) -> str:
        """Its folder's name in `results/`.

        >>> Planned("emodb", "speaker", "robust", {}).name, Planned("emodb", "random", "paper", {}).name
        ('emodb-speaker-robust', 'emodb-random')
        """
        return "-".join([self.corpus, self.protocol, *([self.recipe] if self.recipe != "paper" else [])])


@dataclass(frozen=True)
class Study:
    """Runs, and plans of runs of which no job is finished yet."""

    runs: tuple[Run, ...]
    planned: tuple[Planned, ...] = ()

    @classmethod
    def read(cls, paths: Iterable[str | Path]) -> Study:
        """Run directories, finished, begun or only planned.

        Raises:
            AffektError: all that is wrong with them, at once.
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
        """The run of a part of the study, if it was begun."""
        name = Planned(corpus, protocol, recipe, {}).name
        return next((run for run in self.runs if run.planned.name == name), None)

    def parts(self) -> list[tuple[Planned, Run | None]]:
        """Every part that the study is to have, with its costs and its run where there are any."""
        parts = []
        for recipe, corpus, protocol in product(RECIPES, CORPORA, PROTOCOLS):
            run = self.run(corpus, protocol, recipe)
            parts.append((Planned(corpus, protocol, recipe, self._costs(corpus, protocol, recipe)), run))
        return parts

    def _costs(self, corpus: str, protocol: str, recipe: str) -> Costs:
        """As measured for this part, or for its corpus under another protocol, whose folds are as large."""
        known = {plan.name: plan for plan in (*self.planned, *(run.planned for run in self.runs)) if plan.costs}
        names = [Planned(corpus, other, recipe, {}).name for other in (protocol, *PROTOCOLS)]
        return next((known[name].costs for name in names if name in known), {})


def remaining(part: Planned, run: Run | None) -> dict[str, Any]:
    """The jobs of a part that are not finished: how many, and their hours by device; None where a cost is unknown."""
    wanted = {(name, fold, seed) for name in SYSTEMS for fold in range(FOLDS) for seed in range(SEEDS)}
    done = {tuple(job) for name in run.systems for job in run.results.finished(name)} if run else set()
    left = [name for name, _, _ in sorted(wanted - done)]
    hours = {
        device: [sum(costs[name][key] for name in left) for key in ("job_hours", "longest_job_hours")]
        for device, costs in part.costs.items()
        if set(left) <= set(costs)
    }
    return {"part": part, "finished": len(wanted & done), "expected": len(wanted), "hours": hours}
