"""Quantization of the convolution modules: steps, weights and biases, calibrated on recordings.

Rounding errors with mean zero do little harm, because the layers that follow average over time. Decisions change
through errors that repeat from frame to frame. Three choices avoid those:

* The range of activations is the largest value seen. A clipped value would always be too small.
* Weights are rounded column by column, and the error of each column is compensated by the columns not yet rounded,
  given the correlation of the inputs (Frantar et al. 2022, "GPTQ", section 3).
* The mean of the remaining error is subtracted from the bias of each channel (Nagel et al. 2019, "Data-free
  quantization through weight equalization and bias correction", section 4.2), with the mean taken after the ReLU.
  Modules are quantized in order, so each one also compensates those before it.

The first module stays in float32: it has one input channel, so it is cheap, and it sets the precision of all that
follows. The last modules stay in float32 too, as long as together they are a small part of the work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from affekt.errors import ConfigError, Fault
from affekt.export.graph.network_operators import Floats, folded_convolution
from affekt.nn import Network
from affekt.nn.blocks import ConvModule, average_pool, frame_mask, pooled_length

LARGEST_ACTIVATION, LARGEST_WEIGHT = 255, 63
SMALL_SHARE = 0.03
"""Largest share of the multiplications after the first module that the last modules may take in float32."""
PATCHES = 24_000
"""Number of patches, over all recordings, from which the correlation of a convolution's inputs is estimated."""
DAMPING = 0.01
"""Added to the inputs' mean squares, as a share of their mean (Frantar et al. 2022, section 3.3)."""


@dataclass(frozen=True)
class QuantizedModule:
    """Numbers of an exported convolution module.

    Attributes:
        weight: float32 [out, in, kernel, kernel]; with `steps` integers in -63..63 to be multiplied by them.
        bias: float32 [out].
        steps: float32 [out], one per output channel; None: a module in float32.
        pool: its pooling window.
        activation, pooled: steps of the values after the ReLU and after the pooling; None: they stay in float32.
    """

    weight: Floats
    bias: Floats
    steps: Floats | None
    pool: int
    activation: float | None
    pooled: float | None


@dataclass(frozen=True)
class _Batch:
    """Activations between two modules, [batch, channels, frames, mels]: bytes with a step, or floats with step 1."""

    values: Tensor
    step: float
    mask: Tensor | None

    def floats(self) -> Tensor:
        return self.values * self.step


class _Seen:
    """Statistics of a module's activations over all recordings: maximum, maximum after pooling, channel means."""

    def __init__(self, channels: int) -> None:
        self.largest = self.largest_pooled = 1e-6
        self._total, self._count = torch.zeros(channels, dtype=torch.float64), 0

    def add(self, activation: Float[Tensor, "batch channels frames mels"], mask: Tensor | None) -> None:
        self.largest = max(self.largest, float(activation.max()))
        self._total += activation.double().sum((0, 2, 3))
        frames = activation.shape[0] * activation.shape[2] if mask is None else int(mask.sum())
        self._count += frames * activation.shape[3]

    @property
    def mean(self) -> Float[Tensor, " channels"]:
        return self._total / self._count


@torch.no_grad()
def quantize(
    network: Network, batches: Iterable[tuple[Float[Tensor, "batch frames mels"], Tensor | None]], seed: int = 0
) -> list[QuantizedModule]:
    """Quantize the network's convolution modules.

    Args:
        network: the paper's network.
        batches: normalized features and valid frames (None in padded mode) of the calibration recordings.
        seed: of the choice of patches.

    Returns:
        One description per module, in order.

    Raises:
        ConfigError: no recordings, or a pooling window other than 1 or 2.
    """
    modules = [module for module in network.cnn if isinstance(module, ConvModule)]
    inputs = [_first_input(features, lengths) for features, lengths in batches]
    _check(modules, inputs)
    plain = [QuantizedModule(*folded_convolution(module), None, module.pool, None, None) for module in modules]
    seen, generator = _observe(plain, inputs), np.random.default_rng(seed)
    last = last_in_bytes(modules, inputs[0].values.shape[-1])
    found = []
    for index, module in enumerate(plain):
        if index <= last:
            module = replace(module, pooled=seen[index].largest_pooled / LARGEST_ACTIVATION)
        if 0 < index <= last:
            module = _in_whole_numbers(module, seen[index].largest, inputs, generator)
        if index > 0:
            module = _with_mean(module, seen[index].mean, inputs)
        found.append(module)
        inputs = [_pool(module, _activation(module, batch), batch.mask) for batch in inputs]
    return found


def last_in_bytes(modules: Sequence[ConvModule], mels: int) -> int:
    """Index of the last quantized module: those after it are a small part of the work after the first.

    >>> pools, channels = (2, 2, 2, 2, 2, 1), (1, 128, 128, 64, 64, 64, 64)
    >>> paper = [ConvModule(channels[i], channels[i + 1], 3, pool, 0.0) for i, pool in enumerate(pools)]
    >>> last_in_bytes(paper, mels=40)
    2
    """
    work, bands, frames = [], mels, 1.0
    for module in modules:
        work.append(module.convolution.weight.numel() * bands * frames)
        bands, frames = pooled_length(bands, module.pool), frames / module.pool
    after = np.cumsum(work[::-1])[::-1]
    return max(index for index in range(len(work)) if index < 2 or after[index] > SMALL_SHARE * after[1])


