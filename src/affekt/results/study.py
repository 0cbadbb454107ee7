"""The study: its parts as `docs/study-plan.md` fixes them, the runs that exist, and the trainings that are left.

A run belongs to a part by its corpus, protocol and recipe, which also name its folder in `results/`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int
from numpy.typing import NDArray

from affekt.errors import NO_FILE, AffektError, ConfigError, Fault
from affekt.measures import metrics
from affekt.results.run_directory import CONFIG, Costs, RunDirectory
from affekt.results.run_results import Results
from affekt.results.summary import measure_jobs, summarize
from affekt.training.systems import ENCODER_STUDY, TABLE2, resolve

PROTOCOLS = ("random", "speaker")
FOLDS = 5
CHANGED = ", changed"
"""Suffix of a recipe whose settings were changed; the protocol line or `config.toml` states how."""

ENCODER_CORPORA = ("emodb", "emovo", "ravdess", "javanese", "banglaser", "nemo", "crema-d")
CREMA_D_SECONDS = 2.97
"""Clip length that leaves 85.6 % of CREMA-D's utterances whole: `python scripts/clip_length.py crema-d.csv`."""

ALIASES = (("am-softmax-s10-m0.4", "am-softmax"), ("focal-g2-a2", "focal"))
"""Names of one system: in Table 2, and among the paper's four systems."""

HEADLINE = "baseline,am-softmax-s10-m0.4,focal-g2-a2,combined"
"""The paper's four systems by their names in Table 2, so that all of Table 2 can be added to the same run."""

ENCODER_SYSTEMS = tuple(system.name for system in (*ENCODER_STUDY[:14], ENCODER_STUDY[-1]))
"""The systems of part D in the plan: Table 2 and the integration of all three proposals."""


@dataclass(frozen=True)
class Planned:
    """A run of the plan.

    Attributes:
        part: letter of the part; empty for a run that the plan does not name.
        corpus, protocol, recipe: what identifies it.
        systems: names and groups, as `affekt experiment --systems` takes them.
        wanted: names of all its systems.
        seeds: trainings per system and fold.
        options: further options of the command.
        costs: device -> system -> seconds and hours, as `affekt experiment --plan` measured them.
    """

    part: str
    corpus: str
    protocol: str
    recipe: str = "paper"
    systems: str = "headline"
    wanted: tuple[str, ...] = ()
    seeds: int = 1
    options: str = ""
    costs: Costs | None = None

    @classmethod
    def read(cls, path: Path) -> Planned:
        """Read the plan of a run directory without finished jobs, and its costs.

        Raises:
            ConfigError: not the configuration of a run.
        """
        directory = RunDirectory(path)
        data = directory.read_config()
        if data is None:
            raise ConfigError(str(path / CONFIG), got=NO_FILE, expected="the plan of an experiment")
        corpus, protocol, recipe = (str(data["experiment"].get(name)) for name in ("corpus", "protocol", "recipe"))
        return cls("", corpus, protocol, recipe.removesuffix(CHANGED), costs=directory.read_costs())

    @property
    def name(self) -> str:
        """The name of its folder in `results/`.

        >>> Planned("", "emodb", "speaker", "robust").name, Planned("", "emodb", "random").name
        ('emodb-speaker-robust', 'emodb-random')
        """
        return "-".join([self.corpus, self.protocol, *([self.recipe] if self.recipe != "paper" else [])])

    @property
    def command(self) -> str:
        """The command that starts or resumes it.

        >>> print(Planned("B", "emodb", "speaker", "paper-steps", seeds=2).command)
        affekt experiment emodb.csv -o runs/emodb-speaker-paper-steps --systems headline --protocol speaker --folds 5 \
--seeds 2 --labels iemocap4 --recipe paper-steps
        """
        words = f"affekt experiment {self.corpus}.csv -o runs/{self.name} --systems {self.systems}"
        words += f" --protocol {self.protocol} --folds {FOLDS} --seeds {self.seeds} --labels iemocap4"
        words += f" --recipe {self.recipe}" if self.recipe != "paper" else ""
        return f"{words} {self.options}".strip()


def _plan() -> tuple[Planned, ...]:
    clip = f"--clip-seconds {CREMA_D_SECONDS:g}"
    own = {name for names in ALIASES for name in names}
    rest = [system.name for system in TABLE2 if system.name not in own | {"baseline", "combined"}]
    whole = ",".join(["table1", "integration", *rest])
    rows = [
        Planned("A", "crema-d", "random", systems="table2", seeds=2, options=clip),
        Planned("A", "crema-d", "speaker", systems=HEADLINE, seeds=2, options=clip),
        *(Planned("B", "emodb", protocol, "paper-steps", HEADLINE, seeds=2) for protocol in PROTOCOLS),
        Planned("C", "emodb", "random", systems=whole),
    ]
    rows = [replace(row, wanted=tuple(system.name for system in resolve(row.systems))) for row in rows]
    encoder = [
        Planned("D", corpus, protocol, "encoder", "encoder-study", ENCODER_SYSTEMS, seeds=3)
        for corpus in ENCODER_CORPORA
        for protocol in PROTOCOLS
    ]
    return (*rows, *encoder)


PLAN = _plan()
"""Every run of `docs/study-plan.md`."""

