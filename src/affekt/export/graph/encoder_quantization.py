"""The encoder's products in whole numbers: steps, zero points, weights and biases, chosen on recordings.

The same choices as for the convolutions (:mod:`affekt.export.graph.quantization`): ranges are the largest values seen,
weights are rounded together (GPTQ), and each bias makes up for the error's mean. Products are treated in turn, so each
sees the rounded results of those before it. Two choices differ:

* A few channels of a transformer's activations are much larger than the others, and one step must serve all. Dividing
  channel c by s_c = (largest |x_c|)^0.8 / (largest |W_c|)^0.2 and multiplying row c of the weights by it changes
  nothing in exact arithmetic and evens the channels out (Xiao et al. 2023, "SmoothQuant", eq. 4; of alpha = 0.35, 0.5,
  0.65 and 0.8 the last gave the smallest error of the embedding). After a norm the division is part of the norm's
  weight, after attention of the value projection; after a GELU it is a step of its own.
* Weights have up to 8 bits. Processors without VNNI add two products of an unsigned and a signed byte in 16 bits, which
  holds where 255 (|w_1| + |w_2|) <= 32767 for the positive and for the negative ones of each pair of rows 2k, 2k + 1.
  So not each weight has to stay within 63, but the sums over pairs within 128. Nearly all pairs do anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from affekt.errors import ConfigError
from affekt.export.graph.encoder_operators import NORM_EPSILON, EncoderProducts, LayerProducts, Product, float_products
from affekt.export.graph.network_operators import Floats
from affekt.export.graph.quantization import DAMPING, LARGEST_ACTIVATION
from affekt.nn.encoder import WhisperEncoder

SMALLEST = 1e-6
LARGEST_WEIGHT, LARGEST_PAIR = 127, 128
ALPHA = 0.8
"""How much of the channels' differences goes from the inputs into the weights."""
BLOCK = 128
"""Columns that are rounded before the error of all of them is spread over the rest."""


@dataclass
class _Streams:
    """All recordings between two products, one after the other: as they should be, and after rounding.

    Attributes:
        plain, rounded: float32 [all frames, channels].
        lengths: frames of each recording.
    """

    plain: Tensor
    rounded: Tensor
    lengths: list[int]

    def map(self, function: Callable[[Tensor], Tensor]) -> _Streams:
        """A function of single frames."""
        return replace(self, plain=function(self.plain), rounded=function(self.rounded))

    def map_recordings(self, function: Callable[[Tensor], Tensor]) -> _Streams:
        """A function of whole recordings, [frames, channels] each; it may change their lengths."""
        plain, rounded = ([function(part) for part in x.split(self.lengths)] for x in (self.plain, self.rounded))
        return _Streams(torch.cat(plain), torch.cat(rounded), [len(part) for part in plain])

    def plus(self, other: _Streams) -> _Streams:
        """The sum of two, frame by frame."""
        return replace(self, plain=self.plain + other.plain, rounded=self.rounded + other.rounded)


@torch.no_grad()
def quantized_products(
    encoder: WhisperEncoder, recordings: Iterable[Float[Tensor, "frames mels"]], first: bool = True
) -> EncoderProducts:
    """The encoder with its products in whole numbers.

    Args:
        encoder: in float32.
        recordings: Whisper's log-mel of each.
        first: whether the first convolution is in whole numbers too; its input must then have a known range.

    Raises:
        ConfigError: no recordings.
    """
    features = list(recordings)
    if not features:
        raise ConfigError("int8 export", got="no recordings to calibrate on", expected="at least one")
    plain, flat = float_products(encoder), torch.cat(features)
    streams = _Streams(flat, flat, [len(part) for part in features])
    streams = streams.map_recordings(_unfold)
    conv1, streams = _rounded(plain.conv1, streams) if first else (plain.conv1, _applied(plain.conv1, streams))
    conv2, streams = _evened(plain.conv2, streams.map(F.gelu))
    conv2, streams = _rounded(conv2, streams.map_recordings(_unfold_by_two))
    positions = torch.from_numpy(plain.positions)
    streams = streams.map(F.gelu).map_recordings(lambda part: part + positions[: len(part)])
    layers = []
    for layer in plain.layers:
        rounded, streams = _layer(layer, plain.heads, streams)
        layers.append(rounded)
    return replace(plain, conv1=conv1, conv2=conv2, layers=tuple(layers))


