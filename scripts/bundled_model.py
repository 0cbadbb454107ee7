"""Make the bundled model: read its data, train it, measure it and write its files.

    python scripts/bundled_model.py --corpora ../shared/corpora --weights ../shared/weights/whisper-tiny.en-encoder \\
        [-o runs/bundled] [--install]

The encoder is Whisper's, frozen; a linear model on it is trained on EmoDB, CREMA-D, BanglaSER and the Javanese corpus,
each as recorded and in one varied copy. RAVDESS, nEMO and EMOVO train and decide nothing; they measure the model file.
Embeddings are kept and reused, so that an interrupted run resumes; a repeated run gives the same bytes. `--install`
copies the results into the package.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bundled import measures, page
from bundled.embeddings import FEATURES, TRIM_DB, Embedder
from bundled.heads import (
    CORPUS_PENALTY,
    PENALTY,
    SPEECH_BELOW,
    VARIED_WEIGHT,
    Linear,
    Outlier,
    Part,
    Speech,
    calibrated_temperature,
    fit_emotions,
    fit_speech,
    leave_one_out,
    neutral_mean,
    outlier_threshold,
    speaker_spread,
    unsure_below,
)
from bundled.recordings import CLASSES, TRAINING, UNSEEN, Corpus, Waveform, read_corpus
from bundled.sounds import KINDS, sound
from bundled.variations import generator, varied

from affekt.data import training_audio
from affekt.export.onnx_file import Description, export
from affekt.export.pipeline import Pipeline
from affekt.nn.encoder_classifier import Detectors, EncoderClassifier
from affekt.recognition.recognizer import Recognizer
from affekt.runtime.atomic_files import write_bytes

REPOSITORY = Path(__file__).parents[1]
MODELS = REPOSITORY / "src" / "affekt" / "recognition" / "models"
RESULTS = REPOSITORY / "results" / "bundled"
SOUNDS_PER_KIND = 24
COUNT, POWER = 2.0, 1.0
"""Shrinkage of the adaptation to a speaker: see `affekt.recognition.adaptation`."""
LICENSE = "MIT"
THREADS = 2


def training_part(corpus: Corpus, embedder: Embedder) -> Part:
    """Embeddings of a training corpus and of its varied copy."""
    voices = corpus.waveforms

    def copies() -> Iterator[Waveform]:
        for name, waveform in zip(corpus.ids, voices, strict=True):
            yield varied(waveform, generator("varied", corpus.name, name), voices)

    recorded = embedder.kept(f"{corpus.name}-recorded", lambda: voices)
    return Part(corpus, recorded, embedder.kept(f"{corpus.name}-varied", copies))


def sound_embeddings(embedder: Embedder) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of sounds that are not speech, and the kind of each."""
    names = [(kind, number) for kind in KINDS for number in range(SOUNDS_PER_KIND)]
    found = embedder.kept("sounds", lambda: (sound(kind, number) for kind, number in names))
    return found, np.array([kind for kind, _ in names])


def trials(parts: list[Part]) -> list[dict[str, Any]]:
    """The choices that this script makes anew: mean UA of corpora left out, under other settings."""
    settings: list[dict[str, Any]] = [{"penalty": penalty} for penalty in (0.03, PENALTY, 0.3)]
    settings += [{"corpus_penalty": 0.0}, {"varied_weight": 0.0}, {"varied_weight": 1.0}]
    rows = []
    for options in settings:
        left_out = leave_one_out(parts, **options)
        rows.append({"setting": options, "mean_ua": left_out.mean, "ua": left_out.accuracies})
        print(rows[-1], flush=True)
    return rows


def speech_trial(parts: list[Part], model: Linear, sounds: np.ndarray, kinds: np.ndarray) -> dict[str, Any]:
    """The detector on what it has not heard: kinds of sound left out by sevenths, corpora left out one by one."""
    z = [model.standardized(np.concatenate([part.recorded, part.varied])) for part in parts]
    noises, threshold = model.standardized(sounds), float(np.log(SPEECH_BELOW / (1 - SPEECH_BELOW)))
    order = generator("kinds").permutation(sorted(set(kinds)))
    accepted: dict[str, float] = {}
    for group in np.array_split(order, 7):
        out = np.isin(kinds, group)
        heard = fit_speech(z, noises[~out]).logits(noises[out]) > threshold
        accepted |= {str(kind): round(float(heard[kinds[out] == kind].mean()), 4) for kind in group}
    passed = {}
    for number, part in enumerate(parts):
        detector = fit_speech([x for other, x in enumerate(z) if other != number], noises)
        passed[part.corpus.name] = round(float((detector.logits(z[number]) > threshold).mean()), 4)
    taken = {kind: share for kind, share in accepted.items() if share > 0}
    return {
        "sounds": len(kinds),
        "kinds": len(order),
        "taken_for_speech": round(float(np.mean(list(accepted.values()))), 4),
        "of_kinds": taken,
        "speech_passed": passed,
    }


def pipeline_of(embedder: Embedder, model: Linear, temperature: float, speech: Speech, outlier: Outlier) -> Pipeline:
    """The model in PyTorch, from waveform to probabilities and scores."""
    network = EncoderClassifier(FEATURES.dims, len(CLASSES), trim_db=TRIM_DB)
    network.encoder.load_state_dict(embedder.network.encoder.state_dict())
    with torch.no_grad():
        network.mean.copy_(torch.tensor(model.mean))
        network.scale.copy_(torch.tensor(model.scale))
        head: Any = network.head
        head.weight.copy_(torch.tensor(model.weight))
        head.bias.copy_(torch.tensor(model.bias))
    detectors = Detectors(speech.weight, speech.bias, outlier.mean, outlier.axes, outlier.variances, outlier.rest)
    return Pipeline(network.requires_grad_(False), FEATURES, temperature=temperature, detectors=detectors)


