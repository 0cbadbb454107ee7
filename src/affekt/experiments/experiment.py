"""Systems x folds x seeds: every job trained once, everything on disk, nothing lost.

A job's files are written atomically, its `result.json` last; a job with a whole `result.json` is never run again. Jobs
are taken under a lock that dies with its holder, so any number of processes may work on one run directory. Each job
computes with a fixed number of threads, so the numbers do not depend on how many jobs run side by side.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tomli_w
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from affekt.config import as_table, build, read_toml, sealed
from affekt.data.labels import LabelSet
from affekt.data.manifest import Manifest
from affekt.data.protocols import Fold, FoldPlan, make_folds
from affekt.data.waveform_store import WaveformStore
from affekt.errors import AffektError, ConfigError, Fault, ProtocolError
from affekt.features.clips import Clips
from affekt.features.log_mel import FrontEnd
from affekt.measures import metrics
from affekt.results import DIGEST, FUSIONS, Results, damage, file_sha256, result_digest, summarize, write_summary
from affekt.runtime.atomic_files import write_bytes
from affekt.runtime.cpu_affinity import available_cores
from affekt.runtime.devices import choose_device, seeded
from affekt.runtime.environment import environment
from affekt.runtime.seeds import derive_seed
from affekt.training.checkpoint import Checkpoint
from affekt.training.fitted import Epoch, Fitted, Subset
from affekt.training.fitting import fit
from affekt.training.recipes import Recipe, find_recipe
from affekt.training.scoring import Scored, score
from affekt.training.systems import System, from_system_dict

FEATURE_FILES = ("model.safetensors", "history.csv", "predictions.csv", "embeddings.npy")
STATE = "state.pt"
UTTERANCES, DESCRIBED = ".utterances.json", ("label", "speaker", "session", "text_id")
MOST_NAMED = 20
"""Utterances that are named one by one, if a run directory was begun with others."""
FIXED = ("corpus", "utterances", "classes", "protocol", "folds", "fold_seed", "recipe", "threads")
"""What of `config.toml` cannot change once a run directory is begun."""


@dataclass(frozen=True)
class Data:
    """What all jobs share: utterances, their classes, and their features for each feature configuration in use.

    Attributes:
        manifest: the usable utterances.
        classes: class names in order.
        labels: class number of each utterance.
        clips: features of all utterances, by front end.
    """

    manifest: Manifest
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    clips: dict[FrontEnd, Clips]

    def part(self, ids: Sequence[str]) -> Subset:
        """Rows, labels and speakers of a part of a fold."""
        return self._part(self._rows.loc[list(ids)].to_numpy(np.int64))

    def balanced(self, part: Subset) -> Subset:
        """A training part in which utterances of smaller corpora come round(sqrt(largest / own)) times."""
        corpora = self.manifest.table["corpus"].to_numpy()[part.rows]
        sizes = Counter(corpora)
        repeats = {corpus: round(math.sqrt(max(sizes.values()) / size)) for corpus, size in sizes.items()}
        return self._part(np.repeat(part.rows, [repeats[corpus] for corpus in corpora]))

    def _part(self, rows: NDArray[np.int64]) -> Subset:
        return Subset(rows, self.labels[rows], self._speakers[rows])

    @cached_property
    def _speakers(self) -> NDArray[np.int64]:
        """Number of each utterance's speaker; -1 where there is none."""
        table = self.manifest.table
        names = (table["corpus"] + "/" + table["speaker"]).where(table["speaker"] != "")
        return pd.factorize(names)[0].astype(np.int64)

    @property
    def _rows(self) -> pd.Series:
        return pd.Series(np.arange(len(self.manifest)), index=self.manifest.ids)


@dataclass(frozen=True)
class Job:
    """One training: a system on a fold with a seed, and where its files go."""

    system: System
    fold: Fold
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.system.name}/fold-{self.fold.index}/seed-{self.seed}"

    @property
    def done(self) -> bool:
        """Whether the job's results are there and whole."""
        return (self.folder / "result.json").exists() and not damage(self.folder)