def _layer(layer: LayerProducts, heads: int, streams: _Streams) -> tuple[LayerProducts, _Streams]:
    norm, projections, inner = _evened_norm(layer.attention_norm, layer.projections, streams)
    projections, mixing = _evened_values(projections, layer.mixing, heads, inner)
    projections, inner = _rounded(projections, inner)
    mixing, inner = _rounded(mixing, inner.map_recordings(lambda part: _attend(part, heads)))
    streams = streams.plus(inner)
    final_norm, widening, inner = _evened_norm(layer.final_norm, layer.widening, streams)
    widening, inner = _rounded(widening, inner)
    narrowing, inner = _rounded(*_evened(layer.narrowing, inner.map(F.gelu)))
    return LayerProducts(norm, projections, mixing, final_norm, widening, narrowing), streams.plus(inner)


def _rounded(product: Product, streams: _Streams) -> tuple[Product, _Streams]:
    """A product in whole numbers, and what it gives."""
    low, high = min(0.0, float(streams.plain.min())), max(SMALLEST, float(streams.plain.max()))
    step = (high - low) / LARGEST_ACTIVATION
    zero = round(-low / step)
    inputs = ((streams.rounded / step).round() + zero).clamp(0, LARGEST_ACTIVATION).sub(zero) * step
    steps = weight_steps(product.weight)
    whole = round_pairs(torch.from_numpy((product.weight / steps).T), inputs.T @ inputs / len(inputs)).T
    outputs = inputs @ (whole * torch.from_numpy(steps))
    wanted = streams.plain @ torch.from_numpy(product.weight) + torch.from_numpy(product.bias)
    bias = wanted.mean(0) - outputs.mean(0)
    found = replace(product, weight=whole.contiguous().numpy(), bias=bias.numpy(), steps=steps, step=step, zero=zero)
    return found, _Streams(wanted, outputs + bias, streams.lengths)


def _applied(product: Product, streams: _Streams) -> _Streams:
    """The product in float32."""
    weight, bias = torch.from_numpy(product.weight), torch.from_numpy(product.bias)
    return streams.map(lambda x: x @ weight + bias)


def weight_steps(weight: Floats) -> Floats:
    """The smallest step of each output with which all weights and pairs of weights are in range: [outputs].

    >>> weight_steps(np.float32([[1.0], [1.0], [-1.5], [1.0]])) * 126.5
    array([2.], dtype=float32)
    """
    largest = np.abs(weight).max(0) / LARGEST_WEIGHT
    for sign in (1, -1):
        one_sided = np.maximum(sign * weight, 0)
        pairs = one_sided[0::2] + np.pad(one_sided[1::2], ((0, len(weight) % 2), (0, 0)))
        largest = np.maximum(largest, pairs.max(0) / (LARGEST_PAIR - 1.5))  # room for rounding both up
    return np.asarray(np.maximum(largest, 1e-12), np.float32)


def round_pairs(weight: Float[Tensor, "out inputs"], moments: Float[Tensor, "inputs inputs"]) -> Tensor:
    """Whole numbers near `weight` that change the output little, as `quantization.round_weights`, pairs in range.

    Blocks of columns are rounded one column after the other; the error of a block is then spread over the rest at once
    (Frantar et al. 2022, section 3.3, "lazy batch-updates").

    >>> whole = round_pairs(torch.tensor([[100.4, 40.4, -100.0, 100.0]]), torch.eye(4))
    >>> whole.tolist()
    [[100.0, 28.0, -100.0, 100.0]]
    """
    rest, damping = weight.double(), DAMPING * moments.diagonal().mean().double() + 1e-9
    damped = moments.double() + damping * torch.eye(len(moments), dtype=torch.float64)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor = torch.linalg.cholesky(inverse, upper=True)
    whole = torch.empty_like(rest)
    for start in range(0, rest.shape[1], BLOCK):
        end = min(start + BLOCK, rest.shape[1])
        block, errors = rest[:, start:end].clone(), torch.empty_like(rest[:, start:end])
        for place, column in enumerate(range(start, end)):
            partner = whole[:, column - 1] if column % 2 else torch.zeros_like(block[:, place])
            highest = (LARGEST_PAIR - partner.clamp_min(0)).clamp_max(LARGEST_WEIGHT)
            lowest = (-LARGEST_PAIR - partner.clamp_max(0)).clamp_min(-LARGEST_WEIGHT)
            whole[:, column] = block[:, place].round().clamp(lowest, highest)
            errors[:, place] = (block[:, place] - whole[:, column]) / factor[column, column]
            block[:, place:] -= torch.outer(errors[:, place], factor[column, column:end])
        rest[:, end:] -= errors @ factor[start:end, end:]
    return whole.to(weight.dtype)


