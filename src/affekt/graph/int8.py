"""The convolutions in 8 bits: static quantisation, calibrated on recordings.

Activations follow a ReLU, so they are unsigned with zero at 0; each tensor has one scale, chosen to lose the least
squared error on the calibration set. Weights are signed, symmetric, with one scale per output channel and 7 bits: two
products of 8 x 7 bits fit the 16-bit sums that processors without VNNI form, so every machine computes the same.

The first module stays in float32: it has one input channel, so it is cheap, and its input sets the precision of all
that follows. The recurrent layer, attention and output layer stay in float32 too. Pooling by 2 x 2 is a convolution of
each channel with four ones, which runs in a tenth of the time of the quantised average.

Rows past the end: a window at the edge averages only what exists. With windows of two that is the same as repeating the
last row (or column) once, which here is a copy of rows of bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from affekt.errors import ConfigError, Fault
from affekt.graph.builder import Graph, ints
from affekt.graph.network import Stage, folded_convolution, hide_padding
from affekt.nn import Network
from affekt.nn.blocks import ConvModule, frame_mask, pooled_length

ZERO = np.uint8(0)
LARGEST_ACTIVATION, LARGEST_WEIGHT = 255, 63
SAMPLES_PER_TENSOR = 200_000


@dataclass(frozen=True)
class Scales:
    """Quantisation steps of one module's activations: after the ReLU, and after the pooling."""

    activation: float
    pooled: float