@dataclass(frozen=True)
class Experiment:
    """A run directory's plan: which jobs, on which data, by which recipe."""

    out: Path
    data: Data
    plan: FoldPlan
    systems: tuple[System, ...]
    seeds: int
    recipe: Recipe
    threads: int
    device: str

    @property
    def line(self) -> str:
        """What every table and plot says: corpus, classes, protocol, what is shared."""
        return self.plan.line(self.data.manifest.name, len(self.data.classes), self.seeds)

    @property
    def jobs(self) -> list[Job]:
        """All jobs; seeds outermost, so that an interrupted experiment has all systems on some seed."""
        return [
            Job(system, fold, seed, self.out / system.name / f"fold-{fold.index}" / f"seed-{seed}")
            for seed in range(self.seeds)
            for fold in self.plan.folds
            for system in self.systems
        ]

    def job_seed(self, job: Job) -> int:
        """Seeds derive from (corpus, protocol, fold, seed, system)."""
        return derive_seed(self.data.manifest.name, self.plan.protocol, job.fold.index, job.seed, job.system.name)


def load_data(
    manifest: Manifest,
    systems: Sequence[System],
    labels: LabelSet | None = None,
    cache: Path | None = None,
    device: torch.device | str = "cpu",
    on_progress: Callable[[str, int, int], object] = lambda what, done, total: None,
) -> tuple[Data, tuple[str, ...], list[Fault]]:
    """Decode, select and compute features.

    Args:
        manifest: the utterances.
        systems: whose feature configurations are needed.
        labels: which labels are classes; by default all labels of the manifest, in alphabetical order.
        cache: where decoded audio is kept.
        device: where features live.
        on_progress: called with what is done, how much of it, and of how much.

    Returns:
        The data, the content hash of each utterance's audio, and what could not be decoded.
    """
    manifest = manifest.select(labels) if labels is not None else manifest
    classes = labels.classes if labels is not None else tuple(sorted(set(manifest.labels)))
    if len(classes) < 2:
        raise ConfigError("classes", got=", ".join(classes), expected="at least 2", remedy="choose other --labels")
    configs = tuple(dict.fromkeys(system.features for system in systems))
    stores = {rate: WaveformStore.open(manifest, cache, rate) for rate in {config.sample_rate_hz for config in configs}}
    first = stores[configs[0].sample_rate_hz]  # what can be decoded at one rate can be at all
    usable = first.usable
    manifest = manifest.where(usable)
    waveforms = {rate: _Waveforms(store.where(usable)) for rate, store in stores.items()}
    total = len(manifest)
    clips = {
        config: Clips.from_waveforms(
            waveforms[config.sample_rate_hz], config, device, lambda done: on_progress("features", done, total)
        )
        for config in configs
    }
    numbers = np.array([classes.index(label) for label in manifest.labels], np.int64)
    return Data(manifest, classes, numbers, clips), first.where(usable).hashes, first.failures


class _Waveforms(Sequence[NDArray[np.float32]]):
    """A store as a plain sequence of arrays."""

    def __init__(self, store: WaveformStore) -> None:
        self._store = store

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, index: Any) -> Any:
        if index >= len(self._store):
            raise IndexError(index)
        return self._store[index]


