"""Whisper's encoder in ONNX, in float32 or with 8-bit products.

Everything that takes long is a product of a [frames, inputs] matrix with constant weights: the two convolutions (of
frames unfolded side by side), the projections of attention and the two linear maps of a layer. A :class:`Product` knows
how to write itself in either precision, so the graph is the same for both.

In 8 bits, inputs are unsigned with one step and one zero point, weights are signed with 7 bits and a step for each
output (`int8.py` says why 7). `MatMulIntegerToFloat` multiplies them and gives float32, so attention, norms, GELU and
the residual sum stay in float32. Steps and zero points are constants: no number depends on the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto
from torch import nn

from affekt.export.graph.builder import ONNXRUNTIME, Graph, ints
from affekt.export.graph.network_operators import Floats, array
from affekt.export.graph.whisper_front_end import LogMelInGraph, states_of
from affekt.nn.encoder import Layer, WhisperEncoder

NORM_EPSILON = 1e-5
LOWEST = np.float32(-1e9)


@dataclass(frozen=True)
class Product:
    """x W + b, of float32 [..., inputs].

    Attributes:
        weight: float32 [inputs, outputs]; with `steps` the whole numbers that multiply them.
        bias: float32 [outputs].
        steps: float32 [outputs]; None: computed in float32.
        step, zero: with `steps`, the step and the zero point of the inputs' bytes.
        scale: float32 [inputs], what the inputs are multiplied by before they become bytes; None: nothing.
    """

    weight: Floats
    bias: Floats
    steps: Floats | None = None
    step: float = 1.0
    zero: int = 0
    scale: Floats | None = None

    @property
    def padding(self) -> np.generic:
        """Zero, as the product's inputs hold it."""
        return np.float32(0) if self.steps is None else np.uint8(self.zero)

    def enter(self, graph: Graph, x: str) -> str:
        """The inputs as :meth:`apply` wants them: bytes, or as they are."""
        if self.steps is None:
            return x
        if self.scale is not None:
            x = graph.op("Mul", x, self.scale)
        return graph.op("QuantizeLinear", x, np.float32(self.step), np.uint8(self.zero))

    def apply(self, graph: Graph, x: str) -> str:
        """float32 [..., outputs]."""
        if self.steps is None:
            return graph.op("Add", graph.op("MatMul", x, self.weight), self.bias)
        return graph.op(
            "MatMulIntegerToFloat",
            x,
            self.weight.astype(np.int8),
            np.float32(self.step),
            self.steps,
            np.uint8(self.zero),
            np.zeros(len(self.steps), np.int8),
            self.bias,
            domain=ONNXRUNTIME,
        )

    def __call__(self, graph: Graph, x: str) -> str:
        return self.apply(graph, self.enter(graph, x))


@dataclass(frozen=True)
class LayerProducts:
    """A transformer layer: its products, and the weight of the norm before each half.

    A norm's bias is part of the products that follow it: (x + b) W + c = x W + (b W + c).

    Attributes:
        attention_norm, final_norm: float32 [width].
        projections: query (divided by the square root of the head's width), key and value side by side.
        mixing, widening, narrowing: the attention's output projection, and the two linear maps.
    """

    attention_norm: Floats
    projections: Product
    mixing: Product
    final_norm: Floats
    widening: Product
    narrowing: Product


@dataclass(frozen=True)
class EncoderProducts:
    """All of the encoder's numbers, ready to be written.

    Attributes:
        conv1, conv2: of three frames side by side, oldest first.
        positions: float32 [states, width].
        heads: of attention.
    """

    conv1: Product
    conv2: Product
    positions: Floats
    layers: tuple[LayerProducts, ...]
    heads: int


def float_products(encoder: WhisperEncoder) -> EncoderProducts:
    """The encoder's numbers in float32."""
    return EncoderProducts(
        _unfolded(encoder.conv1),
        _unfolded(encoder.conv2),
        array(encoder.embed_positions.weight),
        tuple(_layer_products(layer) for layer in encoder.layers if isinstance(layer, Layer)),
        encoder.shape.heads,
    )


def _unfolded(convolution: nn.Conv1d) -> Product:
    """A convolution as a product with its frames side by side, oldest first."""
    weight = array(convolution.weight).transpose(2, 1, 0).reshape(-1, convolution.out_channels)
    return Product(np.ascontiguousarray(weight), _bias(convolution))


def _bias(module: object) -> Floats:
    return array(module.bias)  # type: ignore[attr-defined]


