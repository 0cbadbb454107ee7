"""Planning: data, audited folds and a run directory's configuration, before the first training.

A run directory may be extended by systems and seeds. Anything else that would change its results (:data:`FIXED`, the
recipe, a system's settings, the utterances) is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from affekt.config import as_table, build
from affekt.data.labels import LabelSet
from affekt.data.manifest import Manifest
from affekt.data.protocols import Fold, FoldPlan, make_folds
from affekt.errors import AffektError, ConfigError, Fault, ProtocolError
from affekt.experiments.loading import Data, load_data
from affekt.results.run_directory import CONFIG, FOLDS, FUSIONS, JobDirectory, JobKey, RunDirectory, content_sha256
from affekt.runtime.devices import choose_device, seeded
from affekt.runtime.environment import environment
from affekt.runtime.seeds import derive_seed
from affekt.training.recipes import Recipe, find_recipe
from affekt.training.systems import System, from_system_dict

DESCRIBED = ("label", "speaker", "session", "text_id")
"""Columns of the manifest that results depend on; `.utterances.json` holds them and the hash of the audio."""
PAPER_CLIP_SECONDS = 7.5
MOST_NAMED = 20
"""Utterances that are named one by one where a run was started with others."""
FIXED = ("corpus", "utterances", "classes", "protocol", "folds", "fold_seed", "recipe", "threads")
"""Entries of `config.toml` that cannot change once a run is started."""


@dataclass(frozen=True)
class TrainingJob:
    """One training: a system on a fold with a seed, and the folder of its files."""

    system: System
    fold: Fold
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        return str(JobKey(self.system.name, self.fold.index, self.seed))

    @property
    def directory(self) -> JobDirectory:
        """The job's files."""
        return JobDirectory(self.folder)

    @property
    def done(self) -> bool:
        """Whether the job's results are there and intact."""
        return self.directory.finished


@dataclass(frozen=True)
class Experiment:
    """The plan of a run directory.

    Attributes:
        out: the run directory.
        data: utterances, labels and features.
        plan: the audited folds.
        systems: the systems, with the recipe's changes applied.
        seeds: trainings of each system on each fold.
        recipe: how all systems are trained.
        threads: CPU threads of each job; they can change the last bits of a number.
        device: "auto", "cpu", "cuda" or "mps".
    """

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
        """The protocol line of every table and plot: corpus, classes, protocol, what is shared."""
        return self.line_for(self.seeds)

    def line_for(self, seeds: int) -> str:
        """The protocol line with another number of seeds; it states the clip length if that is not the paper's."""
        line, seconds = self.plan.line(self.data.manifest.name, len(self.data.classes), seeds), self.recipe.clip_seconds
        return line if seconds in (0, PAPER_CLIP_SECONDS) else f"{line} | clips of {seconds:g} s"

    @property
    def jobs(self) -> list[TrainingJob]:
        """All jobs, ordered by seed first, so that an interrupted experiment has all systems for some seeds."""
        return [
            TrainingJob(system, fold, seed, self.out / str(JobKey(system.name, fold.index, seed)))
            for seed in range(self.seeds)
            for fold in self.plan.folds
            for system in self.systems
        ]

    def job_seed(self, job: TrainingJob) -> int:
        """The seed of a job, derived from corpus, protocol, fold, seed and system."""
        return derive_seed(self.data.manifest.name, self.plan.protocol, job.fold.index, job.seed, job.system.name)


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
    """Load the data, make and audit the folds, and write the run directory's configuration.

    Args:
        manifest: the utterances.
        systems: the systems to compare; the reference is the one named `baseline`, else the first.
        out: run directory, new or of the same experiment.
        protocol, folds, fold_seed: see :func:`affekt.data.protocols.make_folds`; a protocol may be a file of folds.
        seeds: trainings of each system on each fold.
        recipe: a name in :data:`affekt.training.recipes.RECIPES`, or a `Recipe`.
        labels: which labels are classes.
        device: "auto", "cpu", "cuda" or "mps".
        threads: CPU threads of each job; by default those that the run directory was started with, or 1.
        cache: folder of the decoded audio.
        on_progress: called with the name of a step, the amount done and the total.

    Returns:
        The plan, and a fault for each recording that cannot be decoded and is left out.

    Raises:
        ConfigError: `out` holds another experiment, nothing to compare, or systems that cannot be built.
        ProtocolError: folds that share what their protocol forbids.
    """
    recipe = find_recipe(recipe)
    applied, out = tuple(recipe.apply(system) for system in systems), Path(out)
    _check_numbers(systems=len(applied), seeds=seeds, threads=1 if threads is None else threads)
    directory = RunDirectory(out)
    before = _read_config(directory)
    data, hashes, failures = load_data(manifest, applied, labels, cache, choose_device(device), on_progress)
    _check_systems(applied, len(data.classes))
    threads = threads or (before["experiment"]["threads"] if before else 1)
    utterances = _describe_utterances(data.manifest, hashes)
    changed = _changed_utterances(directory.read_utterances(), utterances)
    try:
        plan = make_folds(data.manifest, protocol, folds, fold_seed, hashes)
        experiment = Experiment(out, data, plan, applied, seeds, recipe, threads, device)
        _write_config(experiment, _content_hash(data, hashes, plan), labels)
    except (ConfigError, ProtocolError) as error:  # missing or changed recordings may be the cause
        raise type(error).of([*failures, *changed, *error.faults]) from error
    if changed:
        raise ConfigError.of(changed)
    directory.write_utterances(utterances)
    directory.write_left_out(failures)
    return experiment, failures


