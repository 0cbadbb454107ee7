"""Oracle: Winograd's convolution against a plain one in float64, forward and gradients, at every kind of edge."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affekt.nn import fused, kernels, winograd
from affekt.nn.blocks import ConvModule, frame_mask

needs_kernel = pytest.mark.skipif(not winograd.available(), reason="no AVX512-BF16 or no C++ compiler on this machine")


@dataclass
class Case:
    """Inputs of a convolution and the gradient of its output, all but the parameters in bfloat16."""

    x: Tensor
    lengths: Tensor
    weight: Tensor
    bias: Tensor
    grad: Tensor

    @classmethod
    def random(cls, lengths: list[int], frames: int, mels: int, inputs: int, outputs: int) -> Case:
        generator = torch.Generator().manual_seed(frames * mels + inputs)
        valid = torch.tensor(lengths, dtype=torch.int32)
        mask = frame_mask(valid, frames)[..., None, None]
        x = torch.randn(len(lengths), frames, mels, inputs, generator=generator)
        weight = torch.randn(outputs, inputs, 3, 3, generator=generator) / (9 * inputs) ** 0.5
        bias = torch.randn(outputs, generator=generator)
        grad = torch.randn(len(lengths), frames, mels, outputs, generator=generator)
        return cls((x * mask).bfloat16(), valid, weight, bias, grad.bfloat16())

    def results(self) -> dict[str, Tensor]:
        """Output and gradients by Winograd's way."""
        x, weight, bias = (value.clone().requires_grad_() for value in (self.x, self.weight, self.bias))
        y = winograd.convolve(x, self.lengths, weight, bias)
        y.backward(self.grad)
        return {"y": y.detach(), "x": x.grad, "weight": weight.grad, "bias": bias.grad}

    def expected(self) -> dict[str, Tensor]:
        """The same by PyTorch in float64."""
        x, weight, bias = (value.double().requires_grad_() for value in (self.x, self.weight, self.bias))
        mask = frame_mask(self.lengths, x.shape[1])[..., None, None]
        masked = (x * mask).permute(0, 3, 1, 2)
        y = F.conv2d(masked, weight, bias, padding=1).permute(0, 2, 3, 1) * mask
        y.backward(self.grad.double())
        return {"y": y.detach(), "x": x.grad, "weight": weight.grad, "bias": bias.grad}


def _relative_error(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected).norm() / expected.norm())


CASES = {
    "whole tiles": Case.random([8, 8], frames=8, mels=6, inputs=64, outputs=64),
    "odd frames and mels": Case.random([7, 7, 7], frames=7, mels=5, inputs=64, outputs=128),
    "one pixel": Case.random([1], frames=1, mels=1, inputs=128, outputs=64),
    "one mel": Case.random([9], frames=9, mels=1, inputs=64, outputs=64),
    "few channels": Case.random([5], frames=5, mels=4, inputs=32, outputs=96),
    "narrow to wide": Case.random([6], frames=6, mels=3, inputs=96, outputs=128),
    "lengths": Case.random([11, 1, 30, 16], frames=30, mels=13, inputs=64, outputs=64),
    "large": Case.random([30, 30, 7, 29], frames=30, mels=20, inputs=128, outputs=128),
}


@needs_kernel
@pytest.mark.parametrize("name", CASES)
def test_convolution_and_gradients_equal_those_in_float64(name: str) -> None:
    """One rounding to bfloat16 errs by 0.0017 in the mean square. There are three in y and x: of the transformed
    pixels and of the transformed filters, which the transform back amplifies by 1.7, and of the result."""
    got, expected = CASES[name].results(), CASES[name].expected()
    errors = {key: _relative_error(got[key], expected[key]) for key in expected}
    assert max(errors["y"], errors["x"], errors["weight"]) < 0.006
    assert errors["bias"] < 1e-6  # summed in float32


@needs_kernel
def test_whole_numbers_come_out_exactly() -> None:
    """Filters of whole fours and small whole inputs leave nothing to round but the output."""
    case = CASES["lengths"]
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-2, 3, case.x.shape, generator=generator).bfloat16() * (case.x != 0)
    weight = 4.0 * torch.randint(-1, 2, case.weight.shape, generator=generator)
    grad = torch.randint(-2, 3, case.grad.shape, generator=generator).bfloat16()
    whole = Case(x, case.lengths, weight, torch.zeros(64), grad)
    got, expected = whole.results(), whole.expected()
    for name in ("y", "x"):
        assert torch.equal(got[name], expected[name].bfloat16()), name
    for name in ("weight", "bias"):
        assert torch.equal(got[name].double(), expected[name]), name