def _factor(inputs: Tensor, weight: Floats) -> Floats:
    """Divisors of the inputs' channels, given the weights' rows: [channels]."""
    taps = np.abs(weight).reshape(-1, inputs.shape[1], weight.shape[1]).max((0, 2))
    largest = np.maximum(inputs.abs().amax(0).numpy(), SMALLEST)
    return np.asarray(largest**ALPHA / np.maximum(taps, SMALLEST) ** (1 - ALPHA), np.float32)


def _times(product: Product, factor: Floats) -> Product:
    """The product of inputs that are divided by `factor`; of a convolution, each of its taps'."""
    repeats = len(product.weight) // len(factor)
    return replace(product, weight=product.weight * np.tile(factor, repeats)[:, None])


def _evened(product: Product, streams: _Streams) -> tuple[Product, _Streams]:
    """A product whose inputs are divided by each channel's factor in a step of its own."""
    factor = _factor(streams.plain, product.weight)
    scale = np.float32(1) / factor
    return replace(_times(product, factor), scale=scale), streams.map(lambda x: x * torch.from_numpy(scale))


def _evened_norm(norm: Floats, product: Product, streams: _Streams) -> tuple[Floats, Product, _Streams]:
    """The norm's weight divided by each channel's factor, the product's rows multiplied by it; and their input."""
    normalized = streams.map(lambda x: F.layer_norm(x, (len(norm),), eps=NORM_EPSILON))
    factor = _factor(normalized.plain * torch.from_numpy(norm), product.weight)
    weight = norm / factor
    return weight, _times(product, factor), normalized.map(lambda x: x * torch.from_numpy(weight))


def _evened_values(projections: Product, mixing: Product, heads: int, streams: _Streams) -> tuple[Product, Product]:
    """Values divided by each channel's factor, and the rows of the output projection multiplied by it."""
    weight, bias = torch.from_numpy(projections.weight), torch.from_numpy(projections.bias)
    projected = streams.plain @ weight + bias
    attended = torch.cat([_attend(part, heads) for part in projected.split(streams.lengths)])
    factor = _factor(attended, mixing.weight)
    columns = np.concatenate([np.ones(2 * len(factor), np.float32), 1 / factor])
    divided = replace(projections, weight=projections.weight * columns, bias=projections.bias * columns)
    return divided, _times(mixing, factor)


def _unfold(x: Float[Tensor, "frames channels"]) -> Float[Tensor, "frames three_channels"]:
    """Each frame between its neighbors, zeros past the ends."""
    padded = F.pad(x, (0, 0, 1, 1))
    return torch.cat([padded[:-2], padded[1:-1], padded[2:]], 1)


def _unfold_by_two(x: Float[Tensor, "frames channels"]) -> Float[Tensor, "states three_channels"]:
    """Every other frame between its neighbors."""
    return _unfold(x)[::2]


def _attend(projected: Float[Tensor, "states three_widths"], heads: int) -> Float[Tensor, "states width"]:
    """Attention of one recording; the query is scaled already."""
    query, key, value = (part.unflatten(1, (heads, -1)).transpose(0, 1) for part in projected.chunk(3, 1))
    attended: Tensor = ((query @ key.transpose(1, 2)).softmax(-1) @ value).transpose(0, 1).flatten(1)
    return attended