def plan_experiment(
    manifest: Manifest,
    systems: Sequence[System],
    out: str | Path,
    *,
    protocol: str | Path = "random",
    folds: int = 5,
    fold_seed: int = 0,
    seeds: int = 1,
    recipe: str | Recipe = "paper",
    labels: LabelSet | None = None,
    device: str = "auto",
    threads: int | None = None,
    cache: Path | None = None,
    on_progress: Callable[[str, int, int], object] = lambda what, done, total: None,
) -> tuple[Experiment, list[Fault]]:
    """Everything before the first training: data, audited folds, and a run directory that says what is in it.

    Args:
        manifest: the utterances.
        systems: what to compare; the one called `baseline`, or the first, is what the others are compared with.
        out: run directory, new or of the same experiment.
        protocol, folds, fold_seed: see :func:`affekt.data.protocols.make_folds`; a protocol may be a file of folds.
        seeds: trainings of each system on each fold.
        recipe: a name in :data:`affekt.training.recipes.RECIPES`, or an own recipe.
        labels: which labels are classes.
        device: "auto", "cpu", "cuda" or "mps".
        threads: CPU threads of each job; by default what the run directory was begun with, or 1.
        cache: where decoded audio is kept.
        on_progress: called with what is done, how much of it, and of how much.

    Raises:
        ConfigError: `out` holds another experiment, nothing to compare, or systems that cannot be built.
        ProtocolError: folds that share what their protocol forbids.
    """
    recipe = find_recipe(recipe)
    applied, out = tuple(recipe.apply(system) for system in systems), Path(out)
    _check_numbers(systems=len(applied), seeds=seeds, threads=1 if threads is None else threads)
    begun = _read_plan(out / "config.toml")
    data, hashes, failures = load_data(manifest, applied, labels, cache, choose_device(device), on_progress)
    _check_systems(applied, len(data.classes))
    threads = threads or (begun["experiment"]["threads"] if begun else 1)
    utterances = _describe_utterances(data.manifest, hashes)
    changed = _changed_utterances(out / UTTERANCES, utterances)
    try:
        plan = make_folds(data.manifest, protocol, folds, fold_seed, hashes)
        experiment = Experiment(out, data, plan, applied, seeds, recipe, threads, device)
        _write_plan(experiment, _content_hash(data, hashes, plan), labels)
    except (ConfigError, ProtocolError) as error:  # what cannot be decoded any more, or is another now, may be why
        raise type(error).of([*failures, *changed, *error.faults]) from error
    if changed:
        raise ConfigError.of(changed)
    write_bytes(out / UTTERANCES, json.dumps({"sha256": _hash(utterances), "utterances": utterances}).encode())
    return experiment, failures


def _check_numbers(**numbers: int) -> None:
    faults = [Fault(name, str(number), "at least 1") for name, number in numbers.items() if number < 1]
    if faults:
        raise ConfigError.of(faults)


def _check_systems(systems: Sequence[System], classes: int) -> None:
    """Build every system once: what does not fit fails now, and not after hours of the others."""
    counts = Counter(system.name for system in systems)
    faults = [Fault(f"system {name}", f"{count} of that name", "one") for name, count in counts.items() if count > 1]
    for system in systems:
        try:
            with seeded(0):
                system.build(classes, [1] * classes)
        except AffektError as error:
            faults += [replace(fault, what=f"system {system.name}: {fault.what}") for fault in error.faults]
    if faults:
        raise ConfigError.of(faults)


def _content_hash(data: Data, hashes: Sequence[str], plan: FoldPlan) -> str:
    """A hash of which recordings have which labels, and of which part of which fold they are."""
    rows = list(zip(data.manifest.ids, data.manifest.labels, hashes, strict=True))
    return _hash([rows, [fold.parts() for fold in plan.folds]])


def _hash(plain: Any) -> str:
    """A hash of what JSON can hold."""
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def _describe_utterances(manifest: Manifest, hashes: Sequence[str]) -> dict[str, list[str]]:
    """What results depend on, of every utterance by its id: some columns, and the hash of its audio."""
    columns = [manifest.table[name].tolist() for name in DESCRIBED]
    return {name: list(values) for name, *values in zip(manifest.ids, *columns, hashes, strict=True)}