def _check_numbers(**numbers: int) -> None:
    faults = [Fault(name, str(number), "at least 1") for name, number in numbers.items() if number < 1]
    if faults:
        raise ConfigError.of(faults)


def _check_systems(systems: Sequence[System], classes: int) -> None:
    """Build every system once, so that invalid options fail now and not after hours of training."""
    counts = Counter(system.name for system in systems)
    faults = [Fault(f"system {name}", f"{count} of that name", "one") for name, count in counts.items() if count > 1]
    for system in systems:
        try:
            with seeded(0):
                system.build(classes, [1] * classes)
        except AffektError as error:
            faults += [fault.at(f"system {system.name}") for fault in error.faults]
    if faults:
        raise ConfigError.of(faults)


def _content_hash(data: Data, hashes: Sequence[str], plan: FoldPlan) -> str:
    """A hash of ids, labels, audio and folds."""
    rows = list(zip(data.manifest.ids, data.manifest.labels, hashes, strict=True))
    return content_sha256([rows, [fold.parts() for fold in plan.folds]])


def _describe_utterances(manifest: Manifest, hashes: Sequence[str]) -> dict[str, list[str]]:
    """The columns that results depend on and the hash of the audio, by utterance id."""
    columns = [manifest.table[name].tolist() for name in DESCRIBED]
    return {name: list(values) for name, *values in zip(manifest.ids, *columns, hashes, strict=True)}


def _changed_utterances(before: Mapping[str, list[str]], now: Mapping[str, list[str]]) -> list[Fault]:
    """Utterances that a run was started with and that are missing or different now."""
    changed = [name for name, described in before.items() if now.get(name) != described]
    faults = [fault for name in changed[:MOST_NAMED] for fault in _utterance_faults(name, now.get(name), before[name])]
    more = len(changed) - MOST_NAMED
    if more > 0:
        faults.append(Fault(f"{more} more utterances", "others", "those that it was started with"))
    return faults


def _utterance_faults(name: str, now: list[str] | None, before: list[str]) -> Iterator[Fault]:
    remedy = "restore it, or choose another folder with -o"
    if now is None:
        yield Fault(name, "nothing", "an utterance, as it was started", remedy)
        return
    for column, got, expected in zip((*DESCRIBED, "audio"), now, before, strict=True):
        if got != expected:
            got, expected = ("another", "the recording") if column == "audio" else (repr(got), repr(expected))
            yield Fault(f"{name}: {column}", got, f"{expected}, as it was started", remedy)


def _read_config(directory: RunDirectory) -> dict[str, Any] | None:
    """The plan of a run that was started; None for a new one."""
    config = directory.read_config()
    if config is not None and not {*FIXED, "systems", "seeds"} <= set(config["experiment"]):
        path, expected = str(directory.path / CONFIG), "the configuration of an experiment"
        raise ConfigError(path, got="something else", expected=expected, remedy="choose another folder with -o")
    return config


def _write_config(experiment: Experiment, content: str, labels: LabelSet | None) -> None:
    """Write config.toml, folds.json and environment.json; another experiment in the directory is refused."""
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
    directory = RunDirectory(out)
    with directory.lock():
        before = _read_config(directory)
        if before is not None:
            table = _merge_plan(out / CONFIG, before, table)
        seeds = table["experiment"]["seeds"]
        table["experiment"]["line"] = experiment.line_for(seeds)
        plan.write(out / FOLDS)
        directory.write_environment(environment())
        directory.write_config(table)


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return list(map(_without_none, value)) if isinstance(value, list | tuple) else value


def _merge_plan(path: Path, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a resumed run: the same data and recipe, perhaps more systems or seeds."""
    before, now = old["experiment"], new["experiment"]
    changed = [(key, now[key], before[key]) for key in FIXED if now[key] != before[key]]
    if now["recipe"] == before["recipe"]:
        recipe = as_table(build(Recipe, old["recipe"], where=str(path)))
        changed += [(f"recipe.{key}", *values) for key, *values in _changes(new["recipe"], recipe)]
    for name in old["systems"].keys() & new["systems"].keys():
        system = _without_none(_complete(old["systems"][name]))
        changed += [(f"systems.{name}.{key}", *values) for key, *values in _changes(new["systems"][name], system)]
    faults = [Fault(f"{path}: {key}", repr(got), f"{expected!r}, as it was started") for key, got, expected in changed]
    if not faults and before.get("content", now["content"]) != now["content"]:
        faults.append(Fault(f"{path}", "other recordings, labels or folds", "those that it was started with"))
    if faults:
        raise ConfigError.of([replace(fault, remedy="choose another folder with -o") for fault in faults])
    now["systems"] = list(dict.fromkeys([*before["systems"], *now["systems"]]))
    now["seeds"] = max(now["seeds"], before["seeds"])
    new["systems"] = old["systems"] | new["systems"]
    return new | {FUSIONS: old[FUSIONS]} if FUSIONS in old else new


def _complete(system: dict[str, Any]) -> dict[str, Any]:
    """A system's table with all defaults filled in; one with user-defined classes is returned unchanged."""
    try:
        return from_system_dict(system).to_dict()
    except ConfigError:
        return system


def _changes(new: Any, old: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Differences of two nested tables: dotted key, new value, old value."""
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        for name in sorted({*new, *old}):
            yield from _changes(new.get(name), old.get(name), f"{key}.{name}" if key else name)
    elif new != old:
        yield key, new, old
