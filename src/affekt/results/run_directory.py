"""The format of a run directory: the one module that writes it and reads it.

::

    config.toml            the plan: tables [experiment], [recipe], [systems], [labels], [fusions]; last line: its hash
    folds.json             utterance ids of each part of each fold
    environment.json       machine and library versions
    .utterances.json       labels, speakers and audio hash of every utterance, by id
    .left_out.json         recordings that could not be decoded, one line each
    .lock                  held while the plan changes
    summary.json           all figures; holds no times, so that it comes back bit for bit
    costs.json             measured times by device (`affekt experiment --plan`)
    geometry.csv           of a published copy: measures of the deep features that the copy leaves out
    predictions.parquet    of a published copy: predictions.csv of all jobs; likewise history.parquet, result.parquet
    SYSTEM/fold-K/seed-S/  one job
        .lock              held while the job runs
        state.pt           an unfinished training
        model.safetensors  checkpoint
        history.csv        one row per epoch
        predictions.csv    one row per test utterance
        embeddings.npy     deep features, float32 [test utterances, features]
        result.json        written last: measures, SHA-256 of the other files, and a digest of itself

Every file is written atomically. A job counts as finished once its `result.json` is there and all hashes match; hashes
of packed files hold for the CSV files restored from them (:mod:`affekt.results.packed_tables`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w
from filelock import FileLock

from affekt.config import is_run_config, read_toml, sealed
from affekt.errors import NO_FOLDER, CheckpointError, ConfigError, Fault
from affekt.results.packed_tables import JobId, packed_jobs, unpack
from affekt.runtime.atomic_files import write_bytes

CONFIG, FOLDS, ENVIRONMENT = "config.toml", "folds.json", "environment.json"
LEFT_OUT = ".left_out.json"
UTTERANCES, SUMMARY, COSTS, GEOMETRY = ".utterances.json", "summary.json", "costs.json", "geometry.csv"
WEIGHTS, HISTORY, PREDICTIONS = "model.safetensors", "history.csv", "predictions.csv"
EMBEDDINGS, RESULT, STATE, LOCK = "embeddings.npy", "result.json", "state.pt", ".lock"

NEEDED = (HISTORY, PREDICTIONS)
PACKED = (*NEEDED, RESULT)
"""Files that a published copy holds packed."""
OPTIONAL = (WEIGHTS, EMBEDDINGS)
"""Large files that a published copy may leave out; where they are present, they are checked."""
TRAINED = (WEIGHTS, HISTORY, PREDICTIONS, EMBEDDINGS)
"""Files of a trained job beside its `result.json`; a fused system has the needed ones alone."""
HISTORY_COLUMNS = ("epoch", "train_accuracy", "validation_accuracy")
PREDICTION_COLUMNS = ("id", "speaker", "label", "predicted")
PARTS = ("train", "validation", "test")
FOLD, SEED = "fold-", "seed-"
DIGEST = "digest"
"""Key of `result.json`: the hash of all its other entries."""
FUSIONS = "fusions"
"""Table of `config.toml`: the members of each fused system."""
COST_KEYS = ("training", "scoring", "front_end", "recognition", "job_hours", "longest_job_hours")
Costs = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Device -> system -> :data:`COST_KEYS` and more, in seconds, hours and counts."""


class JobKey(NamedTuple):
    """Identity of a job of a run: a system, a fold and a seed; as text, its folder.

    >>> str(JobKey("focal", 0, 2))
    'focal/fold-0/seed-2'
    """

    system: str
    fold: int
    seed: int

    def __str__(self) -> str:
        return f"{self.system}/{FOLD}{self.fold}/{SEED}{self.seed}"


