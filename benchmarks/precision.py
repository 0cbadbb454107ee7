"""Does training in bfloat16 cost accuracy? The same folds and seeds in both precisions, compared in pairs.

    python -m benchmarks.precision [--corpus emodb] [--system compact] [--folds 5] [--seeds 2] [--epochs 14] [-o FOLDER]

The trainings of a pair have the same initial weights and the same batches in the same order. They differ in precision
and in the elements that dropout draws. Both are tested in float32. The default system is compact: float32 has no fused
kernels, and the paper's network would take an hour. Writes precision.json and precision.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, get_args

import numpy as np

from affekt.audio.reader import load
from affekt.data.corpora import prepare
from affekt.data.labels import LABEL_SETS
from affekt.data.manifest import Manifest
from affekt.data.protocols import Fold, make_folds
from affekt.features.clips import Clips
from affekt.measures.metrics import confusion_matrix, unweighted_accuracy
from affekt.measures.statistics import corrected_resampled_t_test, sign_flip_test
from affekt.runtime.atomic_files import write_bytes
from affekt.runtime.environment import environment
from affekt.training.fitted import Subset, as_subset
from affekt.training.fitting import fit
from affekt.training.recipes import find_recipe
from affekt.training.scoring import score
from affekt.training.systems import System, resolve
from affekt.training.train_config import Precision, TrainConfig
from benchmarks.rows import Figure
from benchmarks.setting import NO_CORPUS, REPOSITORY, corpus

PRECISIONS = ("bfloat16", "float32")
assert set(PRECISIONS) < set(get_args(Precision))
LABELS = LABEL_SETS["iemocap4"]


def main() -> int:
    """Train every pair and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="emodb")
    parser.add_argument("--system", default="compact")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("-o", "--out", type=Path, default=REPOSITORY / "results" / "benchmarks")
    options = parser.parse_args()
    folder = corpus(options.corpus)
    if folder is None:
        print(NO_CORPUS.format(options.corpus), file=sys.stderr)
        return 2
    manifest, _ = prepare(options.corpus, folder, LABELS, check_audio=False)
    result = compare(manifest, options)
    page = report(result)
    write_bytes(options.out / "precision.json", json.dumps(result, indent=1).encode())
    write_bytes(options.out / "precision.md", page.encode())
    print(page)
    return 0


def compare(manifest: Manifest, options: argparse.Namespace) -> dict[str, Any]:
    """UA and decisions of each fold and seed in both precisions, and tests of their differences."""
    recipe = find_recipe("quick")
    system = recipe.apply(resolve(options.system)[0])
    config = replace(recipe.train, max_epochs=options.epochs, patience=options.epochs)
    plan = make_folds(manifest, "random", options.folds)
    clips = Clips.from_waveforms([load(path) for path in manifest.audio_paths()], system.features)
    pairs = []
    for fold in plan.folds:
        for seed in range(options.seeds):
            start = perf_counter()
            trained = {name: train(system, clips, manifest, fold, config, name, seed) for name in PRECISIONS}
            pairs.append(pair(fold, seed, trained))
            print(f"fold {fold.index}, seed {seed}: {pairs[-1]['ua']}, {perf_counter() - start:.0f} s", flush=True)
    line = plan.line(manifest.name, len(LABELS.classes), options.seeds)
    made = {"system": options.system, "recipe": recipe.name, "epochs": options.epochs, "line": line}
    return {**made, "machine": environment(), "pairs": pairs, **tested(pairs, plan.folds[0])}


def train(
    system: System, clips: Clips, manifest: Manifest, fold: Fold, config: TrainConfig, precision: str, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Train on a fold; return labels and decisions of its test part."""
    index = {name: row for row, name in enumerate(manifest.ids)}
    classes = np.array([LABELS.classes.index(label) for label in manifest.labels], np.int64)
    parts: dict[str, Subset] = {
        name: as_subset([index[utterance] for utterance in ids], classes) for name, ids in fold.parts().items()
    }
    chosen = replace(config, precision=precision)
    fitted = fit(system, clips, parts["train"], parts["validation"], len(LABELS.classes), chosen, seed)
    scored = score(fitted, clips, parts["test"].rows, replace(config, precision="float32"))
    return parts["test"].labels, scored.logits.argmax(1)


def pair(fold: Fold, seed: int, trained: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Compare the decisions of both precisions."""
    ua = {
        name: float(unweighted_accuracy(confusion_matrix(labels, decided, len(LABELS.classes))))
        for name, (labels, decided) in trained.items()
    }
    right = {name: labels == decided for name, (labels, decided) in trained.items()}
    gains = right["bfloat16"].astype(int) - right["float32"].astype(int)
    counts = {"bfloat16": int((gains > 0).sum()), "float32": int((gains < 0).sum()), "tested": len(gains)}
    return {"fold": fold.index, "seed": seed, "ua": ua, "right only in": counts}


def tested(pairs: list[dict[str, Any]], fold: Fold) -> dict[str, Any]:
    """Mean difference of UA (bfloat16 - float32), its p-value over folds, and the one over utterances."""
    differences = np.array([one["ua"]["bfloat16"] - one["ua"]["float32"] for one in pairs])
    folds = np.array([one["fold"] for one in pairs])
    by_fold = [float(differences[folds == index].mean()) for index in np.unique(folds)]
    t_test = corrected_resampled_t_test(by_fold, len(fold.test), len(fold.train))
    only = {name: sum(one["right only in"][name] for one in pairs) for name in PRECISIONS}
    signs = np.repeat([1.0, -1.0], [only["bfloat16"], only["float32"]])
    return {
        "difference": float(np.mean(by_fold)),
        "differences by fold": by_fold,
        "p over folds": t_test.p_value,
        "p over utterances": float(sign_flip_test(signs, seed=0)) if len(signs) else 1.0,
        "right only in": only,
    }


def report(result: dict[str, Any]) -> str:
    """The results as Markdown."""
    ua = {name: Figure.of([100 * one["ua"][name] for one in result["pairs"]], "%") for name in PRECISIONS}
    only = result["right only in"]
    return "\n".join(
        [
            "# bfloat16 against float32 in training",
            "",
            f"`{result['line']}`, system {result['system']}, recipe {result['recipe']}, {result['epochs']} epochs; "
            f"{result['machine']['cpu']}, {result['machine']['cores']} cores, torch {result['machine']['torch']}",
            "",
            f"* UA, median and quartiles of {len(result['pairs'])} pairs: bfloat16 {ua['bfloat16']}, float32 "
            f"{ua['float32']}",
            f"* mean difference {100 * result['difference']:+.2f} points (bfloat16 - float32); by fold: "
            + ", ".join(f"{100 * one:+.1f}" for one in result["differences by fold"]),
            f"* corrected paired t-test over folds: p = {result['p over folds']:.2f}; utterances that one alone gets "
            f"right: bfloat16 {only['bfloat16']}, float32 {only['float32']}, permutation p = "
            f"{result['p over utterances']:.2f}",
            "",
            "Made by `python -m benchmarks.precision`.",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
