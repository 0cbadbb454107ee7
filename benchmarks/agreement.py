"""Agreement of int8 and float32 decisions, with trained weights, on every recording of three real corpora."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from affekt import audio
from affekt.data.corpora import prepare
from affekt.errors import AffektError
from affekt.export.onnx_file import export_checkpoint
from affekt.measures.metrics import confusion_matrix, unweighted_accuracy
from affekt.recognition.recognizer import Recognizer
from affekt.training.checkpoint import Checkpoint
from benchmarks.rows import Figure, Row, Target
from benchmarks.setting import NO_CORPUS, RATE_HZ, Setting, corpus

CORPORA = ("emodb", "ravdess", "nemo")
CALIBRATION = 96
"""Recordings that the quantization steps are chosen on, drawn from all corpora that are there."""
ALIASES = {"angry": "angry", "happy": "happy", "excited": "happy", "neutral": "neutral", "sad": "sad"}

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Spoken:
    """Decoded recordings of a corpus and their labels ("" for labels that are no class)."""

    waveforms: list[Floats]
    labels: list[str]


def rows(setting: Setting) -> list[Row]:
    """The share of equal decisions and the difference in UA, for each model and corpus."""
    spoken = {name: heard(name, folder) for name in CORPORA if (folder := corpus(name))}
    missing = [
        Row(f"int8 decides as fp32, {name}", note=NO_CORPUS.format(name)) for name in CORPORA if name not in spoken
    ]
    if not setting.checkpoints:
        return [*missing, Row("int8 decides as fp32", note="not measured: give trained weights with --checkpoint")]
    found = [row for path in setting.checkpoints for row in model_rows(path, spoken)] if spoken else []
    return [*found, *missing]


def heard(name: str, folder: Path) -> Spoken:
    """Decode all recordings of a corpus in threads; keep all labels, also those that no model has."""
    manifest, _ = prepare(name, folder, check_audio=False)
    with ThreadPoolExecutor() as pool:
        waveforms = list(pool.map(lambda path: audio.load(path, RATE_HZ, max_seconds=7.5), manifest.audio_paths()))
    return Spoken(waveforms, [ALIASES.get(label, "") for label in manifest.labels])


def model_rows(path: Path, spoken: dict[str, Spoken]) -> Iterator[Row]:
    """Rows for one checkpoint."""
    checkpoint = Checkpoint.load(path)
    everything = [waveform for part in spoken.values() for waveform in part.waveforms]
    chosen = np.random.default_rng(0).choice(len(everything), min(CALIBRATION, len(everything)), replace=False)
    name = f"system {checkpoint.system.name}"
    with tempfile.TemporaryDirectory() as folder:
        recognizers = {}
        for precision in ("float32", "int8"):
            file = Path(folder) / f"{precision}.onnx"
            calibration = [everything[index] for index in chosen] if precision == "int8" else []
            export_checkpoint(checkpoint, file, precision, calibration)  # type: ignore[arg-type]
            recognizers[precision] = Recognizer.load(file)
        for corpus_name, part in spoken.items():
            answers = {precision: probabilities(model, part) for precision, model in recognizers.items()}
            yield from corpus_rows(f"{name}, {corpus_name}", checkpoint.classes, part, answers)


def probabilities(recognizer: Recognizer, part: Spoken) -> Floats:
    """Probabilities of every recording, one at a time, without padding."""
    answers = recognizer.map_windows([waveform] for waveform in part.waveforms)
    return np.concatenate([answer.probabilities for answer in answers])


def corpus_rows(name: str, classes: tuple[str, ...], part: Spoken, answers: dict[str, Floats]) -> list[Row]:
    decided = {precision: values.argmax(1) for precision, values in answers.items()}
    differ = decided["int8"] != decided["float32"]
    equal = 100 * float(1 - differ.mean())
    largest = float(np.abs(answers["int8"] - answers["float32"]).max())
    note = f"{len(part.labels):,} recordings; probabilities differ by {largest:.3f} at most"
    if differ.any():
        second, first = np.sort(answers["float32"][differ], axis=1)[:, -2:].T
        note += f"; where decisions differ, fp32's two best by {(first - second).max():.3f} at most"
    found = [
        Row(f"int8 decides as fp32: {name}", Figure.of(equal, "%"), target=Target("ours", at_least=99.0), note=note)
    ]
    known = np.array([label in classes for label in part.labels])
    if known.any():
        labels = np.array([classes.index(label) for label in part.labels if label in classes])
        ua = {
            precision: 100 * float(unweighted_accuracy(confusion_matrix(labels, rows[known], len(classes))))
            for precision, rows in decided.items()
        }
        note = f"int8 {ua['int8']:.2f} %, fp32 {ua['float32']:.2f} %, {known.sum():,} recordings of the classes"
        change = Figure.of(abs(ua["int8"] - ua["float32"]), "points of UA")
        found.append(Row(f"int8 against fp32: {name}", change, target=Target("ours", at_most=0.5), note=note))
    return found


def main() -> None:
    """`python -m benchmarks.agreement [CHECKPOINT ...]`: the table for trained models."""
    import sys

    from benchmarks.table import text

    try:
        print(text(rows(Setting(checkpoints=tuple(map(Path, sys.argv[1:]))))))
    except AffektError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