def round_weights(weight: Float[Tensor, "out inputs"], moments: Float[Tensor, "inputs inputs"]) -> Tensor:
    """Round weights to integers so that the output changes little, given the inputs' second moments.

    Column after column is rounded; its error e, weighted by the inverse of the products, is spread over the columns to
    come: w_j -= e U_ij / U_ii, where U is the upper Cholesky factor of the inverse (Frantar et al. 2022, algorithm 1).

    >>> together = torch.tensor([[1.0, 0.99], [0.99, 1.0]])        # two inputs that are nearly always equal
    >>> round_weights(torch.tensor([[1.4, 1.4]]), together).tolist()
    [[1.0, 2.0]]
    """
    rest, damping = weight.double(), DAMPING * moments.diagonal().mean().double() + 1e-9
    damped = moments.double() + damping * torch.eye(len(moments), dtype=torch.float64)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor = torch.linalg.cholesky(inverse, upper=True)
    whole = torch.empty_like(rest)
    for column in range(rest.shape[1]):
        whole[:, column] = rest[:, column].round().clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT)
        error = (rest[:, column] - whole[:, column]) / factor[column, column]
        rest[:, column:] -= torch.outer(error, factor[column, column:])
    return whole.to(weight.dtype)


def _check(modules: Sequence[ConvModule], inputs: Sequence[_Batch]) -> None:
    faults = [
        Fault("int8 export", got=f"pooling by {module.pool}", expected="1 or 2", remedy="export in float32")
        for module in modules
        if module.pool not in (1, 2)
    ]
    if not inputs:
        faults.append(Fault("int8 export", got="no recordings to calibrate on", expected="at least one"))
    if faults:
        raise ConfigError.of(faults)


def _first_input(features: Tensor, lengths: Tensor | None) -> _Batch:
    mask = None if lengths is None else frame_mask(lengths, features.shape[1])
    return _Batch((features if mask is None else features * mask[..., None])[:, None], 1.0, mask)


def _observe(modules: Sequence[QuantizedModule], batches: Sequence[_Batch]) -> list[_Seen]:
    seen = [_Seen(len(module.bias)) for module in modules]
    for batch in batches:
        for module, own in zip(modules, seen, strict=True):
            activation = _activation(module, batch)
            own.add(activation, batch.mask)
            batch = _pool(module, activation, batch.mask)
            own.largest_pooled = max(own.largest_pooled, float(batch.values.max()))
    return seen


def _activation(module: QuantizedModule, batch: _Batch) -> Float[Tensor, "batch channels frames mels"]:
    """The activation after the ReLU, not rounded yet; zero past each utterance's end."""
    weight = module.weight if module.steps is None else module.weight * module.steps[:, None, None, None]
    activation = F.relu(
        F.conv2d(batch.floats(), torch.from_numpy(weight), torch.from_numpy(module.bias), padding="same")
    )
    return activation if batch.mask is None else activation * batch.mask[:, None, :, None]


def _pool(module: QuantizedModule, activation: Tensor, mask: Tensor | None) -> _Batch:
    """The input of the next module, rounded as the file rounds."""
    if module.activation is not None:
        activation = _bytes(activation, module.activation) * module.activation
    pooled = average_pool(activation, module.pool, mask)
    mask = None if mask is None else mask[:, :: module.pool]
    return (
        _Batch(pooled, 1.0, mask)
        if module.pooled is None
        else _Batch(_bytes(pooled, module.pooled), module.pooled, mask)
    )


def _bytes(values: Tensor, step: float) -> Tensor:
    return (values / step).round().clamp_max(LARGEST_ACTIVATION).byte()


def _in_whole_numbers(
    module: QuantizedModule, largest: float, inputs: Sequence[_Batch], generator: np.random.Generator
) -> QuantizedModule:
    """Weights as whole numbers, and a step for what is pooled."""
    steps = np.maximum(np.abs(module.weight).max((1, 2, 3)) / LARGEST_WEIGHT, 1e-12).astype(np.float32)
    weight = torch.from_numpy(module.weight / steps[:, None, None, None])
    whole = round_weights(weight.flatten(1), _moments(inputs, weight.shape[2], generator)).reshape(weight.shape)
    activation = largest / LARGEST_ACTIVATION if module.pool > 1 else None
    return replace(module, weight=whole.numpy(), steps=steps, activation=activation)


def _with_mean(module: QuantizedModule, mean: Float[Tensor, " channels"], inputs: Sequence[_Batch]) -> QuantizedModule:
    """The bias moved by what the channels' means lack on rounded inputs."""
    seen = _Seen(len(module.bias))
    for batch in inputs:
        seen.add(_activation(module, batch), batch.mask)
    return replace(module, bias=module.bias + (mean - seen.mean).float().numpy())


def _moments(batches: Sequence[_Batch], kernel: int, generator: np.random.Generator) -> Float[Tensor, "inputs inputs"]:
    """Mean products of the inputs that a convolution sees together, at places drawn from all recordings."""
    places = -(-PATCHES // sum(len(batch.values) for batch in batches))
    products, count = torch.zeros(()), 0
    for batch in batches:
        for row, recording in enumerate(batch.floats()):
            frames = recording.shape[1] if batch.mask is None else int(batch.mask[row].sum())
            patches = F.unfold(recording[None, :, :frames], kernel, padding=kernel // 2)[0]
            chosen = generator.integers(0, patches.shape[1], min(places, patches.shape[1]))
            patches = patches[:, torch.from_numpy(chosen)]
            products, count = products + patches @ patches.T, count + patches.shape[1]
    return products / count
