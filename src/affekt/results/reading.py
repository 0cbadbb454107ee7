"""A run directory, read back and checked: every file against its hash, every measure against its predictions.

A job counts once its `result.json` is there, which is written last; jobs without one are missing, and an experiment may
be reported before they are done. A job that is there but damaged is refused, for nothing may be computed from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from affekt.config import read_toml
from affekt.errors import CheckpointError, ConfigError, Fault
from affekt.measures import metrics

EMBEDDINGS = "embeddings.npy"
NEEDED = ("history.csv", "predictions.csv")
OPTIONAL = ("model.safetensors", EMBEDDINGS)
"""Large files, which a published copy of a run may leave out; where they are, they are checked."""

HISTORY_COLUMNS = ("epoch", "train_accuracy", "validation_accuracy")
PREDICTION_COLUMNS = ("id", "speaker", "label", "predicted")
PROBABILITY_PREFIX = "prob."
DIGEST = "digest"
"""What `result.json` calls the hash of itself."""
FUSIONS = "fusions"
"""The table of `config.toml` that says of each fused system which are its members."""

NUMBERS = {"parameters": int, "best_epoch": int, "epochs": int, "seconds": float}
TOLERANCE = 1e-6
"""How far a measure in `result.json` may be from the one that its predictions give."""


class Job(NamedTuple):
    """One training: a system on a fold with a seed.

    >>> str(Job("focal", 0, 2))
    'focal/fold-0/seed-2'
    """

    system: str
    fold: int
    seed: int

    def __str__(self) -> str:
        return f"{self.system}/fold-{self.fold}/seed-{self.seed}"


@dataclass(frozen=True, slots=True)
class FoldSizes:
    """Utterances in each part of a fold."""

    index: int
    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class Results:
    """A run directory whose every finished job has been checked.

    Attributes:
        path: the run directory.
        corpus, protocol, recipe: names, as in its configuration.
        protocol_line: what may be shared between training and test, for every table and plot.
        classes: names in the order of all probabilities and confusion matrices.
        systems: all that the experiment was asked for, finished or not.
        seeds: of each fold.
        folds: their sizes.
        jobs: a row per finished job: system, fold, seed, parameters, best_epoch, epochs, seconds, wa, ua, macro_f1.
        predictions: a row per finished job and test utterance: system, fold, seed, id, speaker, label, predicted,
            prob.<class>; label and predicted are categories in the order of `classes`.
        missing: jobs that are not finished.
    """

    path: Path
    corpus: str
    protocol: str
    recipe: str
    protocol_line: str
    classes: tuple[str, ...]
    systems: tuple[str, ...]
    seeds: tuple[int, ...]
    folds: tuple[FoldSizes, ...]
    jobs: pd.DataFrame
    predictions: pd.DataFrame
    missing: tuple[Job, ...]

    @classmethod
    def read(cls, path: str | Path) -> Results:
        """Read and check a run directory.

        Args:
            path: the run directory.

        Returns:
            The results of all finished jobs.

        Raises:
            ConfigError: no run directory, a broken configuration, or no finished job.
            CheckpointError: every damaged job, with the file and the remedy.
        """
        path = Path(path)
        experiment = _experiment(path / "config.toml")
        folds = _folds(path / "folds.json")
        seeds = _seeds(experiment["seeds"])
        wanted = [Job(system, fold, seed) for system in experiment["systems"] for fold in folds for seed in seeds]
        finished = [job for job in wanted if (path / str(job) / "result.json").exists()]
        if not finished:
            raise ConfigError(
                f"run {path}", got="no finished job", expected="at least one", remedy="start the experiment again"
            )
        rows, predictions = _read_jobs(path, finished, folds, experiment["classes"])
        return cls(
            path=path,
            **{name: experiment[name] for name in ("corpus", "protocol", "recipe")},
            protocol_line=experiment["line"],
            classes=tuple(experiment["classes"]),
            systems=tuple(experiment["systems"]),
            seeds=seeds,
            folds=tuple(
                FoldSizes(index, *(len(fold[part]) for part in ("train", "validation", "test")))
                for index, fold in folds.items()
            ),
            jobs=rows,
            predictions=predictions,
            missing=tuple(job for job in wanted if job not in set(finished)),
        )

    @property
    def synthetic(self) -> bool:
        """Whether the corpus is the embedded one, which says nothing about real speech."""
        return "synthetic" in self.corpus.split("+")

    @cached_property
    def fusions(self) -> Mapping[str, tuple[str, ...]]:
        """The fused systems (:func:`affekt.results.fuse`), and their members."""
        tables = read_toml(self.path / "config.toml").get(FUSIONS, {})
        return {name: tuple(table["members"]) for name, table in tables.items()}

    def finished(self, system: str) -> list[Job]:
        """The finished jobs of a system.

        Args:
            system: name of the system.

        Returns:
            Jobs, by fold and seed.
        """
        rows = self.jobs[self.jobs["system"] == system]
        return [Job(system, int(fold), int(seed)) for fold, seed in zip(rows["fold"], rows["seed"], strict=True)]

    def history(self, system: str, fold: int, seed: int) -> pd.DataFrame:
        """Losses and accuracies of one job by epoch.

        Args:
            system, fold, seed: the job.

        Returns:
            A table with one row per epoch.

        Raises:
            CheckpointError: columns that are missing.
        """
        path = self.path / str(Job(system, fold, seed)) / "history.csv"
        table = pd.read_csv(path)
        if missing := [name for name in HISTORY_COLUMNS if name not in table.columns]:
            raise CheckpointError.of([_fault(path, f"no column {', '.join(missing)}", ", ".join(HISTORY_COLUMNS))])
        return table

    def embeddings(self, system: str, fold: int, seed: int) -> Float[NDArray[np.float32], "utterances features"] | None:
        """Deep features of the test utterances of one job.

        Args:
            system, fold, seed: the job.

        Returns:
            float32 [utterances, features], rows as in :meth:`of`; None if the run keeps no features.
        """
        path = self.path / str(Job(system, fold, seed)) / EMBEDDINGS
        return np.load(path, allow_pickle=False) if path.exists() else None

    def features_sha256(self, job: Job) -> str:
        """The hash of a job's deep features according to `result.json`, also where the file itself was left out.

        Args:
            job: a finished job.

        Returns:
            SHA-256 in hexadecimal; empty if there is none.
        """
        return str(_read_json(self.path / str(job) / "result.json")["sha256"].get(EMBEDDINGS, ""))

    def of(self, system: str, fold: int, seed: int) -> pd.DataFrame:
        """The predictions of one job.

        Args:
            system, fold, seed: the job.

        Returns:
            A table with one row per test utterance; no rows if the job is not finished.
        """
        table: pd.DataFrame = self.predictions.iloc[self._positions.get((system, fold, seed), [])]
        return table

    @cached_property
    def _positions(self) -> Mapping[Any, Any]:
        return self.predictions.groupby(["system", "fold", "seed"], observed=True).indices

    def probabilities(self, predictions: pd.DataFrame) -> Float[NDArray[np.float64], "utterances classes"]:
        """The class probabilities of some rows of `predictions`.

        Args:
            predictions: rows of :attr:`predictions`.

        Returns:
            float64 [utterances, classes].
        """
        return predictions[_probability_columns(self.classes)].to_numpy(np.float64)


def codes(predictions: pd.DataFrame, column: str) -> Int[NDArray[np.int64], " utterances"]:
    """The classes in a column of predictions (`label` or `predicted`) as numbers."""
    return np.asarray(predictions[column].cat.codes, np.int64)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def result_digest(result: Mapping[str, Any]) -> str:
    """A hash of all that a `result.json` says, but for this hash, which it holds too."""
    rest = {name: value for name, value in result.items() if name != DIGEST}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def damage(folder: Path) -> list[Fault]:
    """What is wrong with the files of a finished job, by the hashes in its `result.json`; empty if nothing is."""
    try:
        result = _read_json(folder / "result.json")
    except CheckpointError as error:
        return list(error.faults)
    if result.get(DIGEST, digest := result_digest(result)) != digest:
        return [_fault(folder / "result.json", "content that is not what was written", f"{DIGEST} {digest[:12]}...")]
    hashes = result.get("sha256")
    if not isinstance(hashes, dict):
        return [_fault(folder / "result.json", f"sha256 = {hashes!r}", "a hash per file")]
    return [fault for name in (*NEEDED, *OPTIONAL) for fault in _file_faults(folder / name, hashes.get(name))]


def _file_faults(path: Path, expected: object) -> Iterator[Fault]:
    if not path.exists():
        if path.name in NEEDED:
            yield _fault(path, "no such file", "the file that its result.json lists")
    elif expected is None:
        yield _fault(path, "no hash in result.json", "one for every file")
    elif (got := file_sha256(path)) != expected:
        yield _fault(path, f"sha256 {got[:12]}...", f"{str(expected)[:12]}...")


def _fault(path: Path, got: str, expected: str) -> Fault:
    return Fault(str(path), got, expected, f"delete {path.parent} and run the experiment again")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # no UTF-8, no JSON, lists in lists in lists
        raise CheckpointError.of([_fault(path, str(error), "a JSON object")]) from error
    if not isinstance(data, dict):
        raise CheckpointError.of([_fault(path, f"a {type(data).__name__}", "a JSON object")])
    return data


def _experiment(path: Path) -> dict[str, Any]:
    """The `[experiment]` table of a run's configuration; other tables are not read."""
    if not path.exists():
        raise ConfigError(
            f"run {path.parent}", got="no config.toml", expected="a folder that `affekt experiment` made with -o"
        )
    experiment = read_toml(path).get("experiment")
    if not isinstance(experiment, dict):
        raise ConfigError(f"{path}: experiment", got="nothing", expected="a table [experiment]")
    faults = [
        Fault(f"{path}: experiment.{name}", repr(experiment.get(name)), "a text")
        for name in ("corpus", "protocol", "recipe", "line")
        if not isinstance(experiment.get(name), str)
    ]
    faults += [
        Fault(f"{path}: experiment.{name}", repr(experiment.get(name)), "a list of names")
        for name in ("classes", "systems")
        if not _are_names(experiment.get(name))
    ]
    if not _are_seeds(experiment.get("seeds")):
        faults.append(Fault(f"{path}: experiment.seeds", repr(experiment.get("seeds")), "a number or a list of seeds"))
    if faults:
        raise ConfigError.of(faults)
    return experiment