def calibration_recordings(parts: list[Part], each: int = 24) -> list[Waveform]:
    """Training recordings that set the steps of the whole numbers."""
    chosen = []
    for part in parts:
        rows = np.linspace(0, len(part.corpus.ids) - 1, each).astype(int)
        chosen += [part.corpus.waveforms[row] for row in rows]
    return chosen


def build(corpora: Path, weights: Path, out: Path) -> dict[str, Any]:
    """Train everything, write the model file, measure it, write it again with its measures; the measures."""
    embedder = Embedder(weights, out / "embeddings")
    parts = [training_part(read_corpus(corpora, name, out / "audio"), embedder) for name in TRAINING]
    sounds, kinds = sound_embeddings(embedder)
    model = fit_emotions(parts)
    left_out = leave_one_out(parts)
    temperature = calibrated_temperature(left_out)
    threshold, curve = unsure_below(left_out, temperature)
    z = [model.standardized(np.concatenate([part.recorded, part.varied])) for part in parts]
    speech, outlier = fit_speech(z, model.standardized(sounds)), Outlier.fit(z)
    detection = {"speech_below": float(SPEECH_BELOW), "outlier_above": outlier_threshold(parts, model)}
    speaker = {"count": COUNT, "spread": speaker_spread(parts, model), "power": POWER}
    baseline = {"count": COUNT, "neutral_mean": np.round(neutral_mean(parts, model), 5).tolist()}
    pipeline = pipeline_of(embedder, model, temperature, speech, outlier)
    describe = lambda found: Description(  # noqa: E731
        CLASSES,
        LICENSE,
        threshold,
        provenance(parts),
        found,
        detection,
        {"speaker": speaker, "baseline": baseline},
    )
    recordings = calibration_recordings(parts)
    export(pipeline, describe({}), out / "unmeasured.onnx", "int8", recordings)
    found = {
        "left_out": {"mean_ua": left_out.mean, "ua": left_out.accuracies, "sure": curve},
        "detector": speech_trial(parts, model, sounds, kinds),
    }
    unseen = [read_corpus(corpora, name, out / "audio") for name in UNSEEN]
    found |= measures.measure(Recognizer.load(out / "unmeasured.onnx"), unseen)
    write_json(out / "measures.json", found)
    write_json(out / "trials.json", trials(parts))
    export(pipeline, describe(measures.for_card(found)), out / "bundled.onnx", "int8", recordings)
    return found


def provenance(parts: list[Part]) -> dict[str, Any]:
    """The origin of the model, the conditions of its sources, and the recordings that it has heard."""
    names = {part.corpus.name: part.corpus.name.replace("_", "-") for part in parts}  # as manifests have them
    heard = [(names[part.corpus.name], sound) for part in parts for sound in part.corpus.sounds]
    corpora, sounds = zip(*heard, strict=True)
    return {
        "corpora": "+".join(names.values()),
        "system": "encoder-linear",
        "encoder": "stem and first layer of Whisper tiny.en (OpenAI, MIT), frozen",
        "training": {part.corpus.name: int(part.corpus.of_class.sum()) for part in parts},
        "copies": "as recorded, and varied: cut, room, noise, equalization, clipping, band, codec, speed",
        "penalty": PENALTY,
        "corpus_penalty": CORPUS_PENALTY,
        "varied_weight": VARIED_WEIGHT,
        "chosen_by": "leaving one of the four training corpora out",
        "made_by": "python scripts/bundled_model.py",
        "attribution": "EmoDB (Burkhardt et al. 2005, CC0-1.0); CREMA-D (Cao et al. 2014, ODbL-1.0, contents DbCL-1.0);"
        " BanglaSER (Das et al. 2022, CC-BY-4.0); Javanese emotional speech (2black0, MIT); Whisper (OpenAI, MIT)",
        training_audio.KEY: training_audio.describe(corpora, sounds),
    }


def write_json(path: Path, value: Any) -> None:
    """Indented, atomically."""
    write_bytes(path, f"{json.dumps(value, indent=2)}\n".encode())


def install(out: Path) -> None:
    """Copy the model into the package, and trials and measures into results/; write the card's page."""
    content = (out / "bundled.onnx").read_bytes()
    write_bytes(MODELS / "bundled.onnx", content)
    write_bytes(MODELS / "bundled.sha256", f"{hashlib.sha256(content).hexdigest()}\n".encode())
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in ("measures.json", "trials.json"):
        shutil.copy(out / name, RESULTS / name)
    found = json.loads((out / "measures.json").read_text(encoding="utf-8"))
    looks = len(json.loads((RESULTS / "research.json").read_text(encoding="utf-8"))["looks"])
    card = Recognizer.load(out / "bundled.onnx").card
    text = page.page(found, card.provenance["training"], card.clip_seconds, card.unsure_below, looks)
    write_bytes(REPOSITORY / "docs" / "model-card.md", text.encode())


def main() -> None:
    """All steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=REPOSITORY.parent / "shared" / "corpora")
    weights = REPOSITORY.parent / "shared" / "weights" / "whisper-tiny.en-encoder"
    parser.add_argument("--weights", type=Path, default=weights)
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/bundled"))
    parser.add_argument("--install", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)  # sums in another order would give other last bits
    began = time.perf_counter()
    arguments.out.mkdir(parents=True, exist_ok=True)
    build(arguments.corpora, arguments.weights, arguments.out)
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes", flush=True)
    if arguments.install:
        install(arguments.out)


if __name__ == "__main__":
    main()
