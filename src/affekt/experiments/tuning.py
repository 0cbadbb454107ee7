"""Hyperparameter search by unweighted accuracy on the validation part of one fold.

The training part of the fold trains, its validation part scores, and the recordings of its test part are not even
opened. The result is written together with this fold, so that `affekt experiment` tests it on unseen utterances. (On
the other folds of the corpus it would be tested on utterances that the search has seen.)

Finished trials are stored in an Optuna journal, so an interrupted search resumes. All trials train with the same seeds:
they differ in their hyperparameters alone.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import tomli_w
import torch.multiprocessing as multiprocessing
from filelock import FileLock, Timeout

from affekt.config import as_table, merge
from affekt.data.labels import LabelSet
from affekt.data.manifest import Manifest
from affekt.data.protocols import FoldPlan, make_folds
from affekt.errors import AffektError, AudioError, ConfigError, Fault
from affekt.experiments.loading import Data, load_data
from affekt.experiments.search_space import Point, Space, default_space
from affekt.runtime.atomic_files import write_bytes
from affekt.runtime.devices import choose_device, torch_threads
from affekt.runtime.seeds import derive_seed
from affekt.training.fitting import fit
from affekt.training.recipes import RECIPES, Recipe, find_recipe
from affekt.training.systems import System, from_system_dict

if TYPE_CHECKING:
    import optuna

STUDY = "tune"


@dataclass(frozen=True)
class Search:
    """The plan of a search.

    Attributes:
        data: utterances of the training and validation part alone.
        plan: the one fold.
        system, recipe: starting point, which each trial changes.
        space: search space.
        seeds: trainings of each trial; their mean counts.
        seed: seed of the search and of the trainings.
        device, threads: device and CPU threads of each training.
    """

    data: Data
    plan: FoldPlan
    system: System
    recipe: Recipe
    space: Space
    seeds: int
    seed: int
    device: str
    threads: int = 1

    def at(self, point: Point) -> tuple[System, Recipe]:
        """The system and the recipe with these hyperparameters.

        Raises:
            ConfigError: unknown keys, or values out of range.
        """
        changes = _nested(point)
        faults = [Fault(f"setting {name}", "an unknown key", "train or system") for name in changes.keys() - _ROOTS]
        if faults:
            raise ConfigError.of(faults)
        train = merge(self.recipe.train, changes.get("train", {}), where="train")
        system = from_system_dict(_overlaid(self.system.to_dict(), changes.get("system", {})))
        return system, replace(self.recipe, train=train)

    def value(self, point: Point) -> float:
        """Mean validation UA of the best epochs, over seeds.

        Raises:
            ConfigError: a training that diverged.
        """
        system, recipe = self.at(point)
        fold, clips, device = self.plan.folds[0], self.data.clips[system.features], choose_device(self.device)
        train, validation = self.data.part(fold.train), self.data.part(fold.validation)
        if recipe.balance_corpora:
            train = self.data.balanced(train)
        values = []
        for number in range(self.seeds):
            seed = derive_seed(self.data.manifest.name, "tune", self.seed, number)
            classes = len(self.data.classes)
            with torch_threads(self.threads):
                fitted = fit(system, clips, train, validation, classes, recipe.train, seed, device)
            values.append(fitted.history[fitted.best_epoch - 1].validation_ua)
        return float(np.mean(values))


_ROOTS = {"train", "system"}


def _nested(point: Point) -> dict[str, Any]:
    """Dotted keys as nested tables.

    >>> _nested({"train.warp": 1, "train.augment.gain": 2})
    {'train': {'warp': 1, 'augment': {'gain': 2}}}
    """
    nested: dict[str, Any] = {}
    for key, value in point.items():
        *parents, name = key.split(".")
        table = nested
        for parent in parents:
            table = table.setdefault(parent, {})
        table[name] = value
    return nested


def _overlaid(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(table)
    for name, change in changes.items():
        old = result.get(name)
        both = isinstance(old, Mapping) and isinstance(change, Mapping)
        result[name] = _overlaid(old, change) if both else change  # type: ignore[arg-type]
    return result


def plan_search(
    manifest: Manifest,
    system: System,
    *,
    protocol: str | Path = "random",
    folds: int = 5,
    fold_seed: int = 0,
    fold: int = 0,
    recipe: str | Recipe = "quick",
    space: Space | None = None,
    seeds: int = 1,
    seed: int = 0,
    labels: LabelSet | None = None,
    device: str = "auto",
    cache: Path | None = None,
    on_progress: Callable[[str, int, int], object] = lambda what, done, total: None,
) -> Search:
    """Make the folds and load the training and validation part of one of them.

    Args:
        manifest: the utterances.
        system: the system to tune.
        protocol, folds, fold_seed: see :func:`affekt.data.protocols.make_folds`; duplicate
            recordings are not searched for, since that needs the audio of the test part. The experiment that follows
            does it.
        fold: index of the fold.
        recipe: the recipe to tune.
        space: search space; by default :func:`affekt.experiments.search_space.default_space`.
        seeds: trainings of each trial.
        seed: seed of the search and of the trainings.
        labels: which labels are classes.
        device: "auto", "cpu", "cuda" or "mps".
        cache: folder of the decoded audio.
        on_progress: called with the name of a step, the amount done and the total.

    Returns:
        The plan of the search.

    Raises:
        AudioError: recordings that cannot be decoded.
        ConfigError: no such fold, or a space with unknown keys or values out of range.
        ProtocolError: folds that share what their protocol forbids.
    """
    recipe = find_recipe(recipe)
    system = recipe.apply(system)
    manifest = manifest.select(labels) if labels is not None else manifest
    plan = make_folds(manifest, protocol, folds, fold_seed)
    if not 0 <= fold < len(plan.folds) or seeds < 1:
        got, expected = f"fold {fold}, {seeds} seeds", f"a fold from 0 to {len(plan.folds) - 1}, at least 1 seed"
        raise ConfigError("search", got=got, expected=expected)
    chosen = replace(plan.folds[fold], index=0)
    seen = {*chosen.train, *chosen.validation}
    part = manifest.where(np.isin(manifest.ids, sorted(seen)))
    data, _, failures = load_data(part, [system], labels, cache, choose_device(device), on_progress)
    if failures:
        raise AudioError.of(failures)
    space = space if space is not None else default_space(system)
    search = Search(data, replace(plan, folds=(chosen,)), system, recipe, space, seeds, seed, device)
    _check_space(search)
    return search


def _check_space(search: Search) -> None:
    """Check the ends of every range, so that invalid values fail before the first trial."""
    faults: dict[str, Fault] = {}
    for key, dimension in search.space.items():
        for end in dimension.ends:
            try:
                system, _ = search.at({key: end})
                if system.features != search.system.features:
                    faults[key] = Fault(
                        f"space: {key}",
                        "a setting of the features",
                        "no setting of the features: they are computed once",
                    )
            except ConfigError as error:
                faults |= {str(fault): replace(fault, what=f"space: {fault.what}") for fault in error.faults}
    if faults:
        raise ConfigError.of(faults.values())


@dataclass(frozen=True)
class SearchResult:
    """The best trial of a search.

    Attributes:
        value: its validation UA, which is optimistic: it is a maximum over trials.
        point: its hyperparameters.
        trials: number of finished trials.
        failed: number of these that diverged.
        config: file for `affekt experiment --config`.
    """

    value: float
    point: Point
    trials: int
    failed: int
    config: Path


def tune(
    search: Search,
    out: str | Path,
    trials: int,
    workers: int = 1,
    on_trial: Callable[[int, float | None, Point], object] = lambda number, value, point: None,
    **options: str,
) -> SearchResult:
    """Run trials until a number of them is finished, including those of earlier calls, and write the best.

    With one worker the result does not depend on interruptions; with more, the hyperparameters of a trial depend on the
    trials that are finished by then.

    Args:
        search: the plan.
        out: folder for `journal.log`, `trials.csv`, `best.toml`, `tuned.toml` and `folds.json`.
        trials: number of trials in all.
        workers: trials that run in parallel, each in a process.
        on_trial: called with a trial's number, its value (None: it diverged) and its hyperparameters.
        options: more options of `affekt experiment` for `best.toml`, such as `labels`.

    Returns:
        The best trial.

    Raises:
        ConfigError: `out` holds another search or is in use, or every trial diverged.
        AffektError: a worker died.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    if trials < 1 or workers < 1:
        raise ConfigError("trials and workers", got=f"{trials}, {workers}", expected="at least 1 each")
    try:
        with FileLock(out / ".lock", timeout=0):
            _write_plan(search, out)
            study = _open_study(out)
            _run_trials(search, study, trials, workers, on_trial)
            return _write_found(search, study, out, options)
    except Timeout as error:
        raise ConfigError(str(out), got="in use", expected="a folder that no other process searches in") from error


