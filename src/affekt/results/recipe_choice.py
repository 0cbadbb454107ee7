"""The choice of part D's learning rate: mean UA on validation parts, as the study plan fixed the rule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affekt.config import read_toml
from affekt.errors import AffektError, Fault
from affekt.measures import statistics
from affekt.results.run_directory import CONFIG
from affekt.results.run_results import Results

RATES = (3e-4, 1e-3, 3e-3)
CORPORA = ("emodb", "crema-d")
SYSTEM = "encoder"


@dataclass(frozen=True)
class RecipeChoice:
    """Validation UA of the kept epoch, by learning rate and corpus.

    Attributes:
        ua: (rate, corpus) -> UA of every training, one per fold and seed.
    """

    ua: dict[tuple[float, str], tuple[float, ...]]

    @classmethod
    def read(cls, runs: Iterable[Path]) -> RecipeChoice:
        """Read the runs of the choice; the rate is that of each run's `config.toml`.

        Raises:
            AffektError: all faults of the runs at once; two runs of one rate and corpus.
        """
        found: dict[tuple[float, str], tuple[float, ...]] = {}
        faults: list[Fault] = []
        for path in runs:
            try:
                results = Results.read(path)
                rate = float(read_toml(path / CONFIG)["recipe"]["train"]["learning_rate"])
                if (rate, results.corpus) in found:
                    faults.append(Fault(str(path), f"another run of {results.corpus} at {rate:g}", "one of each"))
                found[rate, results.corpus] = tuple(_validation_ua(results))
            except AffektError as error:
                faults += error.faults
        if faults:
            raise AffektError.of(faults)
        return cls(found)

    @property
    def rates(self) -> list[float]:
        """Rates that were tried on every corpus of the rule, in ascending order."""
        return sorted({rate for rate, _ in self.ua if all((rate, corpus) in self.ua for corpus in CORPORA)})

    def mean(self, rate: float, corpus: str | None = None) -> float:
        """Mean validation UA of a rate on one corpus, or the mean over the corpora of the rule."""
        corpora = CORPORA if corpus is None else (corpus,)
        return float(np.mean([np.mean(self.ua[rate, name]) for name in corpora]))

    def deviation(self, rate: float, corpus: str) -> float | None:
        """Standard deviation over the trainings of a rate on one corpus."""
        return statistics.spread(self.ua[rate, corpus]).sd

    @property
    def chosen(self) -> float | None:
        """The rate with the largest mean over both corpora; None unless all rates of the plan were tried.

        >>> rows = {(rate, corpus): (rate,) for rate in RATES for corpus in CORPORA}
        >>> RecipeChoice(rows).chosen
        0.003
        """
        complete = set(RATES) <= set(self.rates)
        return max(self.rates, key=self.mean) if complete else None


def _validation_ua(results: Results) -> Iterable[float]:
    kept = results.jobs.set_index(["system", "fold", "seed"])["best_epoch"]
    for job in results.finished(SYSTEM):
        history = results.history(*job)
        yield float(history.loc[history["epoch"] == kept[job], "validation_ua"].iloc[0])
