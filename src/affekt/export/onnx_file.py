"""Export of a trained network to one ONNX file: waveform in, calibrated probabilities out, front end included.

`affekt.export.pipeline` defines in PyTorch what the file computes; `affekt.export.graph` writes it. Before a file is
saved, both run on the same recordings and are compared. In float32 they must agree within 1e-4; in int8 the share of
equal decisions and the largest difference are measured and kept in the model card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from affekt import __version__
from affekt.errors import CheckpointError, ConfigError, Fault
from affekt.export.graph import encoder_network, front_end, int8
from affekt.export.graph import network_operators as layers
from affekt.export.graph.builder import OPSET, Graph, ints
from affekt.export.graph.encoder_operators import EncoderProducts
from affekt.export.graph.pooling_operators import POOLINGS, States
from affekt.export.graph.quantization import QuantizedModule, quantize
from affekt.export.graph.traced import traced
from affekt.export.pipeline import Features, Pipeline
from affekt.features.log_mel import FeatureConfig
from affekt.nn import Network
from affekt.nn.blocks import ConvModule
from affekt.recognition.card import UNSURE_BELOW, ModelCard, Precision
from affekt.runtime.atomic_files import write_bytes
from affekt.training.checkpoint import Checkpoint

TOLERANCE = 1e-4
"""How far a float32 file's probabilities may be from PyTorch's."""

Waveforms = Sequence[NDArray[np.float32]]
Quantized = Sequence[QuantizedModule] | EncoderProducts
"""The parts of a network that are in whole numbers."""


@dataclass(frozen=True)
class Description:
    """Content of the model card that does not follow from the model.

    Attributes:
        labels: class names in the order of the outputs.
        license: of the weights.
        unsure_below: confidence below which a prediction is marked unsure.
        provenance, measures: any nested values that JSON holds.
        detection: the thresholds `speech_below` and `outlier_above` of the detectors' scores.
        adaptation: parameters of the adaptation to a speaker, as :class:`affekt.recognition.card.ModelCard` has them.
    """

    labels: tuple[str, ...]
    license: str = "not stated"
    unsure_below: float = UNSURE_BELOW
    provenance: Mapping[str, Any] = field(default_factory=dict)
    measures: Mapping[str, Any] = field(default_factory=dict)
    detection: Mapping[str, float] = field(default_factory=dict)
    adaptation: Mapping[str, Any] = field(default_factory=dict)


def export(
    pipeline: Pipeline,
    description: Description,
    path: str | Path,
    precision: Precision = "float32",
    recordings: Waveforms = (),
) -> ModelCard:
    """Write the pipeline as one ONNX file, atomically, after comparing the two.

    Args:
        pipeline: what to export.
        description: what its card says.
        path: the file, ending in .onnx.
        precision: "int8" quantizes the layers that take nearly all the time; it needs recordings.
        recordings: waveforms at the model's rate: training data to quantize on, and to compare on.

    Returns:
        The card in the file.

    Raises:
        ConfigError: options that do not fit, or a network that ONNX cannot express.
        CheckpointError: the file's probabilities are not PyTorch's.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ConfigError(f"export to {path}", got=repr(path.suffix), expected="a file ending in .onnx")
    batches = _batches(recordings or noise(pipeline.features))
    quantized = _quantized(pipeline, recordings) if precision == "int8" else None
    card = _card(pipeline, description, precision)
    agreement = compare(pipeline, build(pipeline, card, quantized).SerializeToString(), batches)
    if precision == "float32" and not agreement.largest_difference <= TOLERANCE:
        raise CheckpointError(
            f"export to {path}",
            got=f"probabilities {agreement.largest_difference:.2g} from PyTorch's",
            expected=f"at most {TOLERANCE:g}",
        )
    card = replace(card, measures={**card.measures, "export": asdict(agreement)})
    write_bytes(path, build(pipeline, card, quantized).SerializeToString())
    return card


def export_checkpoint(
    checkpoint: Checkpoint,
    path: str | Path,
    precision: Precision = "float32",
    recordings: Waveforms = (),
    unsure_below: float = UNSURE_BELOW,
    license: str | None = None,
    measures: Mapping[str, Any] | None = None,
) -> ModelCard:
    """Export a checkpoint; its provenance goes into the card, and its license unless another is given.

    Raises:
        ConfigError, CheckpointError: as :func:`export`.
    """
    provenance = {"system": checkpoint.system.to_dict(), **checkpoint.provenance}
    stated = license or str(checkpoint.provenance.get("license", checkpoint.provenance.get("licence", "not stated")))
    description = Description(checkpoint.classes, stated, unsure_below, provenance, measures or {})
    return export(Pipeline.from_checkpoint(checkpoint), description, path, precision, recordings)


