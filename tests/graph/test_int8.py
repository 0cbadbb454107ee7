"""Quantised convolutions against the same integer arithmetic written with PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional as F

from affekt.errors import ConfigError
from affekt.graph import int8, network
from affekt.graph.builder import Graph, ints
from affekt.nn.blocks import average_pool, frame_mask

Floats = Any
PoolAndKernel = tuple[tuple[int, ...], int]


def graph_of(cnn: Any, scales: list[int8.Scales], frames: int, mels: int, masked: bool) -> Any:
    graph = Graph()
    length, lengths = (graph.size("features", 1), "lengths") if masked else (ints(frames), None)
    stages = network.stages(graph, [module.pool for module in cnn], length, lengths)
    graph.op("Identity", int8.convolutions(graph, list(cnn), scales, "features", mels, stages), name="out")
    inputs = {"features": ("float32", ["batch", "frames", mels]), "lengths": ("int64", ["batch"])}
    model = graph.model(inputs, {"out": ("float32", ["batch", "time", "bands", "channels"])})
    return onnxruntime.InferenceSession(model.SerializeToString())


def simulated(cnn: Any, scales: list[int8.Scales], features: torch.Tensor, lengths: torch.Tensor | None) -> Floats:
    """Round weights and activations as the graph should, in floating point that is exact for them."""
    mask = None if lengths is None else frame_mask(lengths, features.shape[1])
    x = (features if mask is None else features * mask[..., None])[:, None].double()
    for index, (module, scale) in enumerate(zip(cnn, scales, strict=True)):
        weight, bias = (torch.from_numpy(array).double() for array in network.folded_convolution(module))
        if index:
            steps = (weight.abs().amax((1, 2, 3)) / int8.LARGEST_WEIGHT).float().double()
            weight = (weight / steps[:, None, None, None]).round() * steps[:, None, None, None]
        x = F.relu(F.conv2d(x, weight, bias, padding="same"))
        if index and module.pool == 2:
            x = (x / scale.activation).round().clamp_max(255) * scale.activation
        x = average_pool(x, module.pool, mask)
        x = (x / scale.pooled).round().clamp_max(255) * scale.pooled
        mask = None if mask is None else mask[:, :: module.pool]
    return x.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("frames", [75, 64])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("pools", [(2, 2, 2, 1), (1, 2, 1)])
def test_equals_simulated_integers(
    make_pipeline: Callable[..., Any], pools: tuple[int, ...], masked: bool, frames: int
) -> None:
    """All values within one step (halves may round either way), nearly all of them equal."""
    cnn = make_pipeline(masked, filters=(8, 12, 8, 4)[: len(pools)], pools=pools).network.cnn
    features = torch.randn(3, frames, 10, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([frames, 33, 1])
    scales = int8.calibrate(make_network(cnn), [(features, lengths if masked else None)])
    session = graph_of(cnn, scales, frames, 10, masked)
    out = session.run(None, {"features": features.numpy(), "lengths": lengths.numpy()})[0]
    with torch.no_grad():
        wanted = simulated(cnn, scales, features, lengths if masked else None)
    steps = np.abs(out - wanted) / scales[-1].pooled
    assert steps.max() < 3.01
    assert (steps < 0.01).mean() > 0.97


def make_network(cnn: Any) -> Any:
    class Holder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cnn = cnn

    return Holder().eval()


def test_alone_equals_in_a_batch(make_pipeline: Callable[..., Any]) -> None:
    """Bytes round the same, whatever else is in the batch."""
    cnn = make_pipeline(True).network.cnn
    features = torch.randn(2, 51, 40, generator=torch.Generator().manual_seed(0))
    scales = [int8.Scales(0.02, 0.015)] * len(cnn)
    session = graph_of(cnn, scales, 51, 40, masked=True)
    together = session.run(None, {"features": features.numpy(), "lengths": np.array([51, 23])})[0]
    alone = session.run(None, {"features": features[1:, :23].numpy(), "lengths": np.array([23])})[0]
    np.testing.assert_array_equal(together[1, : alone.shape[1]], alone[0])
    assert not together[1, alone.shape[1] :].any()


def test_best_scale_beats_the_full_range() -> None:
    """Where hardly a value is large, a step that clips it loses less."""
    values = np.append(np.random.default_rng(0).random(200_000), 2.5).astype(np.float32)

    def loss(step: float) -> float:
        return float(np.square(np.minimum(np.round(values / step), 255) * step - values).sum())

    assert loss(int8.best_scale(values)) < 0.9 * loss(float(values.max()) / 255)
    assert int8.best_scale(np.zeros(3, np.float32)) > 0


def test_other_pools_and_no_recordings_are_refused(make_pipeline: Callable[..., Any]) -> None:
    cnn = make_pipeline(pools=(2, 3, 5)).network.cnn
    with pytest.raises(ConfigError) as caught:
        graph_of(cnn, [int8.Scales(1, 1)] * 3, 50, 40, masked=True)
    assert [fault.got for fault in caught.value.faults] == ["pooling by 3", "pooling by 5"]
    with pytest.raises(ConfigError, match="no recordings"):
        int8.calibrate(make_network(cnn), [])
