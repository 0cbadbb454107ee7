"""Shared by all benchmarks: paths, the paper's network, and its number of operations."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

REPOSITORY = Path(__file__).parents[1]
RATE_HZ, CLIP_SECONDS, CLASSES, BATCH = 16_000, 7.5, ("angry", "happy", "neutral", "sad"), 32
NO_CORPUS = "not measured: no corpus {}; set AFFEKT_CORPORA to the folder that holds it"


@dataclass(frozen=True)
class Setting:
    """Environment of a benchmark.

    Attributes:
        limits: what the machine can do, as measured at the start of this run; by name.
        core: the Python of an environment that holds the core install alone.
        checkpoints: trained models to compare int8 with float32 on.
    """

    limits: Mapping[str, float] = field(default_factory=dict)
    core: Path | None = None
    checkpoints: tuple[Path, ...] = ()

    @property
    def cores(self) -> int:
        """Number of cores that this process may use."""
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def corpus(name: str) -> Path | None:
    """The folder of a real corpus, as the tests find it; None if it is absent."""
    folder = Path(os.environ.get("AFFEKT_CORPORA", REPOSITORY.parent / "shared" / "corpora")) / name
    return folder if folder.is_dir() else None


def recordings(folder: Path) -> list[Path]:
    """Every recording in a folder, sorted."""
    from affekt.audio.folders import can_decode

    return sorted(path for path in folder.rglob("*") if can_decode(path.suffix))


def noise(seconds: float = CLIP_SECONDS, seed: int = 0) -> NDArray[np.float32]:
    """A recording of noise."""
    return np.random.default_rng(seed).normal(scale=0.1, size=round(seconds * RATE_HZ)).astype(np.float32)


@contextmanager
def paper_models() -> Iterator[dict[str, Path]]:
    """The paper's network and the encoder with random weights, in float32 and int8; the time does not depend on them.

    The encoder's files are `encoder-float32` and `encoder-int8`.
    """
    from affekt.export.onnx_file import Description, export
    from affekt.export.onnx_file import noise as some_noise

    with TemporaryDirectory() as folder:
        models = {}
        for prefix, pipeline in (("", paper_pipeline()), ("encoder-", encoder_pipeline())):
            recordings = some_noise(pipeline.features, 8)
            for precision in ("float32", "int8"):
                path = models[prefix + precision] = Path(folder) / f"{prefix}{precision}.onnx"
                export(pipeline, Description(CLASSES), path, precision, recordings)
        yield models


def paper_pipeline():  # type: ignore[no-untyped-def]
    """The paper's network with random weights and its front end, an `affekt.export.onnx_file.Pipeline`."""
    import torch

    from affekt.export.onnx_file import Pipeline
    from affekt.features.log_mel import FeatureConfig, Normalizer
    from affekt.nn import Network, NetworkConfig

    torch.manual_seed(0)
    features = FeatureConfig()
    network = Network(NetworkConfig(), features.mels, len(CLASSES))
    return Pipeline(network, features, Normalizer((-6.0,) * features.mels, (3.0,) * features.mels))


def encoder_pipeline():  # type: ignore[no-untyped-def]
    """The bundled model's kind with random weights: Whisper tiny's stem and first layer and a linear model."""
    import torch

    from affekt.export.pipeline import Pipeline
    from affekt.features.frontends import WhisperLogMel
    from affekt.nn.encoder_classifier import EncoderClassifier

    torch.manual_seed(0)
    return Pipeline(EncoderClassifier(80, len(CLASSES), trim_db=35.0), WhisperLogMel(top=5.4, decades=6.0))


def forward_gflop(first: bool = True) -> float:
    """Arithmetic of the paper's network on one full clip, forward: 2 for each product that is added; without its first
    convolution if not `first`."""
    from torch import nn, zeros

    from affekt.nn import Network, NetworkConfig

    network = Network(NetworkConfig(), mels=40, classes=len(CLASSES)).eval()
    products: list[float] = []

    def count(layer: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(layer, nn.Conv2d):
            products.append(output.numel() * layer.weight[0].numel())  # type: ignore[attr-defined]
        elif isinstance(layer, nn.LSTM):
            frames = output[0].shape[1]  # type: ignore[index]
            products.append(frames * sum(weight.numel() for weight in layer.parameters() if weight.dim() == 2))

    for layer in network.modules():
        layer.register_forward_hook(count)
    network(zeros(1, 750, 40))
    return 2e-9 * sum(products if first else products[1:])


def training_gflop() -> float:
    """Operations of a training step: forward, and twice that backward, without the inputs of the first layer.

    >>> round(training_gflop() / forward_gflop(), 2)
    2.97
    """
    return forward_gflop() + 2 * forward_gflop(first=False) + (forward_gflop() - forward_gflop(first=False))


PROGRAM = """
import sys
from affekt.cli import main
code = main(sys.argv[1:])
with open("/proc/self/status") as status:  # not getrusage: its peak includes the process that started this one
    peak = next(line for line in status if line.startswith("VmHWM"))
print(peak.split()[1], file=sys.stderr)
sys.exit(code)
"""


def fresh_process(words: Sequence[str], python: str | Path = sys.executable) -> tuple[float, float]:
    """Seconds and peak memory in MB of `affekt WORDS` in a fresh process."""
    start = perf_counter()
    done = subprocess.run([str(python), "-c", PROGRAM, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"affekt {' '.join(words)}: {done.stderr[-2_000:]}")
    return perf_counter() - start, int(done.stderr.split()[-1]) * 1_024 / 1e6
