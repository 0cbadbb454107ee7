"""One model for use: trained on all utterances but those of the validation speakers, calibrated on these.

An experiment asks how good a system is; this makes the model that somebody runs. It has no test part, so it reports
validation measures and calls them so: they chose the epoch and the temperature, and flatter it.
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
from affekt.data.labels import LabelSet
from affekt.data.manifest import Manifest
from affekt.data.protocols import make_folds
from affekt.errors import ConfigError
from affekt.experiments.experiment import Data, load_data
from affekt.measures import metrics
from affekt.runtime.atomic_files import write_bytes
from affekt.runtime.devices import choose_device
from affekt.runtime.environment import environment
from affekt.runtime.seeds import derive_seed
from affekt.training.checkpoint import Checkpoint
from affekt.training.fitted import Epoch, Fitted, Subset
from affekt.training.fitting import fit
from affekt.training.recipes import Recipe, find_recipe
from affekt.training.scoring import score
from affekt.training.systems import System

VALIDATION_FOLDS = 5  # one of so many folds validates


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
    on_progress: Callable[[str, int, int], object] = lambda what, done, total: None,
    on_epoch: Callable[[Epoch], object] = lambda epoch: None,
) -> tuple[Checkpoint, dict[str, Any]]:
    """Train, calibrate and write `model.safetensors`, `history.csv`, `validation.json` and `config.toml` into `out`.

    Args:
        manifest: the utterances; those of about a fifth of the speakers validate (of the utterances, where no speakers
            are known).
        system: network, loss, features.
        out: folder; an interrupted training in it goes on.
        recipe: a name in :data:`affekt.training.recipes.RECIPES`, or an own recipe.
        labels: which labels are classes; by default all.
        start: trained model to start from (fine-tuning); its network replaces the system's, its output layer is new.
        seed: of every random choice.
        device, cache: as in :func:`affekt.experiments.experiment.plan_experiment`.
        license: of the weights, for the model card.
        on_progress, on_epoch: called with how far it is.

    Returns:
        The checkpoint, and the validation measures.
    """
    recipe = find_recipe(recipe)
    system = recipe.apply(system)
    if start is not None:
        system = replace(system, network=start.system.network, features=start.system.features)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    data, hashes, failures = load_data(manifest, [system], labels, cache, choose_device(device), on_progress)
    train, validation, line = _split(data, hashes, seed)
    fitted = fit(
        system,
        data.clips[system.features],
        data.balanced(train) if recipe.balance_corpora else train,
        validation,
        len(data.classes),
        recipe.train,
        derive_seed(data.manifest.name, "model", seed, system.name),
        choose_device(device),
        state=out / "state.pt",
        start=start,
        on_epoch=on_epoch,
    )
    temperature, measures = _validate(fitted, data, validation, recipe, device)
    provenance = _provenance(data, train, recipe, seed, start) | {
        "license": license,
        "validation": line,
        "left_out": len(failures),
    }
    weights, loss_weights = fitted.network.state_dict(), fitted.loss.state_dict()
    made = Checkpoint(system, data.classes, fitted.normalizer, weights, loss_weights, temperature, provenance)
    held_out = [data.manifest.ids[row] for row in validation.rows]
    _write(out, made, fitted, recipe, {**measures, "ids": held_out})
    return made, measures


def _provenance(data: Data, train: Subset, recipe: Recipe, seed: int, start: Checkpoint | None) -> dict[str, Any]:
    """Where a model comes from."""
    facts = {
        "corpora": data.manifest.name,
        "recipe": recipe.name,
        "seed": seed,
        "training_utterances": len(train.rows),
        "affekt": environment()["affekt"],
    }
    return facts if start is None else facts | {"started_from": dict(start.provenance)}


def _split(data: Data, hashes: Sequence[str], seed: int) -> tuple[Subset, Subset, str]:
    """Training and validation part, by speakers where they are known; and how, in words."""
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
    """Temperature, and measures of the validation part with it."""
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
    made.save(out / "model.safetensors")
    write_bytes(out / "history.csv", history.to_csv(index=False).encode())
    write_bytes(out / "config.toml", tomli_w.dumps(table).encode())
    write_bytes(out / "validation.json", (json.dumps(validation, indent=2, sort_keys=True) + "\n").encode())
    (out / "state.pt").unlink(missing_ok=True)
