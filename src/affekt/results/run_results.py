"""A run directory, read and checked: every file against its hash, every measure against its predictions.

A job is finished if it has a `result.json`, which is written last. Jobs without one are listed as missing; a run may be
reported before it is complete. A damaged job is an error.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from affekt.errors import CheckpointError, ConfigError, Fault
from affekt.measures import metrics
from affekt.results.packed_tables import PROBABILITY_PREFIX
from affekt.results.run_directory import (
    EMBEDDINGS,
    GEOMETRY,
    HISTORY,
    HISTORY_COLUMNS,
    PREDICTION_COLUMNS,
    PREDICTIONS,
    RESULT,
    JobDirectory,
    JobKey,
    RunDirectory,
    is_count,
    job_fault,
    seed_numbers,
)

NUMBERS = {"parameters": int, "best_epoch": int, "epochs": int, "seconds": float}
TOLERANCE = 1e-6
"""Largest difference of a measure in `result.json` from the same measure of the predictions."""


@dataclass(frozen=True, slots=True)
class FoldSizes:
    """Utterances in each part of a fold."""

    index: int
    train: int
    validation: int
    test: int


@dataclass(frozen=True, repr=False)
class Results:
    """A run directory whose every finished job has been checked.

    Attributes:
        path: the run directory.
        corpus, protocol, recipe: names, as in the configuration.
        protocol_line: states what training and test share; part of every table and plot.
        classes: class names, in the order of all probabilities and confusion matrices.
        systems: all systems of the experiment, finished or not.
        seeds: seeds of each fold.
        folds: sizes of the folds.
        jobs: one row per finished job: system, fold, seed, parameters, best_epoch, epochs, seconds, wa, ua, macro_f1.
        predictions: one row per finished job and test utterance: system, fold, seed, id, speaker, label, predicted,
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
    missing: tuple[JobKey, ...]

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
        run = RunDirectory(path)
        experiment = run.read_experiment()
        folds = run.read_folds()
        seeds = seed_numbers(experiment["seeds"])
        wanted = [JobKey(system, fold, seed) for system in experiment["systems"] for fold in folds for seed in seeds]
        finished = [job for job in wanted if run.job(job).has_result]
        if not finished:
            raise ConfigError(
                f"run {path}", got="no finished job", expected="at least one", remedy="start the experiment again"
            )
        rows, predictions = _read_jobs(run, finished, folds, experiment["classes"])
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

    def __repr__(self) -> str:
        jobs = f"{len(self.jobs)} of {len(self.jobs) + len(self.missing)} jobs"
        return f"<Results {str(self.path)!r}: {jobs}, {self.protocol_line}>"

    def _repr_html_(self) -> str:
        """The run in a notebook: one row per system."""
        from affekt.results.run_html import results_html

        return results_html(self)

    @property
    def directory(self) -> RunDirectory:
        """The files."""
        return RunDirectory(self.path)

    @property
    def synthetic(self) -> bool:
        """Whether the corpus is the built-in synthetic one, whose results do not transfer to real speech."""
        return "synthetic" in self.corpus.split("+")

    @cached_property
    def fusions(self) -> Mapping[str, tuple[str, ...]]:
        """The fused systems (:func:`affekt.results.fuse`), and their members."""
        return self.directory.fusions()

    def finished(self, system: str) -> list[JobKey]:
        """The finished jobs of a system.

        Args:
            system: name of the system.

        Returns:
            Jobs, by fold and seed.
        """
        rows = self.jobs[self.jobs["system"] == system]
        return [JobKey(system, int(fold), int(seed)) for fold, seed in zip(rows["fold"], rows["seed"], strict=True)]

    def history(self, system: str, fold: int, seed: int) -> pd.DataFrame:
        """Losses and accuracies of one job by epoch.

        Args:
            system, fold, seed: the job.

        Returns:
            A table with one row per epoch.

        Raises:
            CheckpointError: columns that are missing.
        """
        directory = self.directory.job(JobKey(system, fold, seed))
        path, content = directory.path / HISTORY, directory.read(HISTORY)
        if content is None:
            raise CheckpointError.of([job_fault(path, "no file", "the file that its result.json lists")])
        table = pd.read_csv(io.BytesIO(content))
        if missing := [name for name in HISTORY_COLUMNS if name not in table.columns]:
            raise CheckpointError.of([job_fault(path, f"no column {', '.join(missing)}", ", ".join(HISTORY_COLUMNS))])
        return table

    def embeddings(self, system: str, fold: int, seed: int) -> Float[NDArray[np.float32], "utterances features"] | None:
        """Deep features of the test utterances of one job.

        Args:
            system, fold, seed: the job.

        Returns:
            float32 [utterances, features], rows as in :meth:`of`; None if the run keeps no features.
        """
        path = self.path / str(JobKey(system, fold, seed)) / EMBEDDINGS
        return np.load(path, allow_pickle=False) if path.exists() else None

    def features_sha256(self, job: JobKey) -> str:
        """The hash of a job's deep features according to `result.json`, also where the file itself was left out.

        Args:
            job: a finished job.

        Returns:
            SHA-256 in hexadecimal; empty if there is none.
        """
        return str(self.directory.job(job).read_result()["sha256"].get(EMBEDDINGS, ""))

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
    def confusions(self) -> Int[NDArray[np.int64], "jobs classes classes"]:
        """The confusion matrix of every finished job, in the order of :attr:`jobs`; rows are the true classes."""
        table, classes = self.predictions, len(self.classes)
        listed = self.jobs[["system", "fold", "seed"]].itertuples(index=False, name=None)
        order = {job: place for place, job in enumerate(listed)}
        keys = zip(table["system"].tolist(), table["fold"].tolist(), table["seed"].tolist(), strict=True)
        job = np.array([order[key] for key in keys], np.int64)
        cells = (job * classes + codes(table, "label")) * classes + codes(table, "predicted")
        flat: Int[NDArray[np.int64], " cells"] = np.bincount(cells, minlength=len(order) * classes**2)
        return flat.reshape(-1, classes, classes)

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
    """Class numbers of a column of predictions, `label` or `predicted`."""
    return np.asarray(predictions[column].cat.codes, np.int64)


