"""Fixtures that every test file may use."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
import soundfile
from hypothesis import HealthCheck, settings

from affekt.data.manifest import Manifest

# No test is timed, and every run sees the same examples.
settings.register_profile("house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Folder of real corpora; tests that need one are skipped, by name, where it is absent."""
    folder = Path(os.environ.get("AFFEKT_CORPORA", Path(__file__).parents[2] / "shared" / "corpora"))
    if not folder.is_dir():
        pytest.skip(f"no real corpora at {folder}; set AFFEKT_CORPORA")
    return folder


@pytest.fixture(scope="session")
def interruptible() -> list[str]:
    """The command, hearing Ctrl-C, which the background jobs of a shell and all that they start do not."""
    hears = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    return [sys.executable, "-c", f"{hears}; from affekt.cli import main; sys.exit(main())"]


CLASSES = ("angry", "happy", "neutral", "sad")


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """Writes a small run directory by the contract, as an experiment would: `make_run(path, systems=..., ...)`."""
    return write_run


def write_run(
    path: Path,
    systems: Sequence[str] = ("baseline", "am-softmax", "focal", "combined"),
    folds: int = 3,
    seeds: int = 2,
    speakers: Sequence[str] = ("s1", "s2", "s3", "s4", "s5", "s6"),
    utterances: int = 96,
    corpus: str = "emodb",
    gain: float = 0.1,
    left_out: Sequence[str] = (),
) -> Path:
    """Systems after the first recognize `gain` more of the utterances; jobs in `left_out` are not written."""
    rng = np.random.default_rng(0)
    ids = np.array([f"u{index:04d}" for index in range(utterances)])
    speaker = np.array([speakers[index % len(speakers)] for index in range(utterances)])
    labels = rng.permutation(np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 3])[np.arange(utterances) % 10])  # unbalanced
    line = f"{corpus} 4-class | random {folds}-fold, {seeds} seeds | speakers shared: yes | texts shared: yes"
    parts = np.array_split(rng.permutation(utterances), folds)
    plan = []
    for index, test in enumerate(parts):
        rest = np.concatenate([part for other, part in enumerate(parts) if other != index])
        cut = len(rest) * 55 // 80
        names = {"train": rest[:cut], "validation": rest[cut:], "test": test}
        plan.append({"index": index} | {part: ids[rows].tolist() for part, rows in names.items()})
    path.mkdir(parents=True)
    (path / "folds.json").write_text(json.dumps({"protocol": "random", "seed": 0, "folds": plan, "audit": {}}))
    experiment = {"corpus": corpus, "classes": CLASSES, "protocol": "random", "folds": folds, "seeds": seeds}
    experiment |= {"systems": systems, "recipe": "paper", "line": line}
    rows = [f"{key} = {json.dumps(value)}" for key, value in experiment.items()]
    (path / "config.toml").write_text("\n".join(["[experiment]", *rows, ""]))
    for system, fold, seed in ((a, b, c) for a in systems for b in range(folds) for c in range(seeds)):
        job = f"{system}/fold-{fold}/seed-{seed}"
        skill = 0.5 + gain * (system != systems[0])
        draw = np.random.default_rng([len(system), fold, seed])
        if job not in left_out:
            test = parts[fold]
            write_job(path / job, job, ids[test], speaker[test], labels[test], skill, draw)
    return path


def write_job(
    folder: Path, job: str, ids: Any, speaker: Any, labels: Any, skill: float, rng: np.random.Generator
) -> None:
    """One job's files; a part `skill` of the utterances is recognized, the others by chance."""
    folder.mkdir(parents=True)
    predicted = np.where(rng.random(len(ids)) < skill, labels, rng.integers(4, size=len(ids)))
    posteriors = np.eye(4)[predicted] + 0.2 + rng.random((len(ids), 4)) / 4
    table = pd.DataFrame({"id": ids, "speaker": speaker})
    table["label"], table["predicted"] = np.take(CLASSES, labels), np.take(CLASSES, predicted)
    table[[f"prob.{name}" for name in CLASSES]] = posteriors / posteriors.sum(1, keepdims=True)
    table.to_csv(folder / "predictions.csv", index=False)
    features = rng.normal(size=(len(ids), 8)) + 3 * skill * np.eye(4, 8)[labels]
    np.save(folder / "embeddings.npy", features.astype(np.float32))
    (folder / "model.safetensors").write_bytes(rng.bytes(64))
    epochs = np.arange(1, 6)
    history = {"epoch": epochs, "train_loss": 1 / epochs, "train_accuracy": 1 - 0.7 / epochs}
    history |= {"validation_loss": 1.2 / epochs, "validation_accuracy": 0.9 - 0.6 / epochs}
    history |= {"validation_ua": 0.9 - 0.6 / epochs, "learning_rate": 1e-4, "seconds": rng.random(5)}
    pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
    system, fold, seed = job.split("/")
    result: dict[str, Any] = {"system": system, "fold": int(fold[5:]), "seed": int(seed[5:]), "protocol": "random"}
    result |= {"parameters": 380_292 + 256 * (system == "combined"), "best_epoch": 5, "epochs": 5, "seconds": 1.5}
    result["wa"] = sklearn.metrics.accuracy_score(labels, predicted)
    result["ua"] = sklearn.metrics.recall_score(labels, predicted, labels=np.unique(labels), average="macro")
    result["macro_f1"] = sklearn.metrics.f1_score(labels, predicted, average="macro")
    recall = sklearn.metrics.recall_score(labels, predicted, average=None, labels=range(4), zero_division=0.0)
    result["recall"] = dict(zip(CLASSES, recall.tolist(), strict=True))
    result["confusion"] = sklearn.metrics.confusion_matrix(labels, predicted, labels=range(4)).tolist()
    result["sha256"] = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}
    (folder / "result.json").write_text(json.dumps(result))