def _changed_utterances(path: Path, now: Mapping[str, list[str]]) -> list[Fault]:
    """Utterances that a run directory was begun with and that are gone or others now; none where it does not say."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        begun = kept["utterances"]
        if kept["sha256"] != _hash(begun):
            return []
        changed = [name for name, described in begun.items() if now.get(name) != described]
        faults = [
            fault for name in changed[:MOST_NAMED] for fault in _utterance_faults(name, now.get(name), begun[name])
        ]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # damaged, and soon written anew
        return []
    more = len(changed) - MOST_NAMED
    return [*faults, Fault(f"{more} more utterances", "others", "those that it was begun with")] if more > 0 else faults


def _utterance_faults(name: str, now: list[str] | None, begun: list[str]) -> Iterator[Fault]:
    remedy = "restore it, or choose another folder with -o"
    if now is None:
        yield Fault(name, "nothing", "an utterance, as it was begun", remedy)
        return
    for column, got, expected in zip((*DESCRIBED, "audio"), now, begun, strict=True):
        if got != expected:
            got, expected = ("another", "the recording") if column == "audio" else (repr(got), repr(expected))
            yield Fault(f"{name}: {column}", got, f"{expected}, as it was begun", remedy)


def _read_plan(path: Path) -> dict[str, Any] | None:
    """The plan of a run directory that was begun; None for a new one."""
    if not path.exists():
        return None
    plan = read_toml(path)
    tables = [plan.get(name) for name in ("experiment", "recipe", "systems")]
    if not all(isinstance(table, dict) for table in tables) or not {*FIXED, "systems", "seeds"} <= set(tables[0] or ()):
        expected = "the configuration of an experiment"
        raise ConfigError(str(path), got="something else", expected=expected, remedy="choose another folder with -o")
    return plan


def _write_plan(experiment: Experiment, content: str, labels: LabelSet | None) -> None:
    """config.toml, folds.json, environment.json; a directory of another experiment is refused, more systems are not."""
    out, data, plan = experiment.out, experiment.data, experiment.plan
    table: dict[str, Any] = {
        "experiment": {
            "corpus": data.manifest.name,
            "utterances": len(data.manifest),
            "classes": list(data.classes),
            "protocol": plan.protocol,
            "folds": len(plan.folds),
            "fold_seed": plan.seed,
            "seeds": experiment.seeds,
            "systems": [system.name for system in experiment.systems],
            "recipe": experiment.recipe.name,
            "threads": experiment.threads,
            "content": content,
        },
        "recipe": as_table(experiment.recipe),
        "systems": {system.name: _without_none(system.to_dict()) for system in experiment.systems},
    }
    if labels is not None:
        members = {name: list(canonical) for name, canonical in labels.members.items()}
        table["labels"] = {"name": labels.name, "classes": members}
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".lock"):
        begun = _read_plan(out / "config.toml")
        if begun is not None:
            table = _merge_plan(out / "config.toml", begun, table)
        seeds = table["experiment"]["seeds"]
        table["experiment"]["line"] = plan.line(data.manifest.name, len(data.classes), seeds)
        plan.write(out / "folds.json")
        write_bytes(out / "environment.json", (json.dumps(environment(), indent=2) + "\n").encode())
        write_bytes(out / "config.toml", sealed(tomli_w.dumps(table)))


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return list(map(_without_none, value)) if isinstance(value, list | tuple) else value


def _merge_plan(path: Path, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The plan of a directory that is gone on with: the same data and recipe, perhaps more systems or seeds."""
    before, now = old["experiment"], new["experiment"]
    changed = [(key, now[key], before[key]) for key in FIXED if now[key] != before[key]]
    if now["recipe"] == before["recipe"]:
        recipe = as_table(build(Recipe, old["recipe"], where=str(path)))
        changed += [(f"recipe.{key}", *values) for key, *values in _changes(new["recipe"], recipe)]
    for name in old["systems"].keys() & new["systems"].keys():
        system = _without_none(_complete(old["systems"][name]))
        changed += [(f"systems.{name}.{key}", *values) for key, *values in _changes(new["systems"][name], system)]
    faults = [Fault(f"{path}: {key}", repr(got), f"{expected!r}, as it was begun") for key, got, expected in changed]
    if not faults and before.get("content", now["content"]) != now["content"]:
        faults.append(Fault(f"{path}", "other recordings, labels or folds", "those that it was begun with"))
    if faults:
        raise ConfigError.of([replace(fault, remedy="choose another folder with -o") for fault in faults])
    now["systems"] = list(dict.fromkeys([*before["systems"], *now["systems"]]))
    now["seeds"] = max(now["seeds"], before["seeds"])
    new["systems"] = old["systems"] | new["systems"]
    return new | {FUSIONS: old[FUSIONS]} if FUSIONS in old else new


