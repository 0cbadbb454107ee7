"""Quantized convolutions against the same integer arithmetic written with PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional as F

from affekt.export.graph import int8, network_operators
from affekt.export.graph.builder import Graph, ints
from affekt.export.graph.quantization import QuantizedModule, quantize
from affekt.nn.blocks import average_pool, frame_mask

Floats = Any


def graph_of(modules: list[QuantizedModule], frames: int, mels: int, masked: bool) -> Any:
    graph = Graph()
    length, lengths = (graph.size("features", 1), "lengths") if masked else (ints(frames), None)
    stages = network_operators.stages(graph, [module.pool for module in modules], length, lengths)
    graph.op("Identity", int8.convolutions(graph, modules, "features", mels, stages), name="out")
    inputs = {"features": ("float32", ["batch", "frames", mels]), "lengths": ("int64", ["batch"])}
    model = graph.model(inputs, {"out": ("float32", ["batch", "time", "bands", "channels"])})
    return onnxruntime.InferenceSession(model.SerializeToString())


def simulated(modules: list[QuantizedModule], features: torch.Tensor, lengths: torch.Tensor | None) -> Floats:
    """What the graph should compute, in floating point that is exact for its whole numbers."""
    mask = None if lengths is None else frame_mask(lengths, features.shape[1])
    x = (features if mask is None else features * mask[..., None])[:, None].double()
    for module in modules:
        weight, bias = torch.from_numpy(module.weight).double(), torch.from_numpy(module.bias).double()
        if module.steps is not None:
            weight = weight * torch.from_numpy(module.steps).double()[:, None, None, None]
        x = F.relu(F.conv2d(x, weight, bias, padding="same"))
        if module.activation is not None:
            x = (x / module.activation).round().clamp_max(255) * module.activation
        x = average_pool(x, module.pool, mask)
        if module.pooled is not None:
            x = (x / module.pooled).round().clamp_max(255) * module.pooled
        mask = None if mask is None else mask[:, :: module.pool]
    return x.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("frames", [75, 64])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("pools", "filters"), [((2, 2, 2, 1), (8, 12, 8, 4)), ((1, 2, 1), (8, 12, 8)), ((2, 2, 2, 1), (24, 32, 2, 2))]
)
def test_equals_simulated_integers(
    make_pipeline: Callable[..., Any], pools: tuple[int, ...], filters: tuple[int, ...], masked: bool, frames: int
) -> None:
    """All values within three steps (halves may round either way), nearly all of them equal."""
    cnn = make_pipeline(masked, filters=filters, pools=pools).network.cnn
    features = torch.randn(3, frames, 10, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([frames, 33, 1])
    modules = quantize(make_network(cnn), [(features, lengths if masked else None)])
    session = graph_of(modules, frames, 10, masked)
    out = session.run(None, {"features": features.numpy(), "lengths": lengths.numpy()})[0]
    with torch.no_grad():
        wanted = simulated(modules, features, lengths if masked else None)
    last_step = next(module.pooled for module in reversed(modules) if module.pooled is not None)
    steps = np.abs(out - wanted) / last_step
    assert steps.max() < 3.01
    assert (steps < 0.5).mean() > 0.97


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
    modules = quantize(make_network(cnn), [(features, torch.tensor([51, 23]))])
    session = graph_of(modules, 51, 40, masked=True)
    together = session.run(None, {"features": features.numpy(), "lengths": np.array([51, 23])})[0]
    alone = session.run(None, {"features": features[1:, :23].numpy(), "lengths": np.array([23])})[0]
    np.testing.assert_array_equal(together[1, : alone.shape[1]], alone[0])
    assert not together[1, alone.shape[1] :].any()