def random_pipeline(
    masked: bool = True,
    pooling: Any = "attention",
    head: Any = "linear",
    filters: Sequence[int] = (8, 8, 4),
    pools: Sequence[int] = (2, 2, 1),
    kernel: int = 3,
    seed: int = 0,
    **features: Any,
) -> Any:
    """A small network of random weights, its batch normalization far from the identity, with a front end."""
    import torch

    from affekt.export.onnx_file import Pipeline
    from affekt.features.log_mel import FeatureConfig, Normalizer
    from affekt.nn import Network, NetworkConfig

    config = FeatureConfig(**features)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        shape = NetworkConfig(tuple(filters), kernel, tuple(pools), 0.25, 8, pooling, masked)
        network = Network(shape, config.mels, len(CLASSES), head)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.normal_(module.running_mean, std=0.3)
                torch.nn.init.uniform_(module.running_var, 0.2, 0.8)
                torch.nn.init.uniform_(module.weight, 0.8, 1.5)
                torch.nn.init.normal_(module.bias, std=0.3)
        torch.nn.init.normal_(network.head.weight, std=4.0)  # so that recordings get different labels
        mean = torch.linspace(-9, -5, config.mels).tolist()
    scale = 5.0 if head == "cosine" else 1.0
    return Pipeline(network, config, Normalizer(tuple(mean), (2.0,) * config.mels), lambda scores: scale * scores, 1.5)


@pytest.fixture(scope="session")
def make_pipeline() -> Callable[..., Any]:
    """`make_pipeline(masked=..., pooling=..., head=..., filters=...)`: an untrained `Pipeline`."""
    return random_pipeline


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model of random weights, masked, with four classes."""
    from affekt.export.onnx_file import Description, export

    path = tmp_path_factory.mktemp("models") / "small.onnx"
    export(random_pipeline(), Description(CLASSES, license="CC0-1.0", provenance={"corpus": "none"}), path)
    return path


@pytest.fixture(scope="session")
def babble() -> Callable[..., Any]:
    """`babble(seconds, seed=0)`: syllables of colored noise at 16 kHz, float32, which detectors take for speech."""

    def make(seconds: float, seed: int = 0, rate_hz: int = 16_000) -> Any:
        rng = np.random.default_rng(seed)
        noise = rng.normal(size=round(seconds * rate_hz)).astype(np.float32)
        color = np.convolve(noise, np.hanning(rng.integers(3, 12)).astype(np.float32), "same")
        beat = np.sin(2 * np.pi * np.arange(len(noise)) * rng.uniform(3, 6) / rate_hz) > -0.5
        return (0.1 * color * beat / np.abs(color).max()).astype(np.float32)

    return make


@dataclass(frozen=True)
class Process:
    """A server in a process of its own."""

    url: str
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@pytest.fixture(scope="session")
def run_server() -> Callable[..., AbstractContextManager[Process]]:
    """`with run_server(model, "--workers", "2", token="...") as server`: `affekt serve` until the context ends."""
    return _running


@contextmanager
def _running(model: Path, *options: str, token: str = "") -> Iterator[Process]:
    words = [sys.executable, "-m", "affekt", "serve", "--port", "0", "--model", str(model), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "AFFEKT_TOKEN": token}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield Process(_address(process), process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _address(process: subprocess.Popen[str], patience_seconds: float = 60) -> str:
    assert process.stdout
    ready, _, _ = select.select([process.stdout], [], [], patience_seconds)
    line = process.stdout.readline() if ready else ""
    found = re.search(r"http://[\w.\[\]:]+", line)
    if not found:
        process.kill()
        raise RuntimeError(f"no server: {line!r} {process.communicate()[1]}")
    return found.group()


TINY_SYSTEMS = """
[baseline]
features = { mels = 12, clip_seconds = 0.4 }
network = { filters = [16, 16], pools = [2, 2], lstm_cells_per_direction = 8 }
[focal]
loss = "focal"
features = { mels = 12, clip_seconds = 0.4 }
network = { filters = [16, 16], pools = [2, 2], lstm_cells_per_direction = 8 }
"""
TINY_RECIPE = """
name = "tiny"
masked = true
[train]
batch_size = 8
learning_rate = 0.003
max_epochs = 3
"""


@pytest.fixture(scope="session")
def bursts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus for experiments of seconds: 48 tones of 0.2 to 0.4 s, a pitch an emotion, of six "speakers".

    The folder holds `manifest.csv`, `systems.toml` with two tiny systems, `recipe.toml`, and `cache` for their audio.
    """
    folder = tmp_path_factory.mktemp("bursts")
    rng = np.random.default_rng(0)
    rows = []
    for speaker, (number, label), take in itertools.product(range(6), enumerate(CLASSES), range(2)):
        seconds = np.arange(rng.integers(3_200, 6_400)) / 16_000
        tone = 0.3 * np.sin(2 * np.pi * (200 * 2**number + 20 * speaker) * seconds)
        name = f"s{speaker}-{label}-{take}"
        soundfile.write(folder / f"{name}.wav", tone + 0.02 * rng.normal(size=len(seconds)), 16_000)
        row = {"id": name, "path": f"{name}.wav", "label": label, "speaker": f"s{speaker}", "corpus": "bursts"}
        rows.append(row | {"text_id": f"t{take}"})
    Manifest.from_rows(rows, folder).write(folder / "manifest.csv")
    (folder / "systems.toml").write_text(TINY_SYSTEMS)
    (folder / "recipe.toml").write_text(TINY_RECIPE)
    return folder
