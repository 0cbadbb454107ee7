"""Ablations: the effect of each change of a recipe on the recognition of validation speakers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from affekt.errors import CheckpointError
from affekt.measures import statistics
from affekt.results.summary import LEAST_FOLDS

REFERENCE = "recipe"
"""The reference row: the unchanged recipe."""

KEYS = ("line", "system", "epochs", "train", "validation", "rows")


@dataclass(frozen=True)
class AblationRow:
    """The result of one changed recipe.

    Attributes:
        name, change: short name and description of the change.
        ua: UA of the best epoch on validation speakers, mean and deviation over jobs.
        last: mean UA of the last epoch, which is free of selection.
        difference: mean gain over the unchanged recipe on the same folds and seeds; None without a shared fold.
        gain: the same with the interval of the corrected t-test; None below three folds.
        p_value: p-value of that test.
        jobs: number of trainings.
    """

    name: str
    change: str
    ua: statistics.Spread
    last: float
    difference: float | None
    gain: statistics.Interval | None
    p_value: float | None
    jobs: int


@dataclass(frozen=True)
class Ablation:
    """The ablation of one corpus, as `scripts/ablation.py` writes it.

    Attributes:
        line: corpus and protocol, with the remark that validation speakers alone were scored.
        system, epochs: the trained system and the number of epochs.
        train, validation: mean number of utterances in these parts of a fold.
        measured: row -> `change`, and `jobs`: "fold/seed" -> `ua` and `last`.
    """

    line: str
    system: str
    epochs: int
    train: float
    validation: float
    measured: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, path: str | Path) -> Ablation:
        """Read the file of one corpus.

        Raises:
            CheckpointError: not such a file.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            values = [data[key] for key in KEYS]
        except (OSError, ValueError, TypeError, KeyError) as error:
            got, expected = f"{type(error).__name__}: {error}", f"an object with {', '.join(KEYS)}"
            raise CheckpointError(str(path), got=got, expected=expected, remedy="run the ablation again") from error
        return cls(*values)

    def rows(self) -> list[AblationRow]:
        """All rows with finished jobs, in the order of the file."""
        return [self._row(name, dict(row["jobs"])) for name, row in self.measured.items() if row["jobs"]]

    def _row(self, name: str, jobs: Mapping[str, Mapping[str, float]]) -> AblationRow:
        gained = self._gain(jobs) if name != REFERENCE else (None, None, None)
        ua = statistics.spread([job["ua"] for job in jobs.values()])
        last = float(np.mean([job["last"] for job in jobs.values()]))
        return AblationRow(name, self.measured[name]["change"], ua, last, *gained, len(jobs))

    def _gain(
        self, jobs: Mapping[str, Mapping[str, float]]
    ) -> tuple[float | None, statistics.Interval | None, float | None]:
        reference = self.measured.get(REFERENCE, {"jobs": {}})["jobs"]
        folds: dict[str, list[float]] = {}
        for key in jobs.keys() & reference.keys():
            folds.setdefault(key.partition("/")[0], []).append(jobs[key]["ua"] - reference[key]["ua"])
        differences = [float(np.mean(values)) for _, values in sorted(folds.items())]
        if len(differences) < LEAST_FOLDS:
            return float(np.mean(differences)) if differences else None, None, None
        sizes = differences, self.validation, self.train
        interval = statistics.corrected_resampled_interval(*sizes)
        return interval.value, interval, statistics.corrected_resampled_t_test(*sizes).p_value
