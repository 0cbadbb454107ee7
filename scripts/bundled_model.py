"""How the bundled model is made: its data, its training, what is measured, and its card.

    python scripts/bundled_model.py CORPORA -o runs/bundled [--install]

CORPORA holds `emodb`, `ravdess` and `nemo`. Every step is kept and resumed: manifests, leave-one-corpus-out runs, the
model for use, its measures under loudness, length, noise and codecs. `--install` copies the results into the package.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from affekt import LABEL_SETS, Manifest, Recognizer, audio, prepare, resolve, run_experiment, train_model
from affekt.checkpoint import Checkpoint
from affekt.export import export_checkpoint
from affekt.manifest import concatenate
from affekt.metrics import confusion_matrix, expected_calibration_error, recall, unweighted_accuracy
from affekt.prediction import Prediction
from affekt.results import summarise
from affekt.statistics import Clusters, cluster_bootstrap

CORPORA = ("emodb", "ravdess", "nemo")
LABELS = LABEL_SETS["iemocap4"]
SYSTEM, RECIPE, SEED = "compact", "robust", 0
LICENCE = "CC-BY-NC-SA-4.0"
RATE_HZ = 16_000
PACKAGE = Path(__file__).parents[1] / "src" / "affekt" / "models"
RESULTS = Path(__file__).parents[1] / "results" / "bundled"

Waveform = NDArray[np.float32]


def read_corpora(root: Path, out: Path) -> Manifest:
    """One manifest of the three corpora, in four classes."""
    path = out / "all.csv"
    if not path.exists():
        concatenate([prepare(name, root / name, LABELS)[0] for name in CORPORA]).write(path)
    return Manifest.read(path)


def leave_one_corpus_out(manifest: Manifest, out: Path) -> dict[str, Any]:
    """The recipe trained on two corpora and tested on the third, each in turn: UA with its interval over speakers."""
    systems = resolve(SYSTEM)
    results = run_experiment(manifest, systems, out / "across", protocol="corpus", recipe=RECIPE, labels=LABELS)
    predictions = results.predictions.merge(manifest.table[["id", "corpus"]], on="id")
    rows = {}
    for corpus, part in predictions.groupby("corpus"):
        labels, predicted = (part[name].cat.codes.to_numpy(np.int64) for name in ("label", "predicted"))
        probabilities = part[[f"prob.{name}" for name in results.classes]].to_numpy()
        rows[str(corpus)] = _measures(labels, predicted, probabilities, part["speaker"].tolist())
    return {"line": results.protocol_line, "corpora": rows, "summary": summarise(results)}


def _measures(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], probabilities: NDArray[np.float64], speakers: list[str]
) -> dict[str, Any]:
    """UA with its 95 % interval over speakers, recall of each class, ECE."""
    classes = len(LABELS.classes)
    clusters = Clusters.of(speakers, [str(row) for row in range(len(labels))])
    counts = np.zeros((clusters.count, classes, classes))
    np.add.at(counts, (clusters.index, labels, predicted), 1)
    low, high = cluster_bootstrap(counts, unweighted_accuracy, seed=0)
    confusion = confusion_matrix(labels, predicted, classes)
    return {
        "utterances": len(labels),
        "speakers": clusters.count,
        "ua": round(float(unweighted_accuracy(confusion)), 4),
        "ua_low": round(float(low), 4),
        "ua_high": round(float(high), 4),
        "recall": dict(zip(LABELS.classes, np.round(recall(confusion), 4).tolist(), strict=True)),
        "ece": round(expected_calibration_error(probabilities, labels), 4),
    }


def conditions() -> Iterator[tuple[str, Callable[[Waveform], Waveform]]]:
    """What a recording may go through, by name."""
    yield "as recorded", lambda x: x
    for decibels in (-40, -20, 20):
        yield f"gain {decibels:+d} dB", lambda x, g=decibels: np.clip(x * 10 ** (g / 20), -1, 1)
    for seconds in (1.0, 2.0):
        yield f"first {seconds:g} s", lambda x, s=seconds: x[: round(s * RATE_HZ)]
    for snr_db in (20, 10, 0):
        yield f"white noise, SNR {snr_db} dB", lambda x, s=snr_db: _noisy(x, s)
    yield "telephone band (8 kHz)", lambda x: soxr.resample(soxr.resample(x, RATE_HZ, 8_000), 8_000, RATE_HZ)
    yield "mp3", lambda x: _coded(x, "MP3", "MPEG_LAYER_III")
    yield "opus", lambda x: _coded(x, "OGG", "OPUS")


def _noisy(waveform: Waveform, snr_db: float) -> Waveform:
    noise = np.random.default_rng(len(waveform)).standard_normal(len(waveform)).astype(np.float32)
    power = float(np.mean(np.square(waveform, dtype=np.float64)))
    return waveform + noise * np.float32(np.sqrt(power / 10 ** (snr_db / 10)))


def _coded(waveform: Waveform, container: str, encoding: str) -> Waveform:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, RATE_HZ, format=container, subtype=encoding)
    return audio.load(buffer.getvalue(), RATE_HZ)


def robustness(recognizer: Recognizer, manifest: Manifest) -> dict[str, Any]:
    """Measures on the validation speakers: as recorded, by corpus and gender, and under each condition."""
    table = manifest.table
    waveforms = [audio.load(path, RATE_HZ) for path in manifest.audio_paths()]
    labels = np.array([LABELS.classes.index(label) for label in table["label"]], np.int64)
    found: dict[str, Any] = {}
    for name, change in conditions():
        answers = list(
            recognizer.predict_many([change(x).astype(np.float32) for x in waveforms], sample_rate_hz=RATE_HZ)
        )
        kept = np.array([isinstance(answer, Prediction) for answer in answers])
        probabilities = np.array([list(a.probabilities.values()) for a in answers if isinstance(a, Prediction)])
        speakers = table["speaker"].to_numpy()[kept]
        groups = {name: np.ones(len(speakers), bool)}
        if name == "as recorded":
            for column in ("corpus", "gender"):
                values = table[column].to_numpy()[kept]
                groups |= {f"{column}: {value}": values == value for value in sorted(set(values))}
        for group, rows in groups.items():
            predicted = probabilities[rows].argmax(1)
            found[group] = _measures(labels[kept][rows], predicted, probabilities[rows], speakers[rows].tolist())
    return found


def main() -> None:
    """All steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/bundled"))
    parser.add_argument("--install", action="store_true")
    arguments = parser.parse_args()
    out = arguments.out
    manifest = read_corpora(arguments.corpora, out)
    checkpoint_path = out / "model" / "model.safetensors"
    if not checkpoint_path.exists():
        report = lambda epoch: print(epoch.epoch, round(epoch.validation_ua, 4), flush=True)  # noqa: E731
        train_model(
            manifest,
            resolve(SYSTEM)[0],
            out / "model",
            recipe=RECIPE,
            labels=LABELS,
            seed=SEED,
            licence=LICENCE,
            on_epoch=report,
        )
    across = leave_one_corpus_out(manifest, out)
    measure_and_export(manifest, across, checkpoint_path, out)
    if arguments.install:
        install(out)