def _are_names(value: object) -> bool:
    """Whether a value is a list of distinct texts, each of which may name a folder."""
    if not isinstance(value, list) or not all(isinstance(name, str) and Path(name).name == name for name in value):
        return False
    return len(set(value)) == len(value) > 0


def _are_seeds(value: object) -> bool:
    return (_is_count(value) and value != 0) or (isinstance(value, list) and bool(value) and all(map(_is_count, value)))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _seeds(value: int | list[int]) -> tuple[int, ...]:
    """A number of seeds stands for 0, 1, ... below it."""
    return tuple(range(value)) if isinstance(value, int) else tuple(value)


def _folds(path: Path) -> dict[int, Mapping[str, Sequence[str]]]:
    """The parts of each fold by its index."""
    try:
        folds = json.loads(path.read_text(encoding="utf-8"))["folds"]
        return {int(fold["index"]): {part: fold[part] for part in ("train", "validation", "test")} for fold in folds}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        got = f"no {error}" if isinstance(error, KeyError) else str(error)
        expected = "folds, each with index, train, validation and test"
        raise ConfigError(str(path), got=got, expected=expected, remedy="start the experiment again") from error


def _read_jobs(
    path: Path, jobs: Sequence[Job], folds: Mapping[int, Mapping[str, Sequence[str]]], classes: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of jobs and predictions; all damaged jobs are reported at once."""
    rows, predictions, faults = [], [], []
    for job in jobs:
        folder = path / str(job)
        if broken := damage(folder):
            faults += broken
            continue
        table, wrong = _read_predictions(folder / "predictions.csv", folds[job.fold]["test"], classes)
        result = _read_json(folder / "result.json")
        faults += wrong or list(_result_faults(folder, job, result, table, classes))
        faults += list(_array_faults(folder, len(table)))
        rows.append(job._asdict() | {name: result.get(name) for name in (*NUMBERS, *metrics.MEASURES)})
        predictions.append(table.assign(**job._asdict()))
    if not (path / "geometry.csv").exists():  # which says of every job what its deep features say
        faults += _missing_embeddings([path / str(job) for job in jobs])
    if faults:
        raise CheckpointError.of(faults)
    return pd.DataFrame(rows), pd.concat(predictions, ignore_index=True).astype({"system": "category"})


def _missing_embeddings(folders: Sequence[Path]) -> list[Fault]:
    """A copy may leave out all embeddings; if only some are gone, means over the others would be other numbers.

    Fused systems have none.
    """
    listed = [
        folder / EMBEDDINGS for folder in folders if EMBEDDINGS in _read_json(folder / "result.json").get("sha256", {})
    ]
    gone = [path for path in listed if not path.exists()]
    expected = "the deep features of all jobs, or of none"
    return [_fault(path, "no such file", expected) for path in gone] if len(gone) < len(listed) else []


def _read_predictions(path: Path, test: Sequence[str], classes: Sequence[str]) -> tuple[pd.DataFrame, list[Fault]]:
    text = dict.fromkeys(PREDICTION_COLUMNS, str)
    try:
        table = pd.read_csv(path, dtype=text, keep_default_na=False)
    except ValueError as error:  # pandas' parser errors and UnicodeDecodeError are ValueErrors
        return pd.DataFrame(), [_fault(path, str(error).strip(), "a readable CSV table")]
    expected = [*PREDICTION_COLUMNS, *_probability_columns(classes)]
    if list(table.columns) != expected:
        return table, [_fault(path, f"columns {', '.join(table.columns)}", ", ".join(expected))]
    if faults := list(_prediction_faults(path, table, test, classes)):
        return table, faults
    for name in ("label", "predicted"):
        table[name] = pd.Categorical(table[name], categories=list(classes))
    return table, []


def _prediction_faults(path: Path, table: pd.DataFrame, test: Sequence[str], classes: Sequence[str]) -> Iterator[Fault]:
    if sorted(table["id"]) != sorted(test):
        odd = sorted(set(table["id"]) ^ set(test))[:3]
        got = f"other utterances, e.g. {', '.join(odd)}" if odd else "an utterance twice"
        yield _fault(path, got, "the test part of the fold")
    for name in ("label", "predicted"):
        if unknown := sorted(set(table[name]) - set(classes)):
            yield _fault(path, f"{name} {unknown[0]!r}", f"one of {', '.join(classes)}")
    columns = table[_probability_columns(classes)].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    if not ((columns >= 0) & (columns <= 1)).all() or (np.abs(columns.sum(1) - 1) > 1e-3).any():
        yield _fault(path, "probabilities that are none", "rows in [0, 1] that sum to 1")


def _result_faults(
    folder: Path, job: Job, result: Mapping[str, Any], table: pd.DataFrame, classes: Sequence[str]
) -> Iterator[Fault]:
    """What `result.json` says against the job that it lies in and against its predictions."""
    path = folder / "result.json"
    for name, value in job._asdict().items():
        if result.get(name) != value:
            yield _fault(path, f"{name} = {result.get(name)!r}", repr(value))
    for name, kind in NUMBERS.items():
        if not _is_number(result.get(name), kind):
            yield _fault(path, f"{name} = {result.get(name)!r}", "a number, 0 or more")
    confusion = metrics.confusion_matrix(codes(table, "label"), codes(table, "predicted"), len(classes))
    if result.get("confusion") != confusion.tolist():
        yield _fault(path, f"confusion = {result.get('confusion')!r}", f"{confusion.tolist()} as in predictions.csv")
    for name, value in metrics.scores(confusion).items():
        got = result.get(name)
        if not isinstance(got, float | int) or not abs(got - value) <= TOLERANCE:
            yield _fault(path, f"{name} = {got!r}", f"{value:.6f} as in predictions.csv")


def _is_number(value: Any, kind: type) -> bool:
    numeric = _is_count(value) if kind is int else isinstance(value, int | float) and not isinstance(value, bool)
    return bool(numeric and 0 <= value < float("inf"))


def _array_faults(folder: Path, utterances: int) -> Iterator[Fault]:
    path = folder / EMBEDDINGS
    if not path.exists():
        return
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        yield _fault(path, str(error), "an array of numbers")
        return
    if array.ndim != 2 or len(array) != utterances or not np.isfinite(array).all():
        yield _fault(path, f"{array.dtype} {list(array.shape)}", f"finite numbers, [{utterances}, features]")


def _probability_columns(classes: Iterable[str]) -> list[str]:
    return [PROBABILITY_PREFIX + name for name in classes]
