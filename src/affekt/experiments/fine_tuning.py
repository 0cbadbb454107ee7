"""Fine-tuning of an exported model on a few labeled recordings: a new output layer on its frozen embeddings.

The new layer minimizes, over the labeled recordings, the cross-entropy with balanced classes plus a penalty on the
squared distance to the model's own layer,

    J(W, b) = mean_i w_i CE(softmax(W z_i + b), y_i) + penalty (|W - W_0|^2 + |b - b_0|^2 / 10),

which is the maximum of the posterior under a Gaussian prior around the model (W_0, b_0). With few recordings the model
hardly moves; with many it follows them. A class that the model lacks starts at zero. The embeddings z are standardized.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from affekt.data import training_audio
from affekt.data.labels import LabelSet, unusable_classes
from affekt.data.manifest import Manifest
from affekt.data.waveform_store import WaveformStore
from affekt.errors import AudioError, ConfigError, Fault
from affekt.export.replacement import with_output_layer
from affekt.measures import metrics
from affekt.recognition.output_layer import OutputLayer
from affekt.recognition.recognizer import Recognizer
from affekt.runtime.atomic_files import write_bytes
from affekt.runtime.environment import environment

Embeddings = Float[NDArray[np.float32], "utterances features"]
Classes = Int[NDArray[np.int64], " utterances"]

PENALTY = 1.0
"""Chosen by leaving out one training corpus of the bundled model at a time, with 40 and 160 recordings of it."""
BIAS_PENALTY = 0.1
"""Share of the penalty on the bias, which follows the corpus more freely."""
FOLDS = 5
LEAST = 2
"""Recordings that each class needs: one to fit, one to check."""
MODEL, VALIDATION = "model.onnx", "validation.json"


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned model, written.

    Attributes:
        path: the ONNX file.
        measures: by cross-validation over speakers (over utterances, where speakers are not known): `ua`, `wa`, and
            `ua_before`, that of the model that was started from, where it knows all classes.
        line: how the cross-validation was done.
        left_out: recordings that could not be used.
    """

    path: Path
    measures: dict[str, Any]
    line: str
    left_out: tuple[Fault, ...]


def fit_output_layer(
    embeddings: Embeddings, labels: Classes, start: OutputLayer, penalty: float = PENALTY
) -> OutputLayer:
    """The output layer that fits labeled embeddings and stays close to where it starts.

    Args:
        embeddings: standardized, [utterances, features].
        labels: class number of each utterance.
        start: the layer W_0, b_0.
        penalty: weight of the squared distance; 0.1 follows the recordings closely, 10 hardly moves.

    Returns:
        The layer that minimizes J (see the module), by L-BFGS from `start`.

    Raises:
        ConfigError: a penalty that is not positive.
    """
    if not 0 < penalty < np.inf:
        raise ConfigError("penalty", got=str(penalty), expected="a number above 0")
    classes, features = start.weight.shape
    counts = np.bincount(labels, minlength=classes)
    weights = 1.0 / counts[labels]
    weights /= weights.sum()
    targets, inputs = np.eye(classes)[labels], embeddings.astype(np.float64)

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        moved, shifted = flat[:-classes].reshape(classes, features), flat[-classes:]
        logits = inputs @ (start.weight + moved).T + start.bias + shifted
        loss = -(weights[:, None] * targets * log_softmax(logits, axis=1)).sum()
        distance = (moved * moved).sum() + BIAS_PENALTY * (shifted * shifted).sum()
        error = weights[:, None] * (softmax(logits, axis=1) - targets)
        gradient = error.T @ inputs + 2 * penalty * moved
        bias_gradient = error.sum(0) + 2 * penalty * BIAS_PENALTY * shifted
        return loss + penalty * distance, np.concatenate([gradient.ravel(), bias_gradient])

    found = minimize(objective, np.zeros(classes * (features + 1)), jac=True, method="L-BFGS-B").x
    return OutputLayer(start.weight + found[:-classes].reshape(classes, features), start.bias + found[-classes:])


def fine_tune(
    manifest: Manifest,
    out: str | Path,
    *,
    model: str | Path | None = None,
    labels: LabelSet | None = None,
    penalty: float = PENALTY,
    license: str = "",
    cache: Path | None = None,
    force: bool = False,
    seed: int = 0,
    on_left_out: Callable[[Sequence[Fault]], object] = lambda faults: None,
) -> FineTuned:
    """Fine-tune an exported model on a manifest and write `model.onnx` and `validation.json` into `out`.

    Args:
        manifest: labeled utterances; 40 are enough to gain.
        out: a folder without a model.
        model: an ONNX file with a linear output layer; None: the bundled model.
        labels: which labels are classes; by default all labels of the manifest.
        penalty: see :func:`fit_output_layer`.
        license: of the new weights; empty: that of the model that was started from.
        cache: folder of the decoded audio.
        force: replace a model in `out`.
        seed: of the cross-validation's folds.
        on_left_out: called with the recordings that cannot be used.

    Returns:
        The model's path and its cross-validated measures.

    Raises:
        ConfigError: `out` holds a model, labels that cannot be learned, or a model without a linear output layer.
        AudioError: no recording can be used.
    """
    path = Path(out) / MODEL
    if path.exists() and not force:
        raise ConfigError(
            f"folder {out}", got="a finished model", expected="a new folder", remedy="choose another -o, or --force"
        )
    recognizer = Recognizer.load(model)
    start = recognizer.output_layer
    manifest, classes = _labeled(manifest, labels)
    store = WaveformStore.open(manifest, cache, recognizer.card.sample_rate_hz)
    embeddings, heard, failures = _embed(recognizer, store, manifest)
    on_left_out(failures)
    manifest, store_used = manifest.where(heard), store.where(heard)
    numbers = np.array([classes.index(label) for label in manifest.labels], np.int64)
    _check_counts(numbers, classes)
    first = _for_classes(start, recognizer.labels, classes)
    known = set(classes) <= set(recognizer.labels)
    measures, line = _cross_validate(embeddings, numbers, _speakers(manifest), first, penalty, seed, known)
    layer = fit_output_layer(embeddings, numbers, first, penalty)
    card = replace(
        recognizer.card,
        labels=classes,
        temperature=measures["temperature"],
        license=license or recognizer.card.license,
        provenance=_provenance(manifest, store_used.hashes, recognizer, penalty),
        measures={"cross_validation": {**measures, "folds": line}},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, with_output_layer(recognizer.content, layer, card))
    report = {**measures, "folds": line, "left_out": [str(fault) for fault in failures]}
    write_bytes(path.parent / VALIDATION, (json.dumps(report, indent=2, sort_keys=True) + "\n").encode())
    return FineTuned(path, measures, line, failures)


