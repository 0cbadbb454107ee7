"""The paper's network in ONNX, in float32: convolution modules, bidirectional LSTM, output layer.

Masked networks follow `nn.blocks` exactly: between modules, frames past an utterance's end are zero, and a pooling
window at its edge averages only the valid frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor, nn

from affekt.export.graph.builder import Graph, ints
from affekt.nn.blocks import ConvModule, CosineHead

Floats = NDArray[np.float32]


def array(tensor: Tensor) -> Floats:
    """A parameter as a numpy array."""
    return tensor.detach().cpu().float().numpy()


def folded_convolution(module: ConvModule) -> tuple[Floats, Floats]:
    """Weights [out, in, kernel, kernel] and bias of a convolution with its batch normalization folded in.

    gamma (w * x + b - mean) / sqrt(variance + eps) + beta = (scale w) * x + (b - mean) scale + beta.
    """
    norm, convolution = module.norm, module.convolution
    scale = array(norm.weight) / np.sqrt(array(norm.running_var) + norm.eps)
    assert convolution.bias is not None
    bias = (array(convolution.bias) - array(norm.running_mean)) * scale + array(norm.bias)
    return array(convolution.weight) * scale[:, None, None, None], bias


@dataclass(frozen=True)
class Stage:
    """Lengths of a batch before a module, or after the last one.

    Attributes:
        frames: the common length: a vector of one, by name or (in padded mode) by value.
        lengths: name of each utterance's valid frames, int64 [batch, 1]; None in padded mode.
    """

    frames: str | NDArray[np.int64]
    lengths: str | None

    def time(self, graph: Graph) -> str:
        """0, 1, ... frames - 1."""
        return graph.count(self.frames)

    def valid(self, graph: Graph) -> str:
        """True where a frame belongs to its utterance: bool [batch, frames]."""
        assert self.lengths is not None
        return graph.op("Less", self.time(graph), self.lengths)


def stages(graph: Graph, pools: Sequence[int], frames: str | NDArray[np.int64], lengths: str | None) -> list[Stage]:
    """The lengths before each module and after the last: ceil(length / product of the pools so far)."""
    divisors = np.cumprod([1, *pools])
    if not isinstance(frames, str):
        return [Stage(-(-frames // divisor), None) for divisor in divisors]
    assert lengths is not None
    of_utterances, of_batch = (
        graph.ops(
            "Split",
            graph.op("Div", graph.op("Add", length, divisors - 1), divisors),
            axis=-1,
            num_outputs=len(divisors),
            results=len(divisors),
        )
        for length in (graph.op("Unsqueeze", lengths, ints(1)), frames)
    )
    return [Stage(batch, utterances) for batch, utterances in zip(of_batch, of_utterances, strict=True)]


def convolutions(graph: Graph, modules: Sequence[ConvModule], features: str, lengths: list[Stage]) -> str:
    """All modules: features [batch, frames, mels] -> [batch, frames, mels, channels]."""
    x = graph.op("Unsqueeze", hide_padding(graph, features, lengths[0]), ints(1))
    for module, stage in zip(modules, lengths[:-1], strict=True):
        x = average_pool(graph, convolution(graph, *folded_convolution(module), x), module.pool, stage)
    return graph.op("Transpose", x, perm=[0, 2, 3, 1])


def hide_padding(graph: Graph, features: str, stage: Stage) -> str:
    """Features with zeros past each utterance's end, in masked mode."""
    if stage.lengths is None:
        return features
    return graph.op("Where", graph.op("Unsqueeze", stage.valid(graph), ints(2)), features, np.float32(0))


def convolution(graph: Graph, weight: Floats, bias: Floats, x: str) -> str:
    """Convolution and ReLU: [batch, channels, frames, mels]."""
    half = weight.shape[2] // 2
    convolved = graph.op("Conv", x, weight, bias, kernel_shape=weight.shape[2:], pads=[half] * 4)
    return graph.op("Relu", convolved)


def average_pool(graph: Graph, x: str, pool: int, stage: Stage) -> str:
    """Average-pool as `nn.blocks.average_pool` does: masked windows are divided by the share of them that is valid."""
    window: dict[str, Any] = {"kernel_shape": [pool, pool], "strides": [pool, pool], "ceil_mode": 1}
    if stage.lengths is None:
        return graph.op("AveragePool", x, **window) if pool > 1 else x
    valid = graph.op("Cast", stage.valid(graph), to=TensorProto.FLOAT)
    x = graph.op("Mul", x, graph.op("Unsqueeze", valid, ints(1, 3)))
    if pool == 1:
        return x
    line: dict[str, Any] = {"kernel_shape": [pool], "strides": [pool], "ceil_mode": 1}
    share = graph.op("AveragePool", graph.op("Unsqueeze", valid, ints(1)), **line)
    share = graph.op("Unsqueeze", graph.op("Max", share, np.float32(1 / pool)), ints(3))
    return graph.op("Div", graph.op("AveragePool", x, **window), share)


def bidirectional_lstm(graph: Graph, lstm: nn.LSTM, x: str, stage: Stage) -> tuple[str, str]:
    """States [batch, frames, features] and the last states of both directions [batch, features]."""
    cells, inputs = lstm.hidden_size, lstm.input_size
    sequence = graph.op("Transpose", graph.op("Reshape", x, ints(0, 0, inputs)), perm=[1, 0, 2])
    steps = ""
    if stage.lengths is not None:
        steps = graph.op("Cast", graph.op("Squeeze", stage.lengths, ints(1)), to=TensorProto.INT32)
    states, last, _ = graph.ops(
        "LSTM",
        sequence,
        _directions(lstm, "weight_ih_l0"),
        _directions(lstm, "weight_hh_l0"),
        np.concatenate([_directions(lstm, "bias_ih_l0"), _directions(lstm, "bias_hh_l0")], axis=1),
        steps,
        results=3,
        direction="bidirectional",
        hidden_size=cells,
    )
    states = graph.op("Transpose", states, perm=[2, 0, 1, 3])  # batch frames directions cells
    states = graph.op("Reshape", states, ints(0, 0, 2 * cells))
    last = graph.op("Reshape", graph.op("Transpose", last, perm=[1, 0, 2]), ints(0, 2 * cells))
    return states, last


def _directions(lstm: nn.LSTM, name: str) -> Floats:
    """A parameter of both directions, its gates in ONNX's order (input, output, forget, cell)."""
    both = []
    for suffix in ("", "_reverse"):
        gate_in, gate_forget, gate_cell, gate_out = np.split(array(getattr(lstm, name + suffix)), 4)
        both.append(np.concatenate([gate_in, gate_out, gate_forget, gate_cell]))
    return np.stack(both)


def output_layer(graph: Graph, head: nn.Linear, embedding: str) -> str:
    """Scores: W f + b, or the cosines of f and the rows of W."""
    weight = array(head.weight)
    if isinstance(head, CosineHead):
        norm = graph.op("ReduceL2", embedding, ints(1), keepdims=1)
        embedding = graph.op("Div", embedding, graph.op("Max", norm, np.float32(1e-6)))
        directions = weight / np.maximum(np.linalg.norm(weight, axis=1, keepdims=True), 1e-6)
        return graph.op("MatMul", embedding, directions.T)
    return graph.op("Add", graph.op("MatMul", embedding, weight.T), array(head.bias))