@dataclass(frozen=True)
class JobDirectory:
    """The files of one job."""

    path: Path

    @property
    def has_result(self) -> bool:
        """Whether `result.json` exists, whole or not, as a file or packed."""
        return self.read(RESULT) is not None

    @property
    def finished(self) -> bool:
        """Whether all files exist and match their hashes."""
        return self.has_result and not self.damage()

    @property
    def state(self) -> Path:
        """The file of an unfinished training; it may not exist."""
        return self.path / STATE

    def lock(self, wait: bool = False) -> FileLock:
        """The job's lock, not yet acquired; it is released when its process ends, however that happens.

        Args:
            wait: whether acquiring blocks; otherwise it raises :class:`filelock.Timeout` where another holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path / LOCK, timeout=-1 if wait else 0)

    def read(self, name: str) -> bytes | None:
        """The content of a file, restored from the packed tables of the run if needed; None if there is none."""
        path = self.path / name
        if path.exists():
            return path.read_bytes()
        if name not in PACKED:
            return None
        key = job_id(self.path)
        return None if key is None else unpack(self.path.parents[2], name, key)

    def remove_leftovers(self) -> None:
        """Delete temporary files of a process that was killed while it wrote."""
        for leftover in self.path.glob(".*.tmp"):
            leftover.unlink()

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files in the order given; `result.json` must be the last, if it is among them."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_bytes(self.path / name, content)

    def write_result(self, facts: Mapping[str, Any], files: Sequence[str]) -> None:
        """Write `result.json`, which finishes the job.

        Args:
            facts: identity and measures of the job.
            files: names of the job's other files, whose hashes are added.
        """
        result = {**facts, "sha256": {name: file_sha256(self.path / name) for name in files}}
        result[DIGEST] = result_digest(result)
        self.write({RESULT: json_bytes(result, indent=2)})

    def read_result(self) -> dict[str, Any]:
        """The content of `result.json`.

        Raises:
            CheckpointError: a file that cannot be read or is no JSON object.
        """
        path = self.path / RESULT
        try:
            content = self.read(RESULT)
            if content is None:
                raise FileNotFoundError(f"no such file: {path}")
            data = json.loads(content.decode())
        except (OSError, ValueError, RecursionError) as error:  # no UTF-8, no JSON, lists in lists in lists
            raise CheckpointError.of([job_fault(path, str(error), "a JSON object")]) from error
        if not isinstance(data, dict):
            raise CheckpointError.of([job_fault(path, f"a {type(data).__name__}", "a JSON object")])
        return data

    def discard_state(self) -> None:
        """Delete the state of the training, which has ended."""
        self.state.unlink(missing_ok=True)

    def damage(self) -> list[Fault]:
        """Every file that does not match the hashes in `result.json`; empty for an intact job."""
        path = self.path / RESULT
        try:
            result = self.read_result()
        except CheckpointError as error:
            return list(error.faults)
        if result.get(DIGEST, digest := result_digest(result)) != digest:
            return [job_fault(path, "content that is not what was written", f"{DIGEST} {digest[:12]}...")]
        hashes = result.get("sha256")
        if not isinstance(hashes, dict):
            return [job_fault(path, f"sha256 = {hashes!r}", "a hash per file")]
        return [fault for name in (*NEEDED, *OPTIONAL) for fault in self._file_faults(name, hashes.get(name))]

    def _file_faults(self, name: str, expected: object) -> Iterator[Fault]:
        path, content = self.path / name, self.read(name)
        if content is None:
            if name in NEEDED:
                yield job_fault(path, "no file", "the file that its result.json lists")
        elif expected is None:
            yield job_fault(path, "no hash in result.json", "one for every file")
        elif (got := hashlib.sha256(content).hexdigest()) != expected:
            yield job_fault(path, f"sha256 {got[:12]}...", f"{str(expected)[:12]}...")


@dataclass(frozen=True)
class RunDirectory:
    """The files of a run."""

    path: Path

    def job(self, key: JobKey) -> JobDirectory:
        """The directory of a job; it may not exist."""
        return JobDirectory(self.path / str(key))

    @property
    def has_results(self) -> bool:
        """Whether any job has a `result.json`."""
        return any(self.path.glob(f"*/fold-*/seed-*/{RESULT}")) or bool(packed_jobs(self.path, RESULT))

    @property
    def has_costs(self) -> bool:
        """Whether times were measured here."""
        return (self.path / COSTS).exists()

    def lock(self) -> FileLock:
        """The lock of the plan, not yet acquired; acquiring it blocks."""
        self.path.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path / LOCK)

    def read_config(self) -> dict[str, Any] | None:
        """All tables of `config.toml`, checked against the hash in its last line; None where there is no such file.

        Raises:
            ConfigError: a damaged file, or not the configuration of a run.
        """
        path = self.path / CONFIG
        if not path.exists():
            return None
        tables = read_toml(path)
        if not is_run_config(tables):
            expected, remedy = "the configuration of an experiment", "choose another folder with -o"
            raise ConfigError(str(path), got="something else", expected=expected, remedy=remedy)
        return tables

    def write_config(self, tables: Mapping[str, Any]) -> None:
        """Write `config.toml`; the caller holds :meth:`lock`."""
        write_bytes(self.path / CONFIG, sealed(tomli_w.dumps(tables)))

    def read_experiment(self) -> dict[str, Any]:
        """The `[experiment]` table of `config.toml`: names, classes, systems, seeds; other tables are not checked.

        Raises:
            ConfigError: no such file, or values of a wrong type, all at once.
        """
        path = self.path / CONFIG
        if not path.exists():
            expected = "a folder that `affekt experiment` made with -o"
            if not self.path.exists():
                raise ConfigError(str(self.path), got=NO_FOLDER, expected=expected, remedy=f"a run is {expected}")
            raise ConfigError(f"run {self.path}", got="no config.toml", expected=expected)
        experiment = read_toml(path).get("experiment")
        if not isinstance(experiment, dict):
            raise ConfigError(f"{path}: experiment", got="nothing", expected="a table [experiment]")
        if faults := list(_experiment_faults(path, experiment)):
            raise ConfigError.of(faults)
        return experiment

    def fusions(self) -> dict[str, tuple[str, ...]]:
        """The fused systems and their members."""
        tables = read_toml(self.path / CONFIG).get(FUSIONS, {})
        return {name: tuple(table["members"]) for name, table in tables.items()}

    def add_fusion(self, name: str, members: Sequence[str]) -> None:
        """Enter a fused system into `config.toml`."""
        with self.lock():
            plan = read_toml(self.path / CONFIG)
            plan["experiment"]["systems"] = list(dict.fromkeys([*plan["experiment"]["systems"], name]))
            plan[FUSIONS] = plan.get(FUSIONS, {}) | {name: {"members": list(members), "rule": "mean posterior"}}
            self.write_config(plan)

    def read_folds(self) -> dict[int, Mapping[str, Sequence[str]]]:
        """Utterance ids of the parts of each fold, by its index.

        Raises:
            ConfigError: a file of something else.
        """
        path = self.path / FOLDS
        try:
            folds = json.loads(path.read_text(encoding="utf-8"))["folds"]
            return {int(fold["index"]): {part: fold[part] for part in PARTS} for fold in folds}
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            got = f"no {error}" if isinstance(error, KeyError) else str(error)
            expected = "folds, each with index, train, validation and test"
            raise ConfigError(str(path), got=got, expected=expected, remedy="start the experiment again") from error

    def write_environment(self, facts: Mapping[str, str]) -> None:
        """Write `environment.json`."""
        write_bytes(self.path / ENVIRONMENT, (json.dumps(facts, indent=2) + "\n").encode())

    def read_utterances(self) -> dict[str, list[str]]:
        """The utterances that the run was started with, by id; empty if the file is missing or damaged."""
        try:
            kept = json.loads((self.path / UTTERANCES).read_text(encoding="utf-8"))
            utterances = kept["utterances"]
            intact = kept["sha256"] == content_sha256(utterances) and isinstance(utterances, dict)
        except (OSError, ValueError, TypeError, KeyError):
            return {}
        return utterances if intact else {}

    def write_utterances(self, utterances: Mapping[str, list[str]]) -> None:
        """Write `.utterances.json`."""
        content = {"sha256": content_sha256(utterances), "utterances": utterances}
        write_bytes(self.path / UTTERANCES, json.dumps(content).encode())

    def read_left_out(self) -> list[str]:
        """The recordings that could not be decoded, and the reasons; empty if the file is missing or damaged."""
        try:
            lines = json.loads((self.path / LEFT_OUT).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return []
        return [str(line) for line in lines] if isinstance(lines, list) else []

    def write_left_out(self, faults: Sequence[Fault]) -> None:
        """Write `.left_out.json`, if there is anything to write or to replace."""
        if faults or (self.path / LEFT_OUT).exists():
            write_bytes(self.path / LEFT_OUT, json.dumps([str(fault) for fault in faults], indent=0).encode())

    def read_costs(self) -> Costs:
        """Times measured in this directory; empty where none were.

        Raises:
            CheckpointError: a file of something else.
        """
        path = self.path / COSTS
        if not path.exists():
            return {}
        try:
            costs: Costs = json.loads(path.read_text(encoding="utf-8"))
            numbers = [cost[name] for systems in costs.values() for cost in systems.values() for name in COST_KEYS]
            if not all(isinstance(number, int | float) for number in numbers):
                raise ValueError("a cost that is no number")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            got, expected = f"{type(error).__name__}: {error}", f"device -> system -> {', '.join(COST_KEYS)}"
            raise CheckpointError(str(path), got=got, expected=expected, remedy="delete it and plan again") from error
        return costs

    def add_costs(self, device: str, costs: Mapping[str, Mapping[str, float]]) -> Path:
        """Merge times of some systems on one device into `costs.json`; returns its path."""
        known = dict(self.read_costs())
        known[device] = {**known.get(device, {}), **costs}
        path = self.path / COSTS
        write_bytes(path, json_bytes(known, indent=1))
        return path

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`: see :func:`write_summary`."""
        write_summary(summary, self.path / SUMMARY)


