"""A system on Whisper's encoder in ONNX, from the waveform to scores and embedding.

All of them are the same chain: encoder, perhaps mean and deviation over time, a standardization, perhaps a back end of
LSTM and pooling, and an output layer. :class:`Chain` holds what a pipeline has of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from affekt.errors import ConfigError
from affekt.export.graph import encoder_operators
from affekt.export.graph import network_operators as layers
from affekt.export.graph.builder import Graph, ints
from affekt.export.graph.encoder_operators import EncoderProducts, StatesInGraph, float_products
from affekt.export.graph.encoder_quantization import quantized_products
from affekt.export.graph.network_operators import Floats, Stage, array
from affekt.export.graph.pooling_operators import POOLINGS, States
from affekt.export.graph.whisper_front_end import active_span, whisper_log_mel
from affekt.export.pipeline import Pipeline
from affekt.features import frontends
from affekt.nn.blocks import CosineHead
from affekt.nn.encoder import WhisperEncoder
from affekt.nn.encoder_classifier import MARGIN_STATES, SMALLEST_VARIANCE, EncoderClassifier
from affekt.nn.zoo.encoder_back_end import EncoderBackEnd, TunedEncoder
from affekt.nn.zoo.linear import ShrunkLinear
from affekt.recognition.output_layer import OutputLayer


@dataclass(frozen=True)
class Chain:
    """The parts of a system on the encoder.

    Attributes:
        encoder: in PyTorch.
        pooled: whether mean and deviation over time come first.
        trim_db: what of these is left out as quiet; see `nn.encoder_classifier.active_span`.
        pool: otherwise, the number of states that are averaged to one.
        mean, scale: the standardization (x - mean) / scale of the states or of the pooled vector.
        back_end: LSTM and pooling; None after `pooled`.
        head: the output layer.
    """

    encoder: WhisperEncoder
    pooled: bool
    trim_db: float
    pool: int
    mean: Floats
    scale: Floats
    back_end: EncoderBackEnd | None
    head: nn.Linear

    @classmethod
    def of(cls, pipeline: Pipeline) -> Chain:
        """The chain that a pipeline is.

        Raises:
            ConfigError: a network that is none.
        """
        network, normalizer = pipeline.network, pipeline.normalizer
        mean, scale = np.array(normalizer.mean, np.float32), np.array(normalizer.std, np.float32)
        features, encoder = pipeline.features, pipeline.encoder
        if isinstance(network, EncoderClassifier):
            statistics = array(network.mean), array(network.scale)
            return cls(network.encoder, True, network.trim_db, 1, *statistics, None, _linear(network.head))
        if isinstance(network, TunedEncoder):
            norm = network.norm  # (x - running mean) / sqrt(running variance + eps) * weight + bias
            scale = np.sqrt(array(norm.running_var) + np.float32(norm.eps)) / array(norm.weight)
            mean = array(norm.running_mean) - array(norm.bias) * scale
            return cls(network.encoder, False, 0.0, 1, mean, scale, network, _linear(network.head))
        if isinstance(features, frontends.EncoderStates) and encoder is not None:
            if isinstance(network, ShrunkLinear) and features.pooled:
                return cls(encoder, True, features.trim_db, 1, mean, scale, None, _linear(network.head))
            if isinstance(network, EncoderBackEnd) and not features.pooled:
                return cls(encoder, False, 0.0, features.pool, mean, scale, network, _linear(network.head))
        got = f"a {type(network).__name__} on {type(features).__name__}"
        raise ConfigError("export", got=got, expected="an encoder with a linear model, or with LSTM and pooling")


def _linear(head: nn.Module) -> nn.Linear:
    assert isinstance(head, nn.Linear)
    return head


def quantized(pipeline: Pipeline, batches: Sequence[tuple[Tensor, Tensor]]) -> EncoderProducts:
    """The encoder in whole numbers, chosen on batches of waveforms and samples.

    The first convolution stays in float32 where loudness is not evened out: its input has no known range then.
    """

    def recordings() -> list[Float[Tensor, "frames mels"]]:
        found = []
        for batch in batches:
            log_mel, lengths = pipeline.whisper_input(*batch)
            found += [row[:length] for row, length in zip(log_mel, lengths.tolist(), strict=True)]
        return found

    with torch.inference_mode():
        features = recordings()
    chain = Chain.of(pipeline)
    return quantized_products(chain.encoder, features, first=pipeline.whisper_features.top is not None)


def network(graph: Graph, pipeline: Pipeline, products: EncoderProducts | None) -> tuple[str, str]:
    """Scores and embedding of the graph's inputs `waveform` and `samples`; `products` in place of the encoder's own."""
    chain = Chain.of(pipeline)
    log_mel = whisper_log_mel(graph, pipeline.whisper_features, "waveform", "samples")
    x = encoder_operators.encoder(graph, products or float_products(chain.encoder), log_mel)
    if chain.pooled:
        inside = x.valid
        if chain.trim_db > 0:
            inside = active_span(graph, log_mel, x.count, x.lengths, chain.trim_db, MARGIN_STATES)
        pooled = encoder_operators.mean_and_deviation(graph, x.states, inside, SMALLEST_VARIANCE)
        embedding = _standardized(graph, chain, pooled)
    else:
        embedding = _back_end(graph, chain, encoder_operators.mean_of_windows(graph, x, chain.pool))
    return layers.output_layer(graph, chain.head, embedding), embedding


def _standardized(graph: Graph, chain: Chain, x: str) -> str:
    return graph.op("Mul", graph.op("Sub", x, chain.mean), np.float32(1) / chain.scale)


def _back_end(graph: Graph, chain: Chain, x: StatesInGraph) -> str:
    """LSTM and pooling of the standardized states."""
    back_end = chain.back_end
    assert back_end is not None
    states = graph.op("Where", x.valid, _standardized(graph, chain, x.states), np.float32(0))
    states, last = layers.bidirectional_lstm(graph, back_end.blstm, states, Stage(x.count, x.lengths))
    return POOLINGS[type(back_end.pooling)](graph, back_end.pooling, States(states, last, x.valid))


def detections(graph: Graph, pipeline: Pipeline, embedding: str) -> tuple[str, ...]:
    """The detectors' scores as outputs of the graph, [batch] each; their names."""
    detectors, names = pipeline.detectors, []
    if detectors is None:
        return ()
    if detectors.speech_weight is not None:
        weight = array(detectors.speech_weight)[:, None]
        score = graph.op("Add", graph.op("MatMul", embedding, weight), np.float32(detectors.speech_bias))
        graph.op("Squeeze", graph.op("Sigmoid", score), ints(1), name="speech")
        names.append("speech")
    if detectors.outlier_projection is not None and detectors.outlier_mean is not None:
        projection = array(detectors.outlier_projection)
        centered = graph.op("Sub", embedding, array(detectors.outlier_mean))
        squares = graph.op("ReduceSumSquare", centered, ints(1), keepdims=0)
        inside = graph.op("ReduceSumSquare", graph.op("MatMul", centered, projection), ints(1), keepdims=0)
        distance = graph.op("Sub", graph.op("Div", squares, np.float32(detectors.outlier_rest)), inside)
        graph.op("Mul", distance, np.float32(1 / len(projection)), name="outlier")
        names.append("outlier")
    return tuple(names)


def head_metadata(head: nn.Module, scale: float) -> dict[str, str]:
    """The output layer for whoever moves embeddings: logits = embedding W' + b, before the temperature.

    Args:
        head: the output layer; one of cosines has no such form, and gives no metadata.
        scale: between its scores and the logits.
    """
    if not isinstance(head, nn.Linear) or isinstance(head, CosineHead):
        return {}
    weight, bias = (array(part) * np.float32(scale) for part in (head.weight, head.bias))
    return OutputLayer(weight.astype(np.float64), bias.astype(np.float64)).to_metadata()