def build(pipeline: Pipeline, card: ModelCard, quantized: Quantized | None = None) -> onnx.ModelProto:
    """The ONNX model; with `quantized` parts in place of the network's."""
    graph, metadata = Graph(), card.to_metadata()
    scale = _logit_scale(pipeline, len(card.labels))
    if isinstance(pipeline.features, FeatureConfig):
        assert not isinstance(quantized, EncoderProducts)
        scores, embedding = _log_mel_network(graph, pipeline, pipeline.features, quantized)
    else:
        assert quantized is None or isinstance(quantized, EncoderProducts)
        scores, embedding = encoder_network.network(graph, pipeline, quantized)
        metadata |= encoder_network.head_metadata(encoder_network.Chain.of(pipeline).head, scale)
    graph.op(
        "Softmax", graph.op("Mul", scores, np.float32(scale / pipeline.temperature)), axis=-1, name="probabilities"
    )
    graph.op("Identity", embedding, name="embedding")
    outputs: dict[str, list[int | str]] = {
        "probabilities": ["batch", len(card.labels)],
        "embedding": ["batch", "features"],
    }
    outputs |= {name: ["batch"] for name in encoder_network.detections(graph, pipeline, embedding)}
    return graph.model(
        {"waveform": ("float32", ["batch", "samples"]), "samples": ("int64", ["batch"])},
        {name: ("float32", shape) for name, shape in outputs.items()},
        metadata,
    )


def _log_mel_network(
    graph: Graph, pipeline: Pipeline, config: FeatureConfig, quantized: Sequence[QuantizedModule] | None
) -> tuple[str, str]:
    """Scores and embedding of a network on log-mel features."""
    clipped = front_end.clip_waveform(graph, config.clip_samples, "waveform", "samples")
    waveform = front_end.set_level(graph, config, clipped, "samples")
    lengths: str | None = None
    frames: str | NDArray[np.int64] = ints(config.clip_frames)
    if pipeline.masked:
        lengths = front_end.frame_lengths(graph, config, "samples")
        frames = front_end.batch_frames(graph, config, waveform)
    log_mel = front_end.log_mel(graph, config, waveform, frames)
    features = front_end.normalize(graph, pipeline.normalizer, log_mel)
    return _network(graph, pipeline, features, frames, lengths, quantized)


@dataclass(frozen=True)
class Agreement:
    """Agreement of a file with PyTorch.

    Attributes:
        recordings: number of recordings compared.
        equal_decisions: share of recordings with the same label.
        largest_difference, mean_difference: of the probabilities.
    """

    recordings: int
    equal_decisions: float
    largest_difference: float
    mean_difference: float


def compare(pipeline: Pipeline, model: bytes, batches: Sequence[tuple[Tensor, Tensor]]) -> Agreement:
    """Run the pipeline and its ONNX file on the same batches of waveforms and samples."""
    session = onnxruntime.InferenceSession(model, _quiet(), providers=["CPUExecutionProvider"])
    ours, theirs = [], []
    for waveform, samples in batches:
        theirs.append(pipeline(waveform, samples).probabilities.numpy())
        feeds = {"waveform": waveform.numpy(), "samples": samples.numpy()}
        ours.append(session.run(["probabilities"], feeds)[0])
    file, torch_ = np.concatenate(ours), np.concatenate(theirs)
    difference = np.abs(file - torch_)
    equal = float((file.argmax(1) == torch_.argmax(1)).mean())
    return Agreement(len(file), equal, float(difference.max()), float(difference.mean()))


