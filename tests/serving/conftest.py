"""A model with random weights, recordings like speech, and servers in the test's process."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import torch
from starlette.testclient import TestClient

from affekt.export.onnx_file import Description, Pipeline, export
from affekt.features.log_mel import FeatureConfig, Normalizer
from affekt.nn import Network, NetworkConfig
from affekt.recognition.card import ModelCard
from affekt.recognition.output_layer import HEAD_KEY
from affekt.recognition.recognizer import Recognizer
from affekt.serving.app import create_app
from affekt.serving.settings import Limits, ServerSettings

LABELS = ("angry", "happy", "neutral", "sad")
ADDRESS = "http://127.0.0.1"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported network with random weights, scaled so that it answers each recording differently."""
    torch.manual_seed(1)
    network = Network(NetworkConfig(filters=(8, 8, 8), pools=(2, 2, 2), masked=True), mels=40, classes=4)
    pipeline = Pipeline(network, FeatureConfig(), Normalizer((-6.0,) * 40, (2.0,) * 40), temperature=0.5)
    heard = [torch.from_numpy(make_speech(0.5 + seed / 4, seed=seed))[None] for seed in range(16)]
    with torch.no_grad():
        scores = [network(*pipeline.prepare(waveform, torch.tensor([waveform.shape[1]]))).scores for waveform in heard]
        mean, deviation = torch.cat(scores).mean(0), torch.cat(scores).std(0)
        network.head.bias.sub_(mean).div_(deviation)
        network.head.weight.div_(deviation[:, None])
    path = tmp_path_factory.mktemp("model") / "random.onnx"
    export(pipeline, Description(LABELS, license="CC0-1.0", unsure_below=0.5), path)
    make_adaptable(path, network.head)
    return path


def make_adaptable(path: Path, head: torch.nn.Linear) -> None:
    """Write `adaptable.onnx` beside a model: the same with its last layer and the parameters of an adaptation."""
    model = onnx.load(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    neutral = [0.1] * head.weight.shape[1]
    adaptation: dict[str, object] = {"baseline": {"count": 2.0, "neutral_mean": neutral}}
    adaptation["speaker"] = {"count": 2.0, "spread": 0.5, "power": 1.0}
    card = replace(ModelCard.from_metadata(metadata, "model"), adaptation=adaptation)
    described = {"weight": head.weight.detach().ravel().tolist(), "bias": head.bias.detach().tolist()}
    onnx.helper.set_model_props(model, metadata | card.to_metadata() | {HEAD_KEY: json.dumps(described)})
    onnx.save(model, path.with_name("adaptable.onnx"))


@pytest.fixture(scope="session")
def adaptable(model: Path) -> Path:
    """The model with the parameters of an adaptation."""
    return model.with_name("adaptable.onnx")


@pytest.fixture(scope="session")
def recognizer(model: Path) -> Recognizer:
    return Recognizer.load(model, threads=1)


@pytest.fixture
def serve(recognizer: Recognizer) -> Iterator[Callable[..., TestClient]]:
    """`serve(token=..., body_bytes=..., ...)`: a client of a server with these settings and limits."""
    clients: list[TestClient] = []

    def start(token: str | None = None, host: str = "127.0.0.1", **options: object) -> TestClient:
        names = {name: options.pop(name) for name in ("hosts", "origins", "threads") if name in options}
        settings = ServerSettings(host=host, token=token, limits=Limits(**options), **names)  # type: ignore[arg-type]
        client = TestClient(create_app(recognizer, settings), base_url=ADDRESS)
        clients.append(client.__enter__())
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serve: Callable[..., TestClient]) -> TestClient:
    return serve()


def make_speech(seconds: float, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    """Syllables of a buzzing voice over faint noise, whose pitch and brightness drift."""
    rng = np.random.default_rng(seed)
    time_seconds = np.arange(round(seconds * rate)) / rate
    drift = np.sin(2 * np.pi * time_seconds / 7 + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(rng.uniform(90, 220) * (1 + 0.4 * drift)) / rate
    steepness = rng.uniform(0.7, 1.5) + 0.5 * drift
    voice = sum(np.sin(k * phase) / k**steepness for k in range(1, 12))
    voice *= np.clip(np.sin(2 * np.pi * rng.uniform(2, 5) * time_seconds), 0, None)
    return (0.05 * voice + 0.002 * rng.normal(size=len(time_seconds))).astype(np.float32)


@pytest.fixture(scope="session")
def speech() -> Callable[..., np.ndarray]:
    """`speech(seconds, rate=16_000, seed=0)`: samples."""
    return make_speech


@pytest.fixture(scope="session")
def recording() -> Callable[..., bytes]:
    """`recording(seconds, rate=16_000, seed=0, form="WAV", encoding=None)`: the bytes of a file."""

    def make(
        seconds: float, rate: int = 16_000, seed: int = 0, form: str = "WAV", encoding: str | None = None
    ) -> bytes:
        file = io.BytesIO()
        soundfile.write(file, make_speech(seconds, rate, seed), rate, format=form, subtype=encoding)
        return file.getvalue()

    return make


@pytest.fixture(scope="session")
def eventually() -> Callable[..., bool]:
    """`eventually(true, patience_seconds=10)`: whether something becomes true in time."""

    def wait(true: Callable[[], bool], patience_seconds: float = 10) -> bool:
        end = time.monotonic() + patience_seconds
        while time.monotonic() < end:
            if true():
                return True
            time.sleep(0.02)
        return False

    return wait