@needs_kernel
def test_frames_past_the_lengths_are_zero() -> None:
    case = CASES["lengths"]
    got = case.results()
    padding = ~frame_mask(case.lengths, case.x.shape[1])
    assert got["y"][padding].count_nonzero() == got["x"][padding].count_nonzero() == 0


@needs_kernel
def test_an_utterance_alone_is_the_same_as_in_a_batch() -> None:
    case = CASES["lengths"]
    alone = winograd.convolve(case.x[2:3], case.lengths[2:3], case.weight, case.bias)
    assert torch.equal(alone[0], winograd.convolve(case.x, case.lengths, case.weight, case.bias)[2])


@needs_kernel
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 1):
            torch.set_num_threads(count)
            results.append(CASES["large"].results())
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(results[0][name], other[name]) for other in results[1:] for name in other)


def _step(module: ConvModule, x: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """Output and gradients of a training step in bfloat16."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = module(x, mask)
    (y.float() * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum().backward()
    dx = x.grad if mask is None else x.grad * mask[:, None, :, None]  # of padding nobody asks
    return {"y": y.detach(), "x": dx, "weight": module.convolution.weight.grad, "gamma": module.norm.weight.grad}


@needs_kernel
@pytest.mark.parametrize("masked", [False, True])
def test_module_by_winograd_equals_module_by_a_plain_convolution(masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = frame_mask(torch.tensor([30, 11, 1]), 30) if masked else None
    x = torch.randn(3, 64, 30, 13, generator=torch.Generator().manual_seed(1))
    x = x if mask is None else x * mask[:, None, :, None]
    results = []
    for allowed in ("1", "0"):
        monkeypatch.setenv("AFFEKT_WINOGRAD", allowed)
        torch.manual_seed(2)
        module = ConvModule(64, 64, kernel=3, pool=2, dropout=0.25)
        assert winograd.serves(module.convolution) == (allowed == "1")
        results.append(_step(module, x, mask))
    got, expected = results
    for name in expected:  # a ReLU in a few hundred opens or shuts by the difference, hence the gradients' tolerance
        assert not torch.equal(got[name], expected[name]), f"{name}: the same way twice"
        assert _relative_error(got[name], expected[name].double()) < (0.01 if name == "y" else 0.08), name


@needs_kernel
@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(16, 64, 3, padding=1),
        nn.Conv2d(64, 48, 3, padding=1),
        nn.Conv2d(64, 1056, 3, padding=1, device="meta"),
        nn.Conv2d(64, 64, 5, padding=2),
        nn.Conv2d(64, 64, 3),
        nn.Conv2d(64, 64, 3, padding=1, stride=2),
        nn.Conv2d(64, 64, 3, padding="same", dilation=2),
        nn.Conv2d(64, 64, 3, padding=1, groups=2),
        nn.Conv2d(64, 64, 3, padding=1, padding_mode="circular"),
    ],
    ids=str,
)
def test_other_convolutions_are_left_alone(convolution: nn.Conv2d) -> None:
    assert not winograd.serves(convolution)
    assert winograd.serves(nn.Conv2d(32, 96, 3, padding="same"))


@pytest.mark.parametrize("lacking", ["instructions", "compiler"])
def test_without_instructions_or_compiler_the_plain_convolution_serves(
    lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lacking == "instructions":
        monkeypatch.setattr(kernels, "processor_has", lambda feature: False)
    else:
        compiled = kernels.library
        monkeypatch.setattr(kernels, "library", lambda name: None if name == "winograd" else compiled(name))
    module = ConvModule(64, 64, kernel=3, pool=2, dropout=0.0)
    assert not winograd.serves(module.convolution)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = module(torch.randn(2, 64, 6, 5, generator=torch.Generator().manual_seed(3)), None)
    assert y.shape == (2, 64, 3, 3)
    assert y.dtype == torch.bfloat16 if fused.available() else True
