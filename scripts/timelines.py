"""Measure timelines: sentences of a speaker, joined with pauses, and the time that has the right label.

python scripts/timelines.py CORPORA [-o results/bundled/timelines.json] [--model M.onnx] [--names ravdess,nemo,emovo]

CORPORA holds the releases. For each speaker some sentences are drawn, no two neighbors of the same emotion, and joined
with pauses of 0.2 to 2 s of faint noise. The timeline's labels are compared with those of the sentences by time, beside
the answers to the sentences alone; EDER is the emotion diarization error rate.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affekt import audio
from affekt.data.corpora import prepare
from affekt.data.labels import LABEL_SETS
from affekt.errors import AffektError
from affekt.measures.diarization import DiarizationSeconds, Span, diarization_seconds, total
from affekt.recognition.recognizer import Recognizer
from affekt.runtime.atomic_files import write_bytes

REPOSITORY = Path(__file__).parents[1]
CORPORA = ("ravdess", "nemo", "emovo")
PAUSES_SECONDS = (0.2, 0.4, 0.7, 1.0, 1.5, 2.0)
QUIET_DB = 35.0
"""A sentence is taken from its first to its last frame that is at most this much below its loudest."""
MARGIN_SECONDS = 0.05
PAUSE_NOISE = 3e-4
"""Standard deviation of the noise in pauses: -70 dB."""
PEAK = 0.5

Floats = NDArray[np.float32]
Sentence = tuple[Floats, str]


def measure(recognizer: Recognizer, speakers: Sequence[Sequence[Sentence]]) -> dict[str, Any]:
    """Accuracy by time of the sentences alone, and accuracy and EDER for each pause, in percent."""
    rate = recognizer.card.sample_rate_hz
    alone = [
        (len(samples), recognizer.predict(samples, rate).label == label) for own in speakers for samples, label in own
    ]
    result: dict[str, Any] = {
        "alone": _percent(sum(size for size, right in alone if right) / sum(size for size, _ in alone))
    }
    for pause in PAUSES_SECONDS:
        seconds = total(_timeline(recognizer, own, pause, seed) for seed, own in enumerate(speakers))
        result[f"{pause:g} s"] = {"accuracy": _percent(seconds.accuracy), "EDER": _percent(seconds.error_rate)}
    return result


def _timeline(recognizer: Recognizer, own: Sequence[Sentence], pause: float, seed: int) -> DiarizationSeconds:
    """One speaker's sentences, joined, against their timeline."""
    rate = recognizer.card.sample_rate_hz
    rng = np.random.default_rng(seed)
    parts: list[Floats] = []
    reference: list[Span] = []
    position = 0
    for samples, label in own:
        quiet = (PAUSE_NOISE * rng.normal(size=round(pause * rate))).astype(np.float32)
        reference.append((position / rate, (position + len(samples)) / rate, label))
        parts += [samples, quiet]
        position += len(samples) + len(quiet)
    timeline = recognizer.timeline(np.concatenate(parts), rate)
    found = [(part.start_seconds, part.end_seconds, part.label) for part in timeline.segments]
    return diarization_seconds(reference, found, timeline.duration_seconds)


def sentences(corpora: Path, name: str, count: int, rate_hz: int, seed: int = 0) -> list[list[Sentence]]:
    """Choose so many sentences of each speaker, no two neighbors of the same emotion."""
    manifest, _ = prepare(name, corpora / name, LABEL_SETS["iemocap4"], check_audio=False)
    rng = np.random.default_rng(seed)
    table = manifest.table.assign(file=manifest.audio_paths())
    found = []
    for _, rows in table.groupby("speaker"):
        pools = {label: list(rng.permutation(part["file"])) for label, part in rows.groupby("label")}
        found.append([(_sentence(path, rate_hz), label) for path, label in _drawn(pools, count, rng)])
    return found


def _drawn(pools: Mapping[str, list[Path]], count: int, rng: np.random.Generator) -> list[tuple[Path, str]]:
    chosen: list[tuple[Path, str]] = []
    while len(chosen) < count:
        labels = [label for label, files in pools.items() if files and (not chosen or label != chosen[-1][1])]
        if not labels:
            break
        label = labels[rng.integers(len(labels))]
        chosen.append((pools[label].pop(), label))
    return chosen


def _sentence(path: Path, rate_hz: int) -> Floats:
    """A recording without its quiet ends, its peak at half of full scale."""
    samples = audio.load(path, rate_hz)
    frame = rate_hz // 50
    power = (samples[: len(samples) - len(samples) % frame].reshape(-1, frame) ** 2).mean(1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-QUIET_DB / 10)) * frame
    margin = round(MARGIN_SECONDS * rate_hz)
    part = samples[max(0, loud[0] - margin) : loud[-1] + frame + margin]
    return np.asarray(PEAK * part / np.abs(part).max(), np.float32)


def _percent(share: float) -> float:
    return round(100 * share, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=REPOSITORY / "results" / "bundled" / "timelines.json")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--names", default=",".join(CORPORA), help="corpora to measure, with commas")
    parser.add_argument("--sentences", type=int, default=10, help="of each speaker")
    options = parser.parse_args()
    try:
        recognizer = Recognizer.load(options.model)
        rate = recognizer.card.sample_rate_hz
        results = {}
        for name in options.names.split(","):
            results[name] = measure(recognizer, sentences(options.corpora, name, options.sentences, rate))
            print(name, json.dumps(results[name]), flush=True)
    except AffektError as error:
        sys.exit(f"error: {error}")
    document = {"model": recognizer.identity, "sentences": options.sentences, "corpora": results}
    write_bytes(options.output, (json.dumps(document, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