def _write_plan(search: Search, out: Path) -> None:
    """Write folds.json and search.json; a folder of another search is refused."""
    facts = {
        "corpus": search.data.manifest.name,
        "labels": dict(zip(search.data.manifest.ids, search.data.manifest.labels, strict=True)),
        "system": search.system.to_dict(),
        "train": asdict(search.recipe.train),
        "space": {key: asdict(dimension) for key, dimension in search.space.items()},
        "folds": [fold.parts() for fold in search.plan.folds],
        "seeds": search.seeds,
        "seed": search.seed,
        "threads": search.threads,
    }
    text = json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False).encode()
    path = out / "search.json"
    if path.exists() and path.read_bytes() != text:
        got, remedy = "another search", "choose another folder with -o"
        raise ConfigError(str(path), got=got, expected="the one that was started here", remedy=remedy)
    write_bytes(path, text)
    search.plan.write(out / "folds.json")


def _open_study(out: Path) -> optuna.Study:
    """The Optuna study in the folder; trials of a process that died are marked as failed and repeated."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(out / "journal.log")))
    study = optuna.create_study(storage=storage, study_name=STUDY, direction="maximize", load_if_exists=True)
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def _ended(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Finished trials, without those of a process that died."""
    return [trial for trial in study.get_trials() if "point" in trial.user_attrs]