PARTS = {
    "A": "the paper's network, CREMA-D",
    "B": "the paper's network, epochs of 95 steps as on IEMOCAP, EmoDB",
    "C": "all systems of the paper, EmoDB",
    "D": "BLSTM, poolings and losses of the paper on a frozen encoder, seven corpora",
}


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
        """As in `summary.json`, against the run's own baseline."""
        return summarize(self.results, self.baseline or None, measures=self.measures)

    @cached_property
    def measures(self) -> pd.DataFrame:
        """Measures, one row per job, with the recall of each class as `recall.CLASS`."""
        jobs = self.results.jobs[["system", "fold", "seed"]].reset_index(drop=True)
        recall = metrics.recall(self.results.confusions)
        columns = [f"recall.{name}" for name in self.results.classes]
        by_class = jobs.join(pd.DataFrame(recall, columns=columns))
        return measure_jobs(self.results).merge(by_class, on=["system", "fold", "seed"])

    def confusions(self, system: str) -> Int[NDArray[np.int64], "jobs classes classes"]:
        """The confusion matrix of every finished job of a system, rows the true classes."""
        return self.results.confusions[(self.results.jobs["system"] == system).to_numpy()]

    @cached_property
    def systems(self) -> list[str]:
        """Systems with a finished job, in the order of the plan."""
        known = set(self.results.jobs["system"])
        return [name for name in self.results.systems if name in known]

    @cached_property
    def utterances(self) -> frozenset[str]:
        """Ids of all utterances of the folds, tested or not yet."""
        folds = self.results.directory.read_folds().values()
        return frozenset(name for fold in folds for part in fold.values() for name in part)

    @property
    def recipe(self) -> str:
        """The recipe, whether or not a setting of it was changed."""
        return self.results.recipe.removesuffix(CHANGED)

    @property
    def name(self) -> str:
        """The name of its folder in `results/`."""
        return Planned("", self.results.corpus, self.results.protocol, self.recipe).name

    @property
    def network(self) -> str:
        """What the systems are built on: `encoder`, or `paper` for the paper's network."""
        return "encoder" if self.recipe == "encoder" else "paper"

    @property
    def baseline(self) -> str:
        """The system with softmax and attention; empty if it was not run."""
        return self.first(["encoder"] if self.network == "encoder" else ["baseline"])

    def own_names(self, names: Iterable[str]) -> list[str]:
        """Names of systems of the paper as this run has them."""
        return [f"encoder-{name}" if self.network == "encoder" else name for name in names]

    def first(self, names: Iterable[str]) -> str:
        """The first of some systems that has a finished job; empty if none has."""
        return next((name for name in names if name in self.systems), "")

    def table(self, system: str, measure: str = "ua") -> pd.Series:
        """A measure of a system by fold and seed."""
        own = self._by_system.get(system)
        if own is None or measure not in own:
            return pd.Series(dtype=float, index=pd.MultiIndex.from_arrays([[], []], names=["fold", "seed"]))
        return own[measure].dropna()

    @cached_property
    def _by_system(self) -> dict[str, pd.DataFrame]:
        indexed = self.measures.set_index(["fold", "seed"]).sort_index()
        return {str(name): rows for name, rows in indexed.groupby("system")}


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
        """The run of this corpus, protocol and recipe, if it was started."""
        name = Planned("", corpus, protocol, recipe).name
        return next((run for run in self.runs if run.name == name), None)

    def parts(self) -> list[tuple[Planned, Run | None]]:
        """All runs of the plan, each with its costs and with the run itself where there is one."""
        return [(replace(row, costs=self._costs(row)), self.run(row.corpus, row.protocol, row.recipe)) for row in PLAN]

    def others(self) -> list[Run]:
        """Runs that the plan does not name."""
        named = {row.name for row in PLAN}
        return [run for run in self.runs if run.name not in named]

    def mean_hours(self, row: Planned) -> float | None:
        """Mean hours of a finished training of this run, or of its corpus under the other protocol; None without one.

        Args:
            row: a run of the plan.
        """
        for protocol in (row.protocol, *PROTOCOLS):
            if run := self.run(row.corpus, protocol, row.recipe):
                return float(run.results.jobs["seconds"].mean()) / 3600
        return None

    def _costs(self, row: Planned) -> Costs:
        """Costs of this run, or of its corpus under the other protocol, whose folds have the same size."""
        known = {plan.name: plan.costs for plan in self.planned if plan.costs}
        known |= {run.name: run.costs for run in self.runs if run.costs}
        names = [replace(row, protocol=other).name for other in (row.protocol, *PROTOCOLS)]
        return next((known[name] for name in names if name in known), {})


def remaining(part: Planned, run: Run | None) -> dict[str, Any]:
    """Number of finished and expected jobs of a planned run, and hours of the remaining ones by device.

    Devices without the cost of a remaining system are left out. Without `wanted` systems the run's own count.
    """
    systems = part.wanted or (run.results.systems if run else ())
    wanted = {(name, fold, seed) for name in systems for fold in range(FOLDS) for seed in range(part.seeds)}
    done = {tuple(job) for name in run.systems for job in run.results.finished(name)} if run else set()
    left = [name for name, _, _ in sorted(wanted - done)]
    hours = {
        device: [sum(costs[name][key] for name in left) for key in ("job_hours", "longest_job_hours")]
        for device, costs in (part.costs or {}).items()
        if set(left) <= set(costs)
    }
    return {"part": part, "finished": len(wanted & done), "expected": len(wanted), "hours": hours}