def _read_jobs(
    run: RunDirectory, jobs: Sequence[JobKey], folds: Mapping[int, Mapping[str, Sequence[str]]], classes: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of jobs and predictions; all damaged jobs are reported at once."""
    rows, predictions, faults = [], [], []
    broken = {job: found for job in jobs if (found := run.job(job).damage())}
    whole = [] if broken else _read_at_once(run, jobs, folds, classes)
    for place, job in enumerate(jobs):
        directory = run.job(job)
        if job in broken:
            faults += broken[job]
            continue
        tested = folds[job.fold]["test"]
        table, wrong = (whole[place], []) if whole else _read_predictions(directory, tested, classes)
        result = directory.read_result()
        faults += wrong or list(_result_faults(directory.path / RESULT, job, result, table, classes))
        faults += list(_array_faults(directory.path / EMBEDDINGS, len(table)))
        rows.append(job._asdict() | {name: result.get(name) for name in (*NUMBERS, *metrics.MEASURES)})
        predictions.append(table.assign(**job._asdict()))
    if not (run.path / GEOMETRY).exists():  # which replaces the deep features
        faults += _missing_embeddings([run.job(job) for job in jobs])
    if faults:
        raise CheckpointError.of(faults)
    return pd.DataFrame(rows), pd.concat(predictions, ignore_index=True).astype({"system": "category"})


def _read_at_once(
    run: RunDirectory, jobs: Sequence[JobKey], folds: Mapping[int, Mapping[str, Sequence[str]]], classes: Sequence[str]
) -> list[pd.DataFrame]:
    """The predictions of all jobs, parsed and checked together, which is faster; none where anything is amiss.

    :func:`_read_predictions` then says what, job by job.
    """
    expected = [*PREDICTION_COLUMNS, *_probability_columns(classes)]
    header = f"{','.join(expected)}\n".encode()
    contents = [run.job(job).read(PREDICTIONS) or b"" for job in jobs]
    if not all(content.startswith(header) and content.endswith(b"\n") and b'"' not in content for content in contents):
        return []
    text = dict.fromkeys(PREDICTION_COLUMNS, str)
    lines = header + b"".join(content.removeprefix(header) for content in contents)
    try:
        table = pd.read_csv(io.BytesIO(lines), dtype=text, keep_default_na=False)
    except ValueError:
        return []
    ends = np.cumsum([content.count(b"\n") - 1 for content in contents]).tolist()
    if list(table.columns) != expected or ends[-1] != len(table):
        return []
    every = [name for job in jobs for name in folds[job.fold]["test"]]
    known = table.assign(job=np.repeat(np.arange(len(jobs)), np.diff([0, *ends])))
    wanted = [len(folds[job.fold]["test"]) for job in jobs]
    pairs = sorted(zip(known["job"].tolist(), known["id"].tolist(), strict=True))
    if pairs != sorted(zip(np.repeat(np.arange(len(jobs)), wanted).tolist(), every, strict=True)):
        return []
    if list(_value_faults(run.path, table, classes)):
        return []
    for name in ("label", "predicted"):
        table[name] = pd.Categorical(table[name], categories=list(classes))
    return [table.iloc[start:end] for start, end in pairwise([0, *ends])]


def _missing_embeddings(directories: Sequence[JobDirectory]) -> list[Fault]:
    """Faults of a copy that lacks some embeddings and not all: means over the rest would differ.

    Fused systems have none.
    """
    listed = [
        directory.path / EMBEDDINGS
        for directory in directories
        if EMBEDDINGS in directory.read_result().get("sha256", {})
    ]
    gone = [path for path in listed if not path.exists()]
    expected = "the deep features of all jobs, or of none"
    return [job_fault(path, "no file", expected) for path in gone] if len(gone) < len(listed) else []


def _read_predictions(
    directory: JobDirectory, test: Sequence[str], classes: Sequence[str]
) -> tuple[pd.DataFrame, list[Fault]]:
    path, content = directory.path / PREDICTIONS, directory.read(PREDICTIONS)
    text = dict.fromkeys(PREDICTION_COLUMNS, str)
    try:
        table = pd.read_csv(io.BytesIO(content or b""), dtype=text, keep_default_na=False)
    except ValueError as error:  # pandas' parser errors and UnicodeDecodeError are ValueErrors
        return pd.DataFrame(), [job_fault(path, str(error).strip(), "a readable CSV table")]
    expected = [*PREDICTION_COLUMNS, *_probability_columns(classes)]
    if list(table.columns) != expected:
        return table, [job_fault(path, f"columns {', '.join(table.columns)}", ", ".join(expected))]
    if faults := list(_prediction_faults(path, table, test, classes)):
        return table, faults
    for name in ("label", "predicted"):
        table[name] = pd.Categorical(table[name], categories=list(classes))
    return table, []


def _prediction_faults(path: Path, table: pd.DataFrame, test: Sequence[str], classes: Sequence[str]) -> Iterator[Fault]:
    if sorted(table["id"]) != sorted(test):
        odd = sorted(set(table["id"]) ^ set(test))[:3]
        got = f"other utterances, e.g. {', '.join(odd)}" if odd else "an utterance twice"
        yield job_fault(path, got, "the test part of the fold")
    yield from _value_faults(path, table, classes)


def _value_faults(path: Path, table: pd.DataFrame, classes: Sequence[str]) -> Iterator[Fault]:
    for name in ("label", "predicted"):
        if unknown := sorted(set(table[name]) - set(classes)):
            yield job_fault(path, f"{name} {unknown[0]!r}", f"one of {', '.join(classes)}")
    columns = _numbers(table[_probability_columns(classes)])
    if not ((columns >= 0) & (columns <= 1)).all() or (np.abs(columns.sum(1) - 1) > 1e-3).any():
        yield job_fault(path, "probabilities that are none", "rows in [0, 1] that sum to 1")


def _numbers(table: pd.DataFrame) -> Float[NDArray[np.float64], "rows columns"]:
    """The values of a table, NaN for those that are no numbers."""
    if not all(kind.kind in "fi" for kind in table.dtypes):
        table = table.apply(pd.to_numeric, errors="coerce")
    return table.to_numpy(np.float64)


def _result_faults(
    path: Path, job: JobKey, result: Mapping[str, Any], table: pd.DataFrame, classes: Sequence[str]
) -> Iterator[Fault]:
    """Contradictions of `result.json` with its folder and with the predictions."""
    for name, value in job._asdict().items():
        if result.get(name) != value:
            yield job_fault(path, f"{name} = {result.get(name)!r}", repr(value))
    for name, kind in NUMBERS.items():
        if not _is_number(result.get(name), kind):
            yield job_fault(path, f"{name} = {result.get(name)!r}", "a number, 0 or more")
    confusion = metrics.confusion_matrix(codes(table, "label"), codes(table, "predicted"), len(classes))
    if result.get("confusion") != confusion.tolist():
        yield job_fault(path, f"confusion = {result.get('confusion')!r}", f"{confusion.tolist()} as in predictions.csv")
    for name, value in metrics.scores(confusion).items():
        got = result.get(name)
        if not isinstance(got, float | int) or not abs(got - value) <= TOLERANCE:
            yield job_fault(path, f"{name} = {got!r}", f"{value:.6f} as in predictions.csv")


def _is_number(value: Any, kind: type) -> bool:
    numeric = is_count(value) if kind is int else isinstance(value, int | float) and not isinstance(value, bool)
    return bool(numeric and 0 <= value < float("inf"))


def _array_faults(path: Path, utterances: int) -> Iterator[Fault]:
    if not path.exists():
        return
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        yield job_fault(path, str(error), "an array of numbers")
        return
    if array.ndim != 2 or len(array) != utterances or not np.isfinite(array).all():
        yield job_fault(path, f"{array.dtype} {list(array.shape)}", f"finite numbers, [{utterances}, features]")


def _probability_columns(classes: Iterable[str]) -> list[str]:
    return [PROBABILITY_PREFIX + name for name in classes]
