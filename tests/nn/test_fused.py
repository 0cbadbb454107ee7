"""Oracle: the fused modules against the plain ones, forward, backward and running averages, padded and masked."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from affekt.nn import Network, NetworkConfig, fused, kernels
from affekt.nn.blocks import ConvModule, average_pool, frame_mask

pytestmark = pytest.mark.skipif(not fused.available(), reason="no C++ compiler on this machine")

LENGTHS = torch.tensor([11, 30, 1, 24])


def _module(in_channels: int, pool: int) -> ConvModule:
    torch.manual_seed(in_channels + pool)
    module = ConvModule(in_channels, 32, kernel=3, pool=pool, dropout=0.0)
    nn.init.uniform_(module.norm.weight, 0.5, 1.5)
    nn.init.uniform_(module.norm.bias, -0.5, 0.5)
    return module


def _input(in_channels: int, mask: torch.Tensor | None) -> torch.Tensor:
    x = torch.randn(4, in_channels, 30, 13, generator=torch.Generator().manual_seed(1)).bfloat16().float()
    return x if mask is None else x * mask[:, None, :, None]


def _step(module: ConvModule, x: torch.Tensor, mask: torch.Tensor | None, precision: torch.dtype | None) -> dict:
    """Output, gradients and running averages of one training step."""
    module.zero_grad()
    x = x.clone().requires_grad_(x.shape[1] > 1)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is not None):
        y, pooled_mask = module(x, mask)
    weights = torch.linspace(-1, 1, y.numel()).reshape(y.shape)
    if pooled_mask is not None:
        weights = weights * pooled_mask[:, None, :, None]
    (y.float() * weights).sum().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in module.named_parameters()}
    running = {"running_mean": module.norm.running_mean.clone(), "running_var": module.norm.running_var.clone()}
    return {"y": y.detach().float(), **gradients, **running, **({"x": x.grad} if x.requires_grad else {})}


def _relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got.detach() - expected.detach()).norm() / expected.detach().norm().clamp_min(1e-3))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("pool", [1, 2, 3, 4])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_fused_module_equals_plain_module(in_channels: int, pool: int, masked: bool) -> None:
    mask = frame_mask(LENGTHS, 30) if masked else None
    x = _input(in_channels, mask)
    plain = _step(_module(in_channels, pool), x, mask, None)
    got = _step(_module(in_channels, pool), x, mask, torch.bfloat16)
    # bfloat16 keeps 8 bits; near zero it flips a few ReLUs, which is what the gradients' tolerance is for
    for name, expected in plain.items():
        if name == "convolution.bias":  # exactly zero in theory: the normalization removes it
            assert got[name].abs().max() < 1e-2 * plain["convolution.weight"].norm()
        else:
            tolerance = 0.01 if name in ("y", "running_mean", "running_var") else 0.06
            assert _relative_error(got[name], expected) < tolerance, name


def test_first_module_is_exact_but_for_the_rounding_of_its_ends() -> None:
    """Inside it is float32, so with gradients that bfloat16 represents only accumulation order differs."""
    x = _input(1, None)
    module, reference = _module(1, 2), _module(1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = module(x)
    signs = torch.sign(torch.randn(y.shape, generator=torch.Generator().manual_seed(2)))
    y.backward(signs.to(y.dtype))
    expected = average_pool(torch.relu(reference.norm(reference.convolution(x))), 2)
    expected.backward(signs)
    assert torch.equal(y.float(), expected.bfloat16().float()) or _relative_error(y.float(), expected) < 3e-3
    for (name, got), wanted in zip(module.named_parameters(), reference.parameters(), strict=True):
        if name != "convolution.bias":
            assert _relative_error(got.grad, wanted.grad) < 1e-3, name


def test_result_does_not_depend_on_the_number_of_threads() -> None:
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(_step(_module(1, 2), _input(1, None), None, torch.bfloat16))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(results[0][name], other[name]) for other in results[1:] for name in other)


def test_dropout_drops_the_stated_share_and_keeps_the_mean() -> None:
    module = ConvModule(1, 64, kernel=3, pool=2, dropout=0.25)
    x = torch.randn(8, 1, 64, 40, generator=torch.Generator().manual_seed(3))
    torch.manual_seed(5)
    with torch.autocast("cpu", torch.bfloat16):
        dropped = module(x)[0].float()
        module.dropout.p = 0.0
        kept = module(x)[0].float()
    positive = kept > 0
    share = float((dropped[positive] == 0).float().mean())
    assert abs(share - 0.25) < 0.005
    survivors = positive & (dropped != 0)
    assert torch.allclose(dropped[survivors], kept[survivors] / 0.75, rtol=0.02)


def test_dropout_follows_the_seed_and_gradients_see_the_same_mask() -> None:
    x = torch.randn(2, 1, 16, 8, generator=torch.Generator().manual_seed(4))
    outputs, gradients = [], []
    for seed in (1, 1, 2):
        module = ConvModule(1, 16, kernel=3, pool=2, dropout=0.5)
        nn.init.constant_(module.norm.bias, 10.0)  # every ReLU is open: only dropout makes zeros
        nn.init.constant_(module.convolution.weight, 0.1)
        torch.manual_seed(seed)
        with torch.autocast("cpu", torch.bfloat16):
            y, _ = module(x)
        (y.float() * (y == 0)).sum().backward()  # a gradient into dropped elements only
        outputs.append(y.detach().float())
        gradients.append(module.norm.bias.grad)
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    assert all(torch.count_nonzero(gradient) == 0 for gradient in gradients)


@pytest.mark.parametrize("masked", [False, True])
def test_network_in_evaluation_agrees_with_the_plain_path(masked: bool) -> None:
    torch.manual_seed(0)
    network = Network(NetworkConfig(masked=masked), mels=40, classes=4).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    x, lengths = torch.randn(3, 90, 40), torch.tensor([90, 41, 64])
    with torch.no_grad():
        plain = network(x, lengths).scores
        with torch.autocast("cpu", torch.bfloat16):
            got = network(x, lengths).scores
    assert _relative_error(got, plain) < 0.03


def test_shapes_beyond_the_kernels_take_the_plain_path() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert not fused.serves(_module(1, 5), torch.zeros(1, 1, 10, 13))
        assert not fused.serves(_module(1, 2), torch.zeros(1, 1, 10, 1025))
        assert fused.serves(_module(1, 4), torch.zeros(1, 1, 10, 1024))


def test_without_the_kernels_the_plain_path_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.library.cache_clear()
    monkeypatch.setenv("AFFEKT_FUSED", "0")
    try:
        assert not fused.available()
        module = _module(1, 2)
        with torch.autocast("cpu", torch.bfloat16):
            y, _ = module(_input(1, None))
        assert y.shape == (4, 32, 15, 7)
    finally:
        monkeypatch.undo()
        kernels.library.cache_clear()
    assert fused.available()
