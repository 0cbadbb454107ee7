"""The quantized convolutions as ONNX operators.

Activations follow a ReLU, so they are unsigned with zero point 0 and one scale per tensor. Weights are signed and
symmetric, with one scale per output channel and 7 bits: the sum of two products of 8 and 7 bits fits the 16 bits that
processors without VNNI use, so results are the same on every machine. Calibration: `affekt.export.graph.quantization`.

The first module and perhaps the last ones stay in float32, and so do the recurrent layer, attention and output layer.
Pooling by 2 x 2 is a convolution of each channel with four ones, which runs in a tenth of the time of the quantized
average.

At the edge, a pooling window averages only the values that exist. With windows of two this equals repeating the last
row (or column) once, which is done by copying rows of bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from affekt.export.graph.builder import Graph, ints
from affekt.export.graph.network_operators import Stage, average_pool, convolution, hide_padding
from affekt.export.graph.quantization import QuantizedModule
from affekt.nn.blocks import pooled_length

ZERO = np.uint8(0)


@dataclass(frozen=True)
class _Bytes:
    """A quantized activation, uint8 [batch, frames, mels, channels].

    Attributes:
        name: in the graph.
        scale: what one step is worth.
        mels, channels: its inner sizes.
    """

    name: str
    scale: float
    mels: int
    channels: int


def convolutions(
    graph: Graph, modules: Sequence[QuantizedModule], features: str, mels: int, lengths: Sequence[Stage]
) -> str:
    """Features -> float32 [batch, frames, mels, channels], as `network_operators.convolutions`."""
    x = _first_module(graph, modules[0], features, mels, lengths[0], lengths[1])
    last = max(index for index, module in enumerate(modules) if index == 0 or module.steps is not None)
    for index in range(1, last + 1):
        module, before, after = modules[index], lengths[index], lengths[index + 1]
        x = _convolution(graph, module, x)
        if module.pool == 2:
            assert module.pooled is not None
            x = _average_pool(graph, _repeat_edges(graph, x, before, after), module.pooled)
        x = _zero_past_end(graph, x, after)
    out = graph.op("DequantizeLinear", x.name, np.float32(x.scale), ZERO)
    out = graph.op("Transpose", out, perm=[0, 3, 1, 2])
    for module, stage in zip(modules[last + 1 :], lengths[last + 1 : -1], strict=True):
        out = average_pool(graph, convolution(graph, module.weight, module.bias, out), module.pool, stage)
    return graph.op("Transpose", out, perm=[0, 2, 3, 1])


def _first_module(
    graph: Graph, module: QuantizedModule, features: str, mels: int, before: Stage, after: Stage
) -> _Bytes:
    """Convolution, ReLU and pooling in float32, then bytes."""
    weight, bias, pool, step = module.weight, module.bias, module.pool, module.pooled
    kernel = weight.shape[2]
    half = kernel // 2
    assert step is not None
    x, pads, strides = graph.op("Unsqueeze", features, ints(1)), [half, half] * 2, [1, 1]
    if before.lengths is not None:
        x, pads, strides = _rows(graph, features, mels, kernel, before, after, pool), [0, half] * 2, [kernel, 1]
    x = graph.op("Conv", x, weight, bias, kernel_shape=[kernel, kernel], pads=pads, strides=strides)
    x = graph.op("Relu", x)
    if pool > 1:
        x = graph.op("AveragePool", x, kernel_shape=[pool, pool], strides=[pool, pool], ceil_mode=1)
    x = graph.op("QuantizeLinear", x, np.float32(step), ZERO)
    x = graph.op("Transpose", x, perm=[0, 2, 3, 1])
    return _zero_past_end(graph, _Bytes(x, step, pooled_length(mels, pool), len(bias)), after)


def _rows(graph: Graph, features: str, mels: int, kernel: int, before: Stage, after: Stage, pool: int) -> str:
    """Each frame between its neighbors, [batch, 1, kernel * frames, mels], the last valid one repeated.

    A convolution that strides from triple to triple repeats its last valid row too, which masked pooling needs.
    """
    padded = graph.op("Pad", hide_padding(graph, features, before), ints(0, kernel // 2, 0, 0, kernel // 2, 0))
    shifted = [
        graph.op("Slice", padded, ints(shift), graph.op("Add", before.frames, ints(shift)), ints(1))
        for shift in range(kernel)
    ]
    rows = graph.op("Concat", *shifted, axis=2)
    if pool == 2:
        rows = _repeat_last_row(graph, rows, kernel * mels, before, after)
    return graph.op("Unsqueeze", graph.op("Reshape", rows, ints(0, -1, mels)), ints(1))


def _convolution(graph: Graph, module: QuantizedModule, x: _Bytes) -> _Bytes:
    """Convolution with the normalization folded in; rounding to bytes that start at 0 is the ReLU."""
    kernel, steps, scale = module.weight.shape[2], module.steps, module.activation or module.pooled
    assert steps is not None
    assert scale is not None
    convolved = graph.op(
        "QLinearConv",
        graph.op("Transpose", x.name, perm=[0, 3, 1, 2]),
        np.float32(x.scale),
        ZERO,
        module.weight.astype(np.int8),
        steps,
        np.zeros(len(steps), np.int8),
        np.float32(scale),
        ZERO,
        np.round(module.bias / (steps * x.scale)).astype(np.int32),
        kernel_shape=[kernel, kernel],
        pads=[kernel // 2] * 4,
    )
    return _Bytes(graph.op("Transpose", convolved, perm=[0, 2, 3, 1]), scale, x.mels, len(steps))


def _average_pool(graph: Graph, x: _Bytes, scale: float) -> _Bytes:
    """Mean of 2 x 2 (both sizes are even by now): four ones, each worth a quarter."""
    pooled = graph.op(
        "QLinearConv",
        graph.op("Transpose", x.name, perm=[0, 3, 1, 2]),
        np.float32(x.scale),
        ZERO,
        np.ones((x.channels, 1, 2, 2), np.int8),
        np.float32(0.25),
        np.int8(0),
        np.float32(scale),
        ZERO,
        kernel_shape=[2, 2],
        strides=[2, 2],
        group=x.channels,
    )
    return _Bytes(graph.op("Transpose", pooled, perm=[0, 2, 3, 1]), scale, pooled_length(x.mels, 2), x.channels)


def _repeat_edges(graph: Graph, x: _Bytes, before: Stage, after: Stage) -> _Bytes:
    """The last valid frame and the last mel band repeated, where windows of two would reach past them."""
    name, odd_frames = x.name, 0
    if isinstance(before.frames, str):
        row = x.mels * x.channels
        rows = _repeat_last_row(graph, graph.op("Reshape", name, ints(0, 0, row)), row, before, after)
        name = graph.op("Reshape", rows, ints(0, 0, x.mels, x.channels))
    else:
        odd_frames = int(before.frames[0]) % 2
    if odd_frames or x.mels % 2:
        name = graph.op("Pad", name, ints(0, 0, 0, 0, 0, odd_frames, x.mels % 2, 0), mode="edge")
    return replace(x, name=name)


def _repeat_last_row(graph: Graph, x: str, row: int, before: Stage, after: Stage) -> str:
    """[batch, frames, row] -> [batch, 2 frames after, row]; rows past an utterance's end copy its last valid one."""
    doubled = Stage(graph.op("Mul", after.frames, ints(2)), None)
    assert before.lengths is not None
    time = graph.op("Min", doubled.time(graph), graph.op("Sub", before.lengths, np.int64(1)))
    start = graph.op("Mul", graph.count(graph.size(x, 0)), before.frames)
    index = graph.op("Add", time, graph.op("Unsqueeze", start, ints(1)))
    return graph.op("Gather", graph.op("Reshape", x, ints(-1, row)), index, axis=0)


def _zero_past_end(graph: Graph, x: _Bytes, stage: Stage) -> _Bytes:
    """Set frames past the utterance's end to zero in masked mode, as the next convolution must see them."""
    if stage.lengths is None:
        return x
    row = x.mels * x.channels
    valid = graph.op("Reshape", stage.valid(graph), ints(-1, 1))
    rows = graph.op("Where", valid, graph.op("Reshape", x.name, ints(-1, row)), ZERO)
    shape = graph.op("Concat", ints(-1), stage.frames, ints(x.mels, x.channels), axis=0)
    return replace(x, name=graph.op("Reshape", rows, shape))