def noise(config: Features, count: int = 4, seed: int = 0) -> list[NDArray[np.float32]]:
    """Noise of changing loudness and different lengths, to compare on where there are no recordings."""
    generator = np.random.default_rng(seed)
    waveforms = []
    for length in np.geomspace(config.hop_samples // 2 + 1, config.clip_samples * 1.1, count).astype(int):
        loudness = np.exp(generator.normal(-3, 1, size=length // 1_600 + 1)).repeat(1_600)[:length]
        waveforms.append((generator.normal(size=length) * loudness).astype(np.float32))
    return waveforms


def _network(
    graph: Graph,
    pipeline: Pipeline,
    features: str,
    frames: str | NDArray[np.int64],
    lengths: str | None,
    quantized: Sequence[QuantizedModule] | None,
) -> tuple[str, str]:
    """Scores and embedding: the paper's network by hand, any other traced."""
    network = pipeline.network
    if type(network) is not Network:
        return _traced_network(graph, pipeline, features)
    assert isinstance(pipeline.features, FeatureConfig)
    stages = layers.stages(graph, network.config.pools, frames, lengths)
    if quantized is None:
        modules = [module for module in network.cnn if isinstance(module, ConvModule)]
        x = layers.convolutions(graph, modules, features, stages)
    else:
        x = int8.convolutions(graph, quantized, features, pipeline.features.mels, stages)
    states, last = layers.bidirectional_lstm(graph, network.blstm, x, stages[-1])
    valid = None if lengths is None else stages[-1].valid(graph)
    embedding = _pooled(graph, network, states, last, valid)
    assert isinstance(network.head, nn.Linear)
    return layers.output_layer(graph, network.head, embedding), embedding


def _pooled(graph: Graph, network: Network, states: str, last: str, valid: str | None) -> str:
    """The pooling by hand where it is one of ours, else traced."""
    pooling = network.pooling
    if type(pooling) in POOLINGS:
        hidden = None if valid is None else graph.op("Unsqueeze", valid, ints(2))
        return POOLINGS[type(pooling)](graph, pooling, States(states, last, hidden))
    examples = {states: torch.zeros(2, 7, 2 * network.config.lstm_cells_per_direction)}
    if valid is not None:
        examples[valid] = torch.arange(7) < torch.tensor([[7], [3]])
    return traced(graph, pooling, examples, outputs=1)[0]


def _traced_network(graph: Graph, pipeline: Pipeline, features: str) -> tuple[str, str]:
    config = pipeline.features
    assert isinstance(config, FeatureConfig)
    lengths = front_end.frame_lengths(graph, config, "samples")
    examples = {features: torch.zeros(2, config.clip_frames, config.mels), lengths: torch.tensor([100, 50])}
    scores, embedding = traced(graph, pipeline.network, examples, outputs=2)
    return scores, embedding


def _logit_scale(pipeline: Pipeline, classes: int) -> float:
    """The factor between scores and logits, which must be the only thing between them."""
    scores = torch.linspace(-1, 1, 4 * classes).reshape(4, classes)
    logits = pipeline.logits(scores)
    scale = float((logits * scores).sum() / scores.square().sum())
    if not torch.allclose(logits, scale * scores, atol=1e-5):
        raise ConfigError("export", got="a loss whose logits are not a multiple of the scores", expected="a multiple")
    return scale


def _quantized(pipeline: Pipeline, recordings: Waveforms) -> Quantized:
    faults, network = [], pipeline.network
    if isinstance(pipeline.features, FeatureConfig) and type(network) is not Network:
        expected = "the paper's network, or a system on Whisper's encoder"
        got, remedy = f"a {type(network).__name__}", "export in float32"
        faults.append(Fault("int8 export", got=got, expected=expected, remedy=remedy))
    if not recordings:
        remedy = "pass a manifest of training data"
        faults.append(Fault("int8 export", got="no recordings", expected="some to choose the steps on", remedy=remedy))
    if faults:
        raise ConfigError.of(faults)
    if not isinstance(pipeline.features, FeatureConfig):
        return encoder_network.quantized(pipeline, _batches(recordings, size=1))
    assert isinstance(network, Network)
    prepared = (pipeline.prepare(*batch) for batch in _batches(recordings))
    return quantize(network, ((features, lengths if pipeline.masked else None) for features, lengths in prepared))


def _card(pipeline: Pipeline, description: Description, precision: Precision) -> ModelCard:
    return ModelCard(
        labels=description.labels,
        sample_rate_hz=pipeline.features.sample_rate_hz,
        clip_seconds=pipeline.features.clip_seconds,
        masked=pipeline.masked,
        temperature=pipeline.temperature,
        unsure_below=description.unsure_below,
        precision=precision,
        opset=OPSET,
        version=__version__,
        license=description.license,
        features=asdict(pipeline.features),
        normalizer=asdict(pipeline.normalizer),
        provenance=description.provenance,
        measures=description.measures,
        speech_below=description.detection.get("speech_below"),
        outlier_above=description.detection.get("outlier_above"),
        adaptation=description.adaptation,
    )


def _batches(waveforms: Waveforms, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    """Zero-padded waveforms and their samples."""
    batches = []
    for start in range(0, len(waveforms), size):
        part = waveforms[start : start + size]
        samples = np.array([len(waveform) for waveform in part])
        padded = np.zeros((len(part), samples.max()), np.float32)
        for row, waveform in zip(padded, part, strict=True):
            row[: len(waveform)] = waveform
        batches.append((torch.from_numpy(padded), torch.from_numpy(samples)))
    return batches


def _quiet() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return options
