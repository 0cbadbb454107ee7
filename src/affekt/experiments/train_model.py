"""One model for use: trained on all utterances but those of the validation speakers, calibrated on these.

An experiment estimates the quality of a system; :func:`train_model` makes a model for use. It has no test
part. It reports validation measures, which are optimistic: the same utterances chose the epoch and the temperature.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tomli_w

from affekt.config import as_table
from affekt.data import training_audio
from affekt.data.labels import LabelSet
from affekt.data.manifest import Manifest
from affekt.data.protocols import make_folds
from affekt.errors import ConfigError, Fault
from affekt.experiments.loading import Data, load_data
from affekt.measures import metrics
from affekt.runtime.atomic_files import write_bytes
from affekt.runtime.devices import choose_device
from affekt.runtime.environment import environment
from affekt.runtime.seeds import derive_seed
from affekt.training.checkpoint import Checkpoint
from affekt.training.fitted import Epoch, Fitted, Subset, TrainingInterrupted
from affekt.training.fitting import fit
from affekt.training.recipes import Recipe, find_recipe
from affekt.training.scoring import score
from affekt.training.systems import System

VALIDATION_FOLDS = 5  # one of them validates
STATE, WEIGHTS, HISTORY, VALIDATION = "state.pt", "model.safetensors", "history.csv", "validation.json"
FILES = (WEIGHTS, "model.onnx", HISTORY, VALIDATION, "config.toml")
"""What a finished training leaves; a folder with any of them and without STATE is not written to."""


def train_model(
    manifest: Manifest,
    system: System,
    out: str | Path,
    *,
    recipe: str | Recipe = "robust",
    labels: LabelSet | None = None,
    start: Checkpoint | None = None,
    seed: int = 0,
    device: str = "auto",
    cache: Path | None = None,
    license: str = "",
    force: bool = False,
    on_progress: Callable[[str, int, int], object] = lambda what, done, total: None,
    on_epoch: Callable[[Epoch], object] = lambda epoch: None,
    on_left_out: Callable[[Sequence[Fault]], object] = lambda faults: None,
) -> tuple[Checkpoint, dict[str, Any]]:
    """Train, calibrate and write `model.safetensors`, `history.csv`, `validation.json` and `config.toml` into `out`.

    Ctrl-C writes the best epoch so far, and the same call resumes.

    Args:
        manifest: the utterances. About a fifth of the speakers validate (a fifth of the utterances, where speakers are
            not known).
        system: network, loss, features.
        out: folder; an interrupted training in it is resumed.
        recipe: a name in :data:`affekt.training.recipes.RECIPES`, or a `Recipe`.
        labels: which labels are classes; by default all.
        start: trained model to start from (fine-tuning); its network replaces the system's, its output layer is new.
        seed: of every random choice.
        device, cache: as in :func:`affekt.experiments.plan.plan_experiment`.
        license: of the weights, for the model card; empty: not stated.
        force: train again in the folder of a finished model, and replace it.
        on_progress: called with the name of a step, how much of it is done, and of how much.
        on_epoch: called after each epoch.
        on_left_out: called before the training with the recordings that cannot be used.

    Returns:
        The checkpoint, and the validation measures.

    Raises:
        ConfigError: `out` holds a finished model, or the labels or speakers do not allow a training.
        AudioError: no recording can be decoded.
        TrainingInterrupted: Ctrl-C after the first epoch.
    """
    recipe, out = find_recipe(recipe), Path(out)
    system = recipe.apply(system)
    if start is not None:
        system = replace(system, network=start.system.network, features=start.system.features)
    _check_folder(out, force)
    out.mkdir(parents=True, exist_ok=True)
    data, hashes, failures = load_data(manifest, [system], labels, cache, choose_device(device), on_progress)
    on_left_out(failures)
    train, validation, line = _split(data, hashes, seed)
    facts = _provenance(data, hashes, train, recipe, seed, start)
    facts |= {"validation": line, "left_out": len(failures)} | ({"license": license} if license else {})

    def keep(fitted: Fitted, more: dict[str, Any]) -> tuple[Checkpoint, dict[str, Any]]:
        temperature, measures = _validate(fitted, data, validation, recipe, device)
        weights, loss_weights = fitted.network.state_dict(), fitted.loss.state_dict()
        made = Checkpoint(system, data.classes, fitted.normalizer, weights, loss_weights, temperature, facts | more)
        held_out = [data.manifest.ids[row] for row in validation.rows]
        left_out = [str(fault) for fault in failures]
        _write(out, made, fitted, recipe, {**measures, "ids": held_out, "left_out": left_out})
        return made, measures

    try:
        fitted = fit(
            system,
            data.clips[system.features],
            data.balanced(train) if recipe.balance_corpora else train,
            validation,
            len(data.classes),
            recipe.train,
            derive_seed(data.manifest.name, "model", seed, system.name),
            choose_device(device),
            state=out / STATE,
            start=start,
            on_epoch=on_epoch,
        )
    except TrainingInterrupted as stop:
        keep(stop.fitted, {"interrupted_after_epoch": len(stop.fitted.history)})
        raise
    kept = keep(fitted, {})
    (out / STATE).unlink(missing_ok=True)
    return kept


def _check_folder(out: Path, force: bool) -> None:
    """Refuse a folder that holds something finished."""
    there = [name for name in FILES if (out / name).exists()]
    if there and not force and not (out / STATE).exists():
        got = "a finished model" if WEIGHTS in there else f"other files of that name: {', '.join(there)}"
        remedy = "choose another folder with -o, or train again with --force"
        raise ConfigError(f"folder {out}", got=got, expected="a new folder", remedy=remedy)


def _provenance(
    data: Data, hashes: Sequence[str], train: Subset, recipe: Recipe, seed: int, start: Checkpoint | None
) -> dict[str, Any]:
    """The origin of a model; the recordings of the validation part count as seen, since they chose the epoch."""
    facts = {
        "corpora": data.manifest.name,
        "recipe": recipe.name,
        "seed": seed,
        "training_utterances": len(train.rows),
        "affekt": environment()["affekt"],
        training_audio.KEY: training_audio.describe(data.manifest.table["corpus"].tolist(), hashes),
    }
    return facts if start is None else facts | {"started_from": dict(start.provenance)}


def _split(data: Data, hashes: Sequence[str], seed: int) -> tuple[Subset, Subset, str]:
    """Training and validation part, by speakers where they are known, and a line that says how."""
    speakers = set(data.manifest.table["speaker"])
    by_speaker = "" not in speakers and len(speakers) >= VALIDATION_FOLDS
    corpora = data.manifest.table["corpus"].to_numpy()
    if not by_speaker:
        fold = make_folds(data.manifest, "random", VALIDATION_FOLDS, seed, hashes).folds[0]
        line = f"{len(fold.test)} utterances; their speakers may be among the training's"
        return data.part([*fold.train, *fold.validation]), data.part(fold.test), line
    chosen = []
    for corpus in dict.fromkeys(corpora):  # some speakers of every corpus
        part = data.manifest.where(corpora == corpus)
        count = part.table["speaker"].nunique()
        if count >= 3:
            folds = make_folds(part, "speaker", max(2, min(VALIDATION_FOLDS, count // 2)), seed).folds
            chosen += list(folds[0].test)
    if not chosen:
        raise ConfigError("speakers", got="fewer than 3 in every corpus", expected="at least 3 in one corpus")
    rest = sorted(set(data.manifest.ids) - set(chosen))
    validation = data.part(chosen)
    count = len(set(data.manifest.table["speaker"].to_numpy()[validation.rows]))
    return data.part(rest), validation, f"{len(chosen)} utterances of {count} speakers who are not in the training part"


def _validate(
    fitted: Fitted, data: Data, validation: Subset, recipe: Recipe, device: str
) -> tuple[float, dict[str, Any]]:
    """The temperature, and the validation measures with it."""
    exact = replace(recipe.train, precision="float32")
    scored = score(fitted, data.clips[fitted.system.features], validation.rows, exact, choose_device(device))
    temperature = metrics.fit_temperature(scored.logits, validation.labels)
    scaled = scored.logits.astype(np.float64) / temperature
    probabilities = np.exp(scaled - scaled.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    confusion = metrics.confusion_matrix(validation.labels, scored.logits.argmax(1), len(data.classes))
    measures = {
        "utterances": len(validation.rows),
        "temperature": temperature,
        **metrics.scores(confusion),
        "recall": dict(zip(data.classes, metrics.recall(confusion).tolist(), strict=True)),
        "expected_calibration_error": metrics.expected_calibration_error(probabilities, validation.labels),
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history),
    }
    return temperature, measures


def _write(out: Path, made: Checkpoint, fitted: Fitted, recipe: Recipe, validation: dict[str, Any]) -> None:
    history = pd.DataFrame([asdict(epoch) for epoch in fitted.history])
    table = {"recipe": as_table(recipe), "system": made.system.to_dict(), "provenance": dict(made.provenance)}
    made.save(out / WEIGHTS)
    write_bytes(out / HISTORY, history.to_csv(index=False).encode())
    write_bytes(out / "config.toml", tomli_w.dumps(table).encode())
    write_bytes(out / VALIDATION, (json.dumps(validation, indent=2, sort_keys=True) + "\n").encode())