def _complete(system: dict[str, Any]) -> dict[str, Any]:
    """A system's table with all defaults; one with own classes as it is."""
    try:
        return from_system_dict(system).to_dict()
    except ConfigError:
        return system


def _changes(new: Any, old: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """What differs between two nested tables: dotted key, new value, old value."""
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        for name in sorted({*new, *old}):
            yield from _changes(new.get(name), old.get(name), f"{key}.{name}" if key else name)
    elif new != old:
        yield key, new, old


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Compute with so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_job(experiment: Experiment, job: Job, on_epoch: Callable[[Epoch], object] = lambda epoch: None) -> None:
    """Train one job and write its files; an interrupted one goes on from its last epoch."""
    job.folder.mkdir(parents=True, exist_ok=True)
    for leftover in job.folder.glob(".*.tmp"):  # of a process that was killed while it wrote
        leftover.unlink()
    start = time.perf_counter()
    with torch_threads(experiment.threads):
        fitted, temperature, scored = _train(experiment, job, on_epoch)
    test = experiment.data.part(job.fold.test)
    probabilities = torch.from_numpy(scored.logits / temperature).softmax(1).numpy()
    files = {
        "history.csv": _csv([asdict(epoch) for epoch in fitted.history]),
        "predictions.csv": _predictions(experiment.data, job.fold.test, test, probabilities),
        "embeddings.npy": _npy(scored.embeddings),
    }
    _checkpoint(experiment, job, fitted, temperature).save(job.folder / "model.safetensors")
    for name, content in files.items():
        write_bytes(job.folder / name, content)
    _write_result(experiment, job, fitted, temperature, probabilities.argmax(1), test, time.perf_counter() - start)
    (job.folder / STATE).unlink(missing_ok=True)


def _train(experiment: Experiment, job: Job, on_epoch: Callable[[Epoch], object]) -> tuple[Fitted, float, Scored]:
    """The fitted network, its temperature, and what it says about the test part."""
    data, config, device = experiment.data, experiment.recipe.train, choose_device(experiment.device)
    clips = data.clips[job.system.features]
    train, validation, test = (data.part(ids) for ids in (job.fold.train, job.fold.validation, job.fold.test))
    if experiment.recipe.balance_corpora:
        train = data.balanced(train)
    seed, state = experiment.job_seed(job), job.folder / STATE
    classes = len(data.classes)
    fitted = fit(job.system, clips, train, validation, classes, config, seed, device, state=state, on_epoch=on_epoch)
    exact = replace(config, precision="float32")  # as an exported model computes
    validated = score(fitted, clips, validation.rows, exact, device)
    temperature = metrics.fit_temperature(validated.logits, validation.labels)
    return fitted, temperature, score(fitted, clips, test.rows, exact, device)


def _write_result(
    experiment: Experiment,
    job: Job,
    fitted: Fitted,
    temperature: float,
    predicted: NDArray[np.int64],
    test: Subset,
    seconds: float,
) -> None:
    confusion = metrics.confusion_matrix(test.labels, predicted, len(experiment.data.classes))
    result = {
        "system": job.system.name,
        "fold": job.fold.index,
        "seed": job.seed,
        "protocol": experiment.line,
        "parameters": sum(parameter.numel() for parameter in fitted.network.parameters() if parameter.requires_grad),
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history),
        "seconds": round(sum(epoch.seconds for epoch in fitted.history), 3),
        "total_seconds": round(seconds, 3),
        **metrics.described(confusion, experiment.data.classes),
        "temperature": temperature,
        "sha256": {name: file_sha256(job.folder / name) for name in FEATURE_FILES},
    }
    result[DIGEST] = result_digest(result)
    write_bytes(job.folder / "result.json", (json.dumps(result, indent=2, sort_keys=True) + "\n").encode())