def measure_and_export(manifest: Manifest, across: dict[str, Any], checkpoint_path: Path, out: Path) -> None:
    """The model file, first without measures to measure it, then with them in its card."""
    checkpoint = Checkpoint.load(checkpoint_path)
    held_out = set(json.loads((checkpoint_path.parent / "validation.json").read_text())["ids"])
    validation = manifest.where(manifest.table["id"].isin(held_out))
    export_checkpoint(checkpoint, out / "plain.onnx")
    measures = {
        "within": {
            "what": f"validation part: {checkpoint.provenance['validation']}; it chose the epoch and the temperature",
            "conditions": robustness(Recognizer.load(out / "plain.onnx"), validation),
        },
        "across": {"what": across["line"], "corpora": across["corpora"]},
    }
    export_checkpoint(checkpoint, out / "bundled.onnx", measures=measures)
    (out / "measures.json").write_text(json.dumps(measures, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def install(out: Path) -> None:
    """Copy the model into the package and its measures into results/."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    shutil.copy(out / "bundled.onnx", PACKAGE / "bundled.onnx")
    shutil.copy(out / "model" / "model.safetensors", PACKAGE / "bundled.safetensors")
    digest = hashlib.sha256((out / "bundled.onnx").read_bytes()).hexdigest()
    (PACKAGE / "bundled.sha256").write_text(digest + "\n", encoding="utf-8")
    for name in ("measures.json", "model/history.csv", "model/config.toml", "across/summary.json"):
        shutil.copy(out / name, RESULTS / Path(name).name)


if __name__ == "__main__":
    main()