def _run_trials(
    search: Search,
    study: optuna.Study,
    trials: int,
    workers: int,
    on_trial: Callable[[int, float | None, Point], object],
) -> None:
    running: dict[Future[float], tuple[optuna.Trial, Point]] = {}
    with _pool(search, workers) as submit:
        while (ended := len(_ended(study))) < trials:
            while len(running) < min(workers, trials - ended):
                trial, point = _ask(search, study, ended + len(running), parallel=workers > 1)
                running[submit(point)] = trial, point
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                trial, point = running.pop(future)
                value = _result(future)
                _tell(study, trial, value, point)
                on_trial(len(_ended(study)), value, point)


def _ask(search: Search, study: optuna.Study, number: int, parallel: bool) -> tuple[optuna.Trial, Point]:
    """The next point; it depends on the seed, the number of the trial and the finished trials."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        seed = derive_seed(search.seed, "trial", number) % 2**32
        study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=parallel)
    trial = study.ask()
    return trial, {key: dimension.suggest(trial, key) for key, dimension in search.space.items()}


def _result(future: Future[float]) -> float | None:
    """A trial's value, or None if its training diverged."""
    try:
        return future.result()
    except ConfigError:
        return None
    except BrokenProcessPool as error:
        remedy = "is there enough memory? --jobs 1 needs least; finished trials are kept"
        raise AffektError("tuning", got="a worker that died", expected="one that lives", remedy=remedy) from error


def _tell(study: optuna.Study, trial: optuna.Trial, value: float | None, point: Point) -> None:
    import optuna

    trial.set_user_attr("point", dict(point))
    if value is None:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    else:
        study.tell(trial, value)


@contextmanager
def _pool(search: Search, workers: int) -> Iterator[Callable[[Point], Future[float]]]:
    """Submit trials to this process, or to a pool of processes that ends with the block."""
    if workers == 1:
        yield lambda point: _here(search, point)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_set_up, initargs=(search,))
    try:
        yield lambda point: pool.submit(_there, point)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _here(search: Search, point: Point) -> Future[float]:
    future: Future[float] = Future()
    try:
        future.set_result(search.value(point))
    except ConfigError as error:
        future.set_exception(error)
    return future


_SEARCH: list[Search] = []
"""In a worker process: the plan of the search."""


def _set_up(search: Search) -> None:
    _SEARCH.append(search)


def _there(point: Point) -> float:
    return _SEARCH[0].value(point)


def _write_found(search: Search, study: optuna.Study, out: Path, options: Mapping[str, str]) -> SearchResult:
    ended = _ended(study)
    best = max(
        (trial for trial in ended if trial.value is not None), key=lambda trial: trial.value or 0.0, default=None
    )
    write_bytes(out / "trials.csv", _table(ended))
    if best is None or best.value is None:
        remedy = "choose a space with smaller learning rates"
        raise ConfigError(
            "tuning", got=f"{len(ended)} trials that diverged", expected="one that did not", remedy=remedy
        )
    point: Point = best.user_attrs["point"]
    failed = sum(trial.value is None for trial in ended)
    return SearchResult(best.value, point, len(ended), failed, _write_config(search, point, out, options))


def _table(trials: Iterable[optuna.trial.FrozenTrial]) -> bytes:
    rows: Sequence[dict[str, Any]] = [
        {"trial": number, "validation_ua": trial.value, **trial.user_attrs["point"]}
        for number, trial in enumerate(trials, start=1)
    ]
    return pd.DataFrame(rows).to_csv(index=False).encode()


def _write_config(search: Search, point: Point, out: Path, options: Mapping[str, str]) -> Path:
    """Write tuned.toml (the system) and best.toml (options of `affekt experiment` that test it on this fold)."""
    system, recipe = search.at(point)
    row = {key: value for key, value in system.to_dict().items() if key != "name" and value is not None}
    write_bytes(out / "tuned.toml", tomli_w.dumps({f"{system.name}-tuned": row}).encode())
    chosen = {
        **options,
        "systems": str((out / "tuned.toml").resolve()),
        "protocol": str((out / "folds.json").resolve()),
        "recipe": next((name for name, known in RECIPES.items() if known.name == recipe.name), "paper"),
        "train": as_table(recipe.train),
    }
    write_bytes(out / "best.toml", tomli_w.dumps(chosen).encode())
    return out / "best.toml"