def _checkpoint(experiment: Experiment, job: Job, fitted: Fitted, temperature: float) -> Checkpoint:
    provenance = {
        "protocol": experiment.line,
        "recipe": experiment.recipe.name,
        "fold": job.fold.index,
        "seed": job.seed,
        "training_utterances": len(job.fold.train),
        "best_epoch": fitted.best_epoch,
        "affekt": environment()["affekt"],
    }
    weights, loss_weights = fitted.network.state_dict(), fitted.loss.state_dict()
    classes = experiment.data.classes
    return Checkpoint(job.system, classes, fitted.normalizer, weights, loss_weights, temperature, provenance)


def _predictions(data: Data, ids: Sequence[str], test: Subset, probabilities: NDArray[np.float32]) -> bytes:
    names = np.array(data.classes)
    columns = {
        "id": list(ids),
        "speaker": data.manifest.table["speaker"].to_numpy()[test.rows],
        "label": names[test.labels],
        "predicted": names[probabilities.argmax(1)],
    }
    scores = {f"prob.{name}": probabilities[:, index] for index, name in enumerate(data.classes)}
    return pd.DataFrame(columns | scores).to_csv(index=False).encode()


def _csv(rows: Sequence[dict[str, Any]]) -> bytes:
    return pd.DataFrame(list(rows)).to_csv(index=False).encode()


def _npy(array: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def take(experiment: Experiment, job: Job, on_epoch: Callable[[Job, Epoch], object], wait: bool = False) -> bool:
    """Run a job unless it is done; False where another process holds it (with `wait`, until that one lets go)."""
    try:
        if job.done:
            return True
        job.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(job.folder / ".lock", timeout=-1 if wait else 0):
            if not job.done:
                run_job(experiment, job, lambda epoch: on_epoch(job, epoch))
            return True
    except Timeout:
        return False
    except ConnectionError:  # of whoever is told about the epochs
        raise
    except OSError as error:
        remedy = "what is finished is kept: start it again when the disk can be written"
        place = error.filename or job.folder
        raise AffektError(str(place), got=error.strerror or str(error), expected="a file", remedy=remedy) from error


def run_jobs(
    experiment: Experiment,
    jobs: Sequence[Job],
    on_epoch: Callable[[Job, Epoch], object] = lambda job, epoch: None,
    on_done: Callable[[Job], object] = lambda job: None,
) -> None:
    """Run jobs in this process: first all that are free, then those that another process held.

    Raises:
        AffektError: why some jobs failed, once the others are done.
    """
    held: list[Job] = []
    faults: list[Fault] = []
    for waiting, wait in ((jobs, False), (held, True)):
        for job in waiting:
            try:
                if take(experiment, job, on_epoch, wait):
                    on_done(job)
                else:
                    held.append(job)
            except AffektError as error:
                faults += faults_of(job, error)
    if faults:
        raise AffektError.of(faults)


def faults_of(job: Job, error: AffektError) -> list[Fault]:
    """What went wrong, and in which job."""
    return [replace(fault, what=f"job {job.name}: {fault.what}") for fault in error.faults]


def finish(experiment: Experiment) -> Results:
    """Check everything that was written and compute `summary.json`."""
    results = Results.read(experiment.out)
    write_summary(summarize(results), experiment.out / "summary.json")
    return results


def default_jobs(device: str) -> int:
    """Jobs side by side: one per core on a CPU, where each has one thread; one on an accelerator."""
    return available_cores() if choose_device(device).type == "cpu" else 1