def _layer_products(layer: Layer) -> LayerProducts:
    attention = layer.self_attn
    scale = np.float32((attention.q_proj.in_features // attention.heads) ** -0.5)
    shift, final_shift = _bias(layer.self_attn_layer_norm), _bias(layer.final_layer_norm)
    query, key, value = (_product(part, shift) for part in (attention.q_proj, attention.k_proj, attention.v_proj))
    return LayerProducts(
        array(layer.self_attn_layer_norm.weight),
        Product(
            np.concatenate([query.weight * scale, key.weight, value.weight], axis=1),
            np.concatenate([query.bias * scale, key.bias, value.bias]),
        ),
        _product(attention.out_proj),
        array(layer.final_layer_norm.weight),
        _product(layer.fc1, final_shift),
        _product(layer.fc2),
    )


def _product(linear: nn.Linear, shift: Floats | None = None) -> Product:
    """A linear map of inputs that still lack `shift`."""
    weight = array(linear.weight).T.copy()
    bias = np.zeros(linear.out_features, np.float32) if linear.bias is None else array(linear.bias)
    return Product(weight, bias if shift is None else bias + shift @ weight)


@dataclass(frozen=True)
class StatesInGraph:
    """States, every 20 ms or of longer windows, as names in the graph.

    Attributes:
        states: float32 [batch, states, width].
        count: int64 [1], states of the longest recording.
        lengths: int64 [batch, 1], states of each recording.
        valid: bool [batch, states, 1].
    """

    states: str
    count: str
    lengths: str
    valid: str


def encoder(graph: Graph, products: EncoderProducts, log_mel: LogMelInGraph) -> StatesInGraph:
    """Stem and layers, from Whisper's log-mel."""
    count, lengths = states_of(graph, log_mel)
    valid = graph.op("Unsqueeze", graph.op("Less", graph.count(count), lengths), ints(2))
    x = _stem(graph, products, log_mel, count)
    positions = graph.op("Slice", _compact(graph, products.positions), ints(0), count, ints(0))
    x = graph.op("Add", x, positions)
    outside = graph.op("Unsqueeze", graph.op("Cast", valid, to=TensorProto.FLOAT), ints(1))
    outside = graph.op("Transpose", graph.op("Sub", outside, np.float32(1)), perm=[0, 1, 3, 2])
    hidden = graph.op("Mul", outside, np.float32(-LOWEST))  # [batch, 1, 1, states]
    for layer in products.layers:
        x = _layer(graph, layer, products.heads, x, hidden)
    return StatesInGraph(x, count, lengths, valid)


def _compact(graph: Graph, table: Floats) -> str:
    """A constant, kept in 16 bits where that loses nothing."""
    half = table.astype(np.float16)
    if not np.array_equal(half.astype(np.float32), table):
        return graph.op("Identity", table)
    return graph.op("Cast", half, to=TensorProto.FLOAT)


def _stem(graph: Graph, products: EncoderProducts, log_mel: LogMelInGraph, count: str) -> str:
    """Both convolutions with their GELU: [batch, states, width]."""
    first, second = products.conv1, products.conv2
    x = first.enter(graph, log_mel.features)
    padded = graph.op("Pad", x, ints(0, 1, 0, 0, 1, 0), first.padding)
    shifted = [
        graph.op("Slice", padded, ints(shift), graph.op("Add", log_mel.frames, ints(shift)), ints(1))
        for shift in range(3)
    ]
    x = gelu(graph, first.apply(graph, graph.op("Concat", *shifted, axis=2)))
    x = second.enter(graph, x)
    x = graph.op("Where", log_mel.valid, x, second.padding)
    return gelu(graph, second.apply(graph, _unfolded_by_two(graph, x, second, log_mel.frames, count)))


def _unfolded_by_two(graph: Graph, x: str, product: Product, frames: str, count: str) -> str:
    """Frames 2t - 1, 2t and 2t + 1 side by side: [batch, states, 3 channels], zero outside the recording."""
    channels = len(product.weight) // 3
    even = graph.op("Mul", count, ints(2))
    after = graph.op("Sub", even, frames)  # 0 or 1 frames of zeros
    padded = graph.op("Pad", x, graph.op("Concat", ints(0, 1, 0, 0), after, ints(0), axis=0), product.padding)
    earlier = graph.op("Slice", padded, ints(0), even, ints(1))  # frames 2t - 1 and 2t
    later = graph.op("Slice", padded, ints(1), graph.op("Add", even, ints(1)), ints(1))  # frames 2t and 2t + 1
    earlier, later = (graph.op("Reshape", part, ints(0, -1, 2 * channels)) for part in (earlier, later))
    return graph.op("Concat", earlier, graph.op("Slice", later, ints(channels), ints(2 * channels), ints(2)), axis=2)


def gelu(graph: Graph, x: str) -> str:
    """x Phi(x), the exact form."""
    return graph.op("Gelu", x, domain=ONNXRUNTIME)


def layer_norm(graph: Graph, x: str, weight: Floats) -> str:
    """(x - mean) / sqrt(variance + eps) * weight over the last axis; its bias is part of the product that follows.

    Instance normalization of [batch, states, width] is that of each state over its width, and onnxruntime computes it
    in a tenth of the time of its layer normalization.
    """
    ones = graph.op("Expand", np.float32(1), graph.size(x, 1))
    zeros = graph.op("Expand", np.float32(0), graph.size(x, 1))
    normalized = graph.op("InstanceNormalization", x, ones, zeros, epsilon=NORM_EPSILON)
    return graph.op("Mul", normalized, weight)


def _layer(graph: Graph, layer: LayerProducts, heads: int, x: str, hidden: str) -> str:
    attended = _attention(graph, layer, heads, layer_norm(graph, x, layer.attention_norm), hidden)
    x = graph.op("Add", x, layer.mixing(graph, attended))
    widened = gelu(graph, layer.widening(graph, layer_norm(graph, x, layer.final_norm)))
    return graph.op("Add", x, layer.narrowing(graph, widened))


def _attention(graph: Graph, layer: LayerProducts, heads: int, x: str, hidden: str) -> str:
    """softmax(Q K') V, heads side by side: [batch, states, width]."""
    width = len(layer.mixing.weight)
    projected = graph.op("Reshape", layer.projections(graph, x), ints(0, 0, 3 * heads, width // heads))
    query, key, value = graph.ops("Split", projected, axis=2, num_outputs=3, results=3)
    query, value = (graph.op("Transpose", part, perm=[0, 2, 1, 3]) for part in (query, value))
    scores = graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 2, 3, 1]))
    weights = graph.op("Softmax", graph.op("Add", scores, hidden), axis=-1)
    attended = graph.op("Transpose", graph.op("MatMul", weights, value), perm=[0, 2, 1, 3])
    return graph.op("Reshape", attended, ints(0, 0, width))


def mean_of_windows(graph: Graph, x: StatesInGraph, pool: int) -> StatesInGraph:
    """Mean over windows of `pool` states, as `features.frontends.encoder_states.mean_of_windows`."""
    if pool == 1:
        return x
    count = graph.op("Div", graph.op("Add", x.count, ints(pool - 1)), ints(pool))
    lengths = graph.op("Div", graph.op("Add", x.lengths, np.int64(pool - 1)), np.int64(pool))
    missing = graph.op("Sub", graph.op("Mul", count, ints(pool)), x.count)
    pads = graph.op("Concat", ints(0, 0, 0, 0), missing, ints(0), axis=0)
    sums = []
    for part in (graph.op("Where", x.valid, x.states, np.float32(0)), graph.op("Cast", x.valid, to=TensorProto.FLOAT)):
        padded = graph.op("Pad", part, pads)
        shape = graph.op("Concat", ints(0), count, ints(pool), graph.size(part, 2), axis=0)
        sums.append(graph.op("ReduceSum", graph.op("Reshape", padded, shape), ints(2), keepdims=0))
    states = graph.op("Div", sums[0], graph.op("Max", sums[1], np.float32(1)))
    valid = graph.op("Unsqueeze", graph.op("Less", graph.count(count), lengths), ints(2))
    return StatesInGraph(states, count, lengths, valid)


def mean_and_deviation(graph: Graph, states: str, inside: str, smallest_variance: float) -> str:
    """Mean and deviation of the states inside, side by side: [batch, 2 width]; `inside` is bool [batch, states, 1]."""
    weights = graph.op("Transpose", graph.op("Cast", inside, to=TensorProto.FLOAT), perm=[0, 2, 1])
    weights = graph.op("Div", weights, graph.op("ReduceSum", weights, ints(2), keepdims=1))
    mean = graph.op("MatMul", weights, states)
    centered = graph.op("Sub", states, mean)
    variance = graph.op("MatMul", weights, graph.op("Mul", centered, centered))
    deviation = graph.op("Sqrt", graph.op("Add", variance, np.float32(smallest_variance)))
    return graph.op("Flatten", graph.op("Concat", mean, deviation, axis=2), axis=1)