def write_summary(summary: Mapping[str, Any], path: str | Path) -> None:
    """Write a summary as canonical JSON, atomically: equal summaries are equal files."""
    text = json.dumps(summary, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def json_bytes(data: Mapping[str, Any], indent: int) -> bytes:
    """JSON with sorted keys and a final newline."""
    return (json.dumps(data, indent=indent, sort_keys=True) + "\n").encode()


def content_sha256(plain: Any) -> str:
    """SHA-256 of the JSON text of lists, dicts, texts and numbers, in hexadecimal."""
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def result_digest(result: Mapping[str, Any]) -> str:
    """SHA-256 of all entries of a `result.json` except the digest itself."""
    rest = {name: value for name, value in result.items() if name != DIGEST}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def job_fault(path: Path, got: str, expected: str) -> Fault:
    """A fault of a job's file; the remedy is to run the job again."""
    return Fault(str(path), got, expected, f"delete {path.parent} and run the experiment again")


def is_count(value: object) -> bool:
    """Whether a value is a whole number, 0 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def seed_numbers(value: int | list[int]) -> tuple[int, ...]:
    """The seeds of a plan; a number stands for 0, 1, ... below it.

    >>> seed_numbers(3), seed_numbers([4, 7])
    ((0, 1, 2), (4, 7))
    """
    return tuple(range(value)) if isinstance(value, int) else tuple(value)


def job_id(folder: Path) -> JobId | None:
    """System, fold and seed of a job's folder; None for a folder of another name."""
    if len(folder.parts) < 3:
        return None
    system, fold, seed = folder.parts[-3:]
    numbers = (fold.removeprefix(FOLD), seed.removeprefix(SEED))
    if not (fold.startswith(FOLD) and seed.startswith(SEED) and all(map(str.isdecimal, numbers))):
        return None
    return system, int(numbers[0]), int(numbers[1])


def _experiment_faults(path: Path, experiment: Mapping[str, Any]) -> Iterator[Fault]:
    for name in ("corpus", "protocol", "recipe", "line"):
        if not isinstance(experiment.get(name), str):
            yield Fault(f"{path}: experiment.{name}", repr(experiment.get(name)), "a text")
    for name in ("classes", "systems"):
        if not _are_names(experiment.get(name)):
            yield Fault(f"{path}: experiment.{name}", repr(experiment.get(name)), "a list of names")
    if not _are_seeds(experiment.get("seeds")):
        yield Fault(f"{path}: experiment.seeds", repr(experiment.get("seeds")), "a number or a list of seeds")


def _are_names(value: object) -> bool:
    """Whether a value is a list of distinct texts, each of which may name a folder."""
    if not isinstance(value, list) or not all(isinstance(name, str) and Path(name).name == name for name in value):
        return False
    return len(set(value)) == len(value) > 0


def _are_seeds(value: object) -> bool:
    return (is_count(value) and value != 0) or (isinstance(value, list) and bool(value) and all(map(is_count, value)))