def calibrate(
    network: Network, batches: Iterable[tuple[Float[Tensor, "batch frames mels"], Tensor | None]], seed: int = 0
) -> list[Scales]:
    """The best scales for what the network's modules put out for these features (and their valid frames)."""
    generator = np.random.default_rng(seed)
    seen: list[tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]] = [([], []) for _ in network.cnn]
    for features, lengths in batches:
        for module_seen, outputs in zip(seen, _module_outputs(network, features, lengths), strict=True):
            for values, output in zip(module_seen, outputs, strict=True):
                flat = output.flatten().numpy()
                values.append(flat[generator.integers(0, len(flat), min(len(flat), SAMPLES_PER_TENSOR // 8))])
    if not seen[0][0]:
        raise ConfigError("int8 export", got="no recordings to calibrate on", expected="at least one")
    return [Scales(*(best_scale(np.concatenate(values)) for values in module_seen)) for module_seen in seen]


@torch.no_grad()
def _module_outputs(network: Network, features: Tensor, lengths: Tensor | None) -> list[tuple[Tensor, Tensor]]:
    mask = None if lengths is None else frame_mask(lengths, features.shape[1])
    x = (features if mask is None else features * mask[..., None])[:, None]
    outputs = []
    for module in network.cnn:
        assert isinstance(module, ConvModule)
        activation = F.relu(module.norm(module.convolution(x)))
        x, mask = module(x, mask)
        outputs.append((activation, x))
    return outputs


def best_scale(values: NDArray[np.float32]) -> float:
    """The step between 0 and 255 steps that loses the least squared error on these values, all at least 0.

    >>> round(255 * best_scale(np.linspace(0, 10, 1000, dtype=np.float32)), 2)
    10.0
    """
    largest = float(values.max(initial=1e-6))
    scales = largest / LARGEST_ACTIVATION * np.geomspace(1.0, 1 / 16, 33)

    def squared_error(scale: float) -> float:
        return float(np.square(np.minimum(np.round(values / scale), LARGEST_ACTIVATION) * scale - values).sum())

    return min(map(float, scales), key=squared_error)


@dataclass(frozen=True)
class _Bytes:
    """A quantised tensor uint8 [batch, frames, mels, channels] on its way through the modules.

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
    graph: Graph,
    modules: Sequence[ConvModule],
    scales: Sequence[Scales],
    features: str,
    mels: int,
    lengths: Sequence[Stage],
) -> str:
    """As :func:`affekt.graph.network.convolutions`: features -> float32 [batch, frames, mels, channels]."""
    _check_pools(modules)
    x = _first_module(graph, modules[0], scales[0], features, mels, lengths[0], lengths[1])
    for index in range(1, len(modules)):
        module, before, after = modules[index], lengths[index], lengths[index + 1]
        x = _convolution(graph, module, scales[index], x)
        if module.pool == 2:
            x = _average_pool(graph, _repeat_edges(graph, x, before, after), scales[index].pooled)
        x = _zero_past_end(graph, x, after)
    return graph.op("DequantizeLinear", x.name, np.float32(x.scale), ZERO)


def _check_pools(modules: Sequence[ConvModule]) -> None:
    faults = [
        Fault("int8 export", got=f"pooling by {module.pool}", expected="1 or 2", remedy="export in float32")
        for module in modules
        if module.pool not in (1, 2)
    ]
    if faults:
        raise ConfigError.of(faults)


def _first_module(
    graph: Graph, module: ConvModule, scales: Scales, features: str, mels: int, before: Stage, after: Stage
) -> _Bytes:
    """Convolution, ReLU and pooling in float32, then bytes."""
    weight, bias = folded_convolution(module)
    kernel, pool = weight.shape[2], module.pool
    half = kernel // 2
    x, pads, strides = graph.op("Unsqueeze", features, ints(1)), [half, half] * 2, [1, 1]
    if before.lengths is not None:
        x, pads, strides = _rows(graph, features, mels, kernel, before, after, pool), [0, half] * 2, [kernel, 1]
    x = graph.op("Conv", x, weight, bias, kernel_shape=[kernel, kernel], pads=pads, strides=strides)
    x = graph.op("Relu", x)
    if pool > 1:
        x = graph.op("AveragePool", x, kernel_shape=[pool, pool], strides=[pool, pool], ceil_mode=1)
    x = graph.op("QuantizeLinear", x, np.float32(scales.pooled), ZERO)
    x = graph.op("Transpose", x, perm=[0, 2, 3, 1])
    return _zero_past_end(graph, _Bytes(x, scales.pooled, pooled_length(mels, pool), len(bias)), after)


def _rows(graph: Graph, features: str, mels: int, kernel: int, before: Stage, after: Stage, pool: int) -> str:
    """Each frame between its neighbours, [batch, 1, kernel * frames, mels], the last valid one repeated.

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


def _convolution(graph: Graph, module: ConvModule, scales: Scales, x: _Bytes) -> _Bytes:
    """Convolution with the normalisation folded in; rounding to bytes that start at 0 is the ReLU."""
    weight, bias = folded_convolution(module)
    steps = np.maximum(np.abs(weight).max((1, 2, 3)) / LARGEST_WEIGHT, 1e-12)
    quantised = np.round(weight / steps[:, None, None, None]).astype(np.int8)
    scale = scales.activation if module.pool > 1 else scales.pooled
    convolved = graph.op(
        "QLinearConv",
        graph.op("Transpose", x.name, perm=[0, 3, 1, 2]),
        np.float32(x.scale),
        ZERO,
        quantised,
        np.float32(steps),
        np.zeros(len(steps), np.int8),
        np.float32(scale),
        ZERO,
        np.round(bias / (steps * x.scale)).astype(np.int32),
        kernel_shape=weight.shape[2:],
        pads=[weight.shape[2] // 2] * 4,
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
    """In masked mode, zeros for the frames that are not the utterance's, as the next convolution must see them."""
    if stage.lengths is None:
        return x
    row = x.mels * x.channels
    valid = graph.op("Reshape", stage.valid(graph), ints(-1, 1))
    rows = graph.op("Where", valid, graph.op("Reshape", x.name, ints(-1, row)), ZERO)
    shape = graph.op("Concat", ints(-1), stage.frames, ints(x.mels, x.channels), axis=0)
    return replace(x, name=graph.op("Reshape", rows, shape))
