"""The choice of whole numbers: what they must keep of the float32 network, and what that gains."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from affekt.errors import ConfigError
from affekt.export.graph import quantization
from affekt.export.graph.network_operators import folded_convolution
from affekt.export.graph.quantization import LARGEST_WEIGHT, QuantizedModule, last_in_bytes, quantize, round_weights
from affekt.nn.blocks import ConvModule, frame_mask

LENGTHS = torch.tensor([64, 40, 17, 64])
MakePipeline = Callable[..., Any]


def features(seed: int = 0) -> torch.Tensor:
    """Neighbors alike, as in log-mel features, and above zero on average."""
    noise = torch.randn(4, 66, 14, generator=torch.Generator().manual_seed(seed))
    return F.avg_pool2d(noise[:, None], 3, stride=1)[:, 0] * 2 + 0.5


def channel_means(modules: list[QuantizedModule], lengths: torch.Tensor | None) -> list[torch.Tensor]:
    """Of each module's activations over the valid frames, by the module's own arithmetic."""
    batch, means = quantization._first_input(features(), lengths), []
    for module in modules:
        activation = quantization._activation(module, batch)
        valid = torch.ones(activation.shape[0], activation.shape[2]) if batch.mask is None else batch.mask.float()
        means.append((activation * valid[:, None, :, None]).sum((0, 2, 3)) / valid.sum() / activation.shape[3])
        batch = quantization._pool(module, activation, batch.mask)
    return means


@pytest.mark.parametrize("masked", [False, True])
def test_means_are_those_of_float32(make_pipeline: MakePipeline, masked: bool) -> None:
    """The bias makes up for what rounding does to a channel's mean, in the modules in float32 after it too."""
    network = make_pipeline(masked, filters=(24, 32, 2, 2), pools=(2, 2, 2, 1)).network
    lengths = LENGTHS if masked else None
    modules = quantize(network, [(features(), lengths)])
    assert [module.steps is not None for module in modules] == [False, True, False, False]
    plain = [QuantizedModule(*folded_convolution(module), None, module.pool, None, None) for module in network.cnn]
    wanted = channel_means(plain, lengths)
    uncorrected = [replace(module, bias=own.bias) for module, own in zip(modules, plain, strict=True)]

    def error(found: list[torch.Tensor]) -> float:
        return sum(float((a - b).abs().sum()) for a, b in zip(found, wanted, strict=True))

    assert error(channel_means(modules, lengths)) < 0.25 * error(channel_means(uncorrected, lengths))


@pytest.mark.parametrize("masked", [False, True])
def test_no_value_of_the_recordings_is_clipped(make_pipeline: MakePipeline, masked: bool) -> None:
    network = make_pipeline(masked).network
    lengths = LENGTHS if masked else None
    modules = quantize(network, [(features(), lengths)])
    mask = None if lengths is None else frame_mask(lengths, 64)
    x = (features() if mask is None else features() * mask[..., None])[:, None]
    with torch.no_grad():
        for module, quantized in zip(network.cnn, modules, strict=True):
            assert isinstance(module, ConvModule)
            largest = F.relu(module.norm(module.convolution(x)))
            largest = largest if mask is None else largest * mask[:, None, :, None]
            x, mask = module(x, mask)
            for values, step in ((largest, quantized.activation), (x, quantized.pooled)):
                assert step is None or float(values.max()) == pytest.approx(255 * step, rel=1e-5)


def test_rounding_together_loses_less_than_rounding_each() -> None:
    """On inputs that go together, by the error of the outputs; no number outside what the sums can hold."""
    generator = torch.Generator().manual_seed(0)
    inputs = (torch.randn(500, 4, generator=generator) @ torch.randn(4, 36, generator=generator)).relu()
    weight = torch.randn(8, 36, generator=generator) * 20
    weight[0, 0] = LARGEST_WEIGHT

    def error(whole: torch.Tensor) -> float:
        return float(((whole - weight) @ inputs.T).square().mean())

    found = round_weights(weight, inputs.T @ inputs / len(inputs))
    assert torch.equal(found, found.round())
    assert found.abs().max() <= LARGEST_WEIGHT
    assert error(found) < 0.2 * error(weight.round())


def test_inputs_that_do_not_go_together_are_rounded_each() -> None:
    weight = torch.randn(8, 36, generator=torch.Generator().manual_seed(0)) * 20
    assert torch.equal(round_weights(weight, torch.eye(36)), weight.round().clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT))
    assert torch.equal(
        round_weights(weight, torch.zeros(36, 36)), weight.round().clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT)
    )


def test_mean_products_of_what_a_convolution_sees(make_pipeline: MakePipeline) -> None:
    """Against the patches cut out one by one; recordings end where they end."""
    batch = quantization._first_input(features(), LENGTHS)
    places = sum(int(length) * 12 for length in LENGTHS)
    found = quantization._moments([batch], 3, np.random.default_rng(0))
    wanted = torch.zeros(9, 9)
    for row, length in enumerate(LENGTHS.tolist()):
        padded = F.pad(features()[row, :length], (1, 1, 1, 1))
        for frame in range(length):
            for band in range(12):
                patch = padded[frame : frame + 3, band : band + 3].flatten()
                wanted += torch.outer(patch, patch) / places
    assert torch.allclose(found, wanted, rtol=0.1, atol=0.1 * float(wanted.max()))


def test_the_last_modules_stay_in_float32_only_where_they_are_small() -> None:
    def modules(*channels: int) -> list[ConvModule]:
        return [ConvModule(before, after, 3, 2, 0.0) for before, after in itertools.pairwise(channels)]

    assert last_in_bytes(modules(1, 32, 64, 96, 128), 40) == 3
    assert last_in_bytes(modules(1, 128, 128, 8, 8), 40) == 1
    assert last_in_bytes(modules(1, 8), 40) == 0


def test_other_pools_and_no_recordings_are_refused(make_pipeline: MakePipeline) -> None:
    network = make_pipeline(pools=(2, 3, 5)).network
    with pytest.raises(ConfigError) as caught:
        quantize(network, [])
    got = [fault.got for fault in caught.value.faults]
    assert got == ["pooling by 3", "pooling by 5", "no recordings to calibrate on"]
