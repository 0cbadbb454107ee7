"""Measure fine-tuning on corpora that trained nothing: few labeled recordings, test speakers held out.

python scripts/fine_tuning.py CORPORA [-o results/bundled/fine_tuning.json] [--counts 40,160] [--repeats 10]

CORPORA holds the releases `nemo` and `emovo`. In each repetition some speakers are drawn; a few of their recordings,
the same number of each class, are labeled; all recordings of the other speakers are the test part. Three models are
compared on the same test part: the bundled model as it is, the fine-tuned one, and an output layer that is trained from
nothing on the same embeddings and recordings.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from affekt.data.corpora import prepare
from affekt.data.labels import LABEL_SETS
from affekt.data.waveform_store import WaveformStore
from affekt.errors import AffektError
from affekt.experiments.fine_tuning import PENALTY, fit_output_layer
from affekt.measures.metrics import confusion_matrix, unweighted_accuracy
from affekt.recognition.output_layer import OutputLayer
from affekt.recognition.recognizer import Recognizer
from affekt.runtime.atomic_files import write_bytes

REPOSITORY = Path(__file__).parents[1]
CORPORA = ("nemo", "emovo")
LABELED_SPEAKERS = 3


def measure(corpora: Path, name: str, counts: tuple[int, ...], repeats: int) -> dict[str, Any]:
    """UA of the three models on one corpus, mean and standard deviation over repetitions, for each count."""
    recognizer = Recognizer.load()
    manifest, _ = prepare(name, corpora / name, LABEL_SETS["iemocap4"], check_audio=False)
    store = WaveformStore.open(manifest, None, recognizer.card.sample_rate_hz)
    manifest, store = manifest.where(store.usable), store.where(store.usable)
    rate = recognizer.card.sample_rate_hz
    embeddings = np.stack([recognizer.embed(store[row], rate) for row in range(len(store))])
    labels = np.array([recognizer.labels.index(label) for label in manifest.labels])
    speakers = manifest.table["speaker"].to_numpy()
    layer = recognizer.output_layer
    return {str(count): _compare(embeddings, labels, speakers, layer, count, repeats) for count in counts} | {
        "speakers": len(set(speakers)),
        "utterances": len(labels),
    }


def _compare(
    embeddings: np.ndarray, labels: np.ndarray, speakers: np.ndarray, layer: OutputLayer, count: int, repeats: int
) -> dict[str, Any]:
    nothing = OutputLayer(np.zeros_like(layer.weight), np.zeros_like(layer.bias))
    found: dict[str, list[float]] = {"bundled": [], "fine_tuned": [], "from_nothing": []}
    seconds = []
    for repeat in range(repeats):
        generator = np.random.default_rng(repeat)
        chosen = generator.permutation(np.unique(speakers))[:LABELED_SPEAKERS]
        pool, test = np.flatnonzero(np.isin(speakers, chosen)), np.flatnonzero(~np.isin(speakers, chosen))
        classes = range(len(layer.bias))
        few = [generator.permutation(pool[labels[pool] == k])[: count // len(layer.bias)] for k in classes]
        rows = np.concatenate(few)
        began = time.perf_counter()
        tuned = fit_output_layer(embeddings[rows], labels[rows], layer)
        seconds.append(time.perf_counter() - began)
        models = {"bundled": layer, "fine_tuned": tuned}
        models["from_nothing"] = fit_output_layer(embeddings[rows], labels[rows], nothing)
        for name, model in models.items():
            predicted = model.logits(embeddings[test]).argmax(1)
            found[name].append(float(unweighted_accuracy(confusion_matrix(labels[test], predicted, len(layer.bias)))))
    gains = np.subtract(found["fine_tuned"], found["bundled"])
    rows_ = {name: {"mean": float(np.mean(ua)), "deviation": float(np.std(ua, ddof=1))} for name, ua in found.items()}
    gain = {"mean": float(gains.mean()), "deviation": float(gains.std(ddof=1)), "least": float(gains.min())}
    return rows_ | {"gain": gain, "repeats": repeats, "seconds": float(np.median(seconds))}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=REPOSITORY / "results/bundled/fine_tuning.json")
    parser.add_argument("--counts", default="40,160")
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    counts = tuple(int(count) for count in arguments.counts.split(","))
    rows = {name: measure(arguments.corpora, name, counts, arguments.repeats) for name in CORPORA}
    protocol = f"{LABELED_SPEAKERS} speakers labeled, all others tested, speakers drawn {arguments.repeats} times"
    write_bytes(
        arguments.out, (json.dumps({"protocol": protocol, "penalty": PENALTY, **rows}, indent=2) + "\n").encode()
    )
    for name, row in rows.items():
        for count in counts:
            uas = "  ".join(
                f"{model} {100 * row[str(count)][model]['mean']:.1f}"
                for model in ("bundled", "fine_tuned", "from_nothing")
            )
            print(f"{name}, {count} recordings, UA (%): {uas}")


if __name__ == "__main__":
    try:
        main()
    except AffektError as error:
        sys.exit("\n".join(f"error: {fault}" for fault in error.faults))