def _labeled(manifest: Manifest, labels: LabelSet | None) -> tuple[Manifest, tuple[str, ...]]:
    """The utterances to learn from, and the classes in their order."""
    if labels is not None:
        return manifest.select(labels), labels.classes
    if fault := unusable_classes(manifest.labels):
        raise ConfigError.of([fault])
    return manifest, tuple(sorted(set(manifest.labels)))


def _check_counts(numbers: Classes, classes: Sequence[str]) -> None:
    counts = np.bincount(numbers, minlength=len(classes)).tolist()
    expected = f"at least {LEAST} usable recordings"
    faults = [
        Fault(f"class {name}", str(count), expected, "label more, or choose other --labels")
        for name, count in zip(classes, counts, strict=True)
        if count < LEAST
    ]
    if len(classes) < 2:
        faults.append(Fault("classes", ", ".join(classes), "at least 2"))
    if faults:
        raise ConfigError.of(faults)


def _embed(
    recognizer: Recognizer, store: WaveformStore, manifest: Manifest
) -> tuple[Embeddings, NDArray[np.bool_], tuple[Fault, ...]]:
    """Embeddings of the recordings that have one, which they are, and why the others have none.

    Raises:
        AudioError: none has an embedding.
    """
    rate, paths = recognizer.card.sample_rate_hz, manifest.audio_paths()
    found, heard, faults = [], np.zeros(len(store), np.bool_), list(store.failures)
    for row in np.flatnonzero(store.usable).tolist():
        try:
            found.append(recognizer.embed(store[row], rate))
            heard[row] = True
        except AudioError as error:  # silent, or too short
            faults += [replace(fault, what=str(paths[row])) for fault in error.faults]
    if not found:
        raise AudioError.of(faults)
    return np.stack(found), heard, tuple(faults)


def _for_classes(start: OutputLayer, known: Sequence[str], classes: Sequence[str]) -> OutputLayer:
    """The model's rows for the classes that it knows, and zeros for the others."""
    weight, bias = np.zeros((len(classes), start.weight.shape[1])), np.zeros(len(classes))
    for row, name in enumerate(classes):
        if name in known:
            weight[row], bias[row] = start.weight[known.index(name)], start.bias[known.index(name)]
    return OutputLayer(weight, bias)


def _speakers(manifest: Manifest) -> NDArray[np.object_] | None:
    """The speaker of each utterance; None where one is not known."""
    speakers = (manifest.table["corpus"] + "/" + manifest.table["speaker"]).to_numpy(object)
    return None if (manifest.table["speaker"] == "").any() else speakers


def _cross_validate(
    embeddings: Embeddings,
    numbers: Classes,
    speakers: NDArray[np.object_] | None,
    start: OutputLayer,
    penalty: float,
    seed: int,
    known: bool,
) -> tuple[dict[str, Any], str]:
    """Measures and temperature of utterances that their own fold's layer has not seen."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    classes = len(start.bias)
    groups = 0 if speakers is None else len(set(speakers))
    if groups >= 2:
        folds = min(FOLDS, groups)
        parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(embeddings, numbers, speakers)
        line = f"{folds} folds over {groups} speakers, none of them in two parts"
    else:
        folds = min(FOLDS, int(np.bincount(numbers).min()))
        parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(embeddings, numbers)
        line = f"{folds} folds of utterances; speakers may be in training and test"
    logits = start.logits(embeddings)
    for train, test in parts:
        if len(np.unique(numbers[train])) == classes:  # else this fold keeps the model's own layer
            logits[test] = fit_output_layer(embeddings[train], numbers[train], start, penalty).logits(embeddings[test])
    confusion = metrics.confusion_matrix(numbers, logits.argmax(1), classes)
    before = metrics.confusion_matrix(numbers, start.logits(embeddings).argmax(1), classes)
    measures = {
        "utterances": len(numbers),
        "temperature": metrics.fit_temperature(logits, numbers),
        **metrics.scores(confusion),
    }
    return measures | ({"ua_before": float(metrics.unweighted_accuracy(before))} if known else {}), line


def _provenance(manifest: Manifest, hashes: Sequence[str], recognizer: Recognizer, penalty: float) -> dict[str, Any]:
    before = dict(recognizer.card.provenance)
    heard = training_audio.describe(manifest.table["corpus"].tolist(), hashes)
    return {
        "corpora": manifest.name,
        "method": f"output layer fine-tuned, penalty {penalty:g}",
        "training_utterances": len(manifest),
        "affekt": environment()["affekt"],
        training_audio.KEY: training_audio.merge(before.pop(training_audio.KEY, {}), heard),
        "started_from": {"model": recognizer.identity, **before},
    }
