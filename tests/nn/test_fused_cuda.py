"""Oracle: the kernels of the GPU against the plain modules, on a GPU if there is one, else in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from affekt.nn import Network, NetworkConfig, fused, fused_cuda
from affekt.nn.blocks import ConvModule, frame_mask

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
pytest.importorskip("triton", reason="no Triton on this machine")
torch.backends.cudnn.allow_tf32 = False  # the plain modules are the oracle

LENGTHS = torch.tensor([11, 30, 1, 24])
Run = Callable[[ConvModule, Tensor, Tensor | None], Tensor]


def make_module(in_channels: int, pool: int, filters: int = 32, dropout: float = 0.0) -> ConvModule:
    torch.manual_seed(in_channels + pool)
    module = ConvModule(in_channels, filters, kernel=3, pool=pool, dropout=dropout)
    nn.init.uniform_(module.norm.weight, 0.5, 1.5)
    nn.init.uniform_(module.norm.bias, -0.5, 0.5)
    return module.to(DEVICE)


def make_input(in_channels: int, mask: Tensor | None) -> Tensor:
    x = torch.randn(4, in_channels, 30, 13, generator=torch.Generator().manual_seed(1)).bfloat16().float().to(DEVICE)
    return x if mask is None else x * mask[:, None, :, None]


def plain(module: ConvModule, x: Tensor, mask: Tensor | None) -> Tensor:
    return module(x, mask)[0]


def step(run: Run, module: ConvModule, x: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """Output, gradients and running averages of one training step."""
    x = x.clone().requires_grad_(x.shape[1] > 1)
    y = run(module, x, mask)
    weights = torch.linspace(-1, 1, y.numel(), device=DEVICE).reshape(y.shape)
    if mask is not None:
        weights = weights * mask[:, None, :: module.pool, None]
    (y.float() * weights).sum().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in module.named_parameters()}
    running = {name: buffer.clone() for name, buffer in module.norm.named_buffers()}
    return {"y": y.detach().float(), **gradients, **running, **({"x": x.grad} if x.requires_grad else {})}


def relative_error(got: Tensor, expected: Tensor) -> float:
    return float((got.float() - expected.float()).norm() / expected.float().norm().clamp_min(1e-3))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("pool", [1, 2, 3, 4])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_kernels_equal_the_plain_module(in_channels: int, pool: int, masked: bool) -> None:
    mask = frame_mask(LENGTHS, 30).to(DEVICE) if masked else None
    x = make_input(in_channels, mask)
    expected = step(plain, make_module(in_channels, pool), x, mask)
    got = step(fused_cuda.run, make_module(in_channels, pool), x, mask)
    assert got["num_batches_tracked"] == expected["num_batches_tracked"] == 1
    assert torch.count_nonzero(got["convolution.bias"]) == 0  # in theory; the plain module is left with rounding errors
    for name in expected.keys() - {"num_batches_tracked", "convolution.bias"}:
        # bfloat16 keeps 8 bits; near zero it flips a few ReLUs, which is what the gradients' tolerance is for
        tolerance = 0.005 if name in ("y", "running_mean", "running_var") else 0.06
        assert relative_error(got[name], expected[name]) < tolerance, name


def test_the_first_module_is_float32_inside() -> None:
    """Its gradients differ from float32's by what rounding the output and its gradient to bfloat16 costs."""
    x = make_input(1, None)
    expected, got = (step(run, make_module(1, 2), x, None) for run in (plain, fused_cuda.run))
    assert relative_error(got["running_mean"], expected["running_mean"]) < 1e-5
    assert relative_error(got["running_var"], expected["running_var"]) < 1e-5
    for name in ("convolution.weight", "norm.weight", "norm.bias"):
        assert relative_error(got[name], expected[name]) < 4e-3, name


def test_channels_need_no_power_of_two() -> None:
    x = make_input(3, None)
    expected, got = (step(run, make_module(3, 2, filters=48), x, None) for run in (plain, fused_cuda.run))
    assert relative_error(got["y"], expected["y"]) < 0.005
    assert relative_error(got["x"], expected["x"]) < 0.06


@pytest.mark.parametrize("in_channels", [1, 3])
def test_a_constant_channel_is_no_division_by_zero(in_channels: int) -> None:
    got = step(fused_cuda.run, make_module(in_channels, 2), torch.ones(2, in_channels, 8, 13, device=DEVICE), None)
    assert all(torch.isfinite(tensor.float()).all() for tensor in got.values())


@pytest.mark.skipif(DEVICE == "cuda" or not fused.available(), reason="compares the CPU's kernels with the interpreter")
@pytest.mark.parametrize("in_channels", [1, 32])
def test_a_seed_drops_what_it_drops_on_a_cpu(in_channels: int) -> None:
    x = make_input(in_channels, None)
    outputs = []
    for run in (fused.run, fused_cuda.run):
        module = make_module(in_channels, 2, dropout=0.25)
        torch.manual_seed(7)
        outputs.append(run(module, x, None).float().detach())
    zeros = [output == 0 for output in outputs]
    assert float((zeros[0] != zeros[1]).float().mean()) < 1e-3  # but for a window of which bfloat16 closes every ReLU
    assert 0.2 < float(zeros[1].float().mean()) < 0.4
    assert relative_error(outputs[1], outputs[0]) < 0.01


def test_gradients_see_the_mask_of_the_outputs() -> None:
    module = make_module(1, 2, dropout=0.5)
    nn.init.constant_(module.norm.bias, 10.0)  # every ReLU is open: only dropout makes zeros
    y = fused_cuda.run(module, make_input(1, None), None)
    (y.float() * (y == 0)).sum().backward()  # a gradient into dropped elements only
    assert 0.45 < float((y == 0).float().mean()) < 0.55
    assert torch.count_nonzero(module.norm.bias.grad) == 0
    assert torch.count_nonzero(module.convolution.weight.grad) == 0


@pytest.mark.parametrize("masked", [False, True])
def test_evaluation_agrees_with_the_plain_network(masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = NetworkConfig(filters=(32, 32), pools=(2, 2), masked=masked)
    network = Network(config, mels=16, classes=4).eval().to(DEVICE)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    x, lengths = torch.randn(3, 60, 16, device=DEVICE), torch.tensor([60, 41, 24], device=DEVICE)
    with torch.no_grad():
        expected = network(x, lengths).scores
        monkeypatch.setattr(fused, "serves", lambda module, x: False)
        monkeypatch.setattr(fused_cuda, "serves", fused_cuda.fits)
        with torch.autocast(DEVICE, torch.bfloat16):
            got = network(x, lengths).scores
    assert relative_error(got, expected) < 0.03


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_no_step_waits_for_the_device(in_channels: int, masked: bool, no_waiting: TorchDispatchMode) -> None:
    mask = frame_mask(LENGTHS, 30).to(DEVICE) if masked else None
    module, x = make_module(in_channels, 2, dropout=0.25), make_input(in_channels, mask)
    with pytest.raises(AssertionError, match="waits"), no_waiting:
        x.sum().item()
    with no_waiting:
        fused_cuda.run(module, x, mask).float().sum().backward()
    assert module.convolution.weight.grad is not None


def test_a_module_that_the_kernels_cannot_compute_is_left_to_the_plain_path() -> None:
    x = torch.zeros(1, 1, 10, 13)
    assert fused_cuda.fits(make_module(1, 4), x)
    assert not fused_cuda.fits(make_module(1, 5), x)
    assert not fused_cuda.fits(make_module(1, 2, filters=24), x)
    assert not fused_cuda.fits(make_module(1, 2), torch.zeros(1, 1, 10, 1025))
    assert not fused_cuda.fits(make_module(1, 2).eval(), x)  # with gradients
    with torch.autocast("cpu", torch.bfloat16):
        assert not fused_cuda.serves(make_module(1, 2), x)  # it is on a CPU


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from affekt.nn.kernels import conv_module_triton, lstm_triton

FIXED = dict(MELS=40, CHANNELS=128, POOL=2, THRESHOLD=1 << 30, GAIN=4 / 3, ROWS=16, LANES=128, PARTS=64)
WHOLE = dict.fromkeys(
    ("positions", "frames", "pooled_frames", "windows", "programs", "width", "utterances"), "i32")
OTHERS = WHOLE | dict(
    lengths="*i32", count="*fp64", totals="*fp64", batches="*i64", seed="*i64", eps="fp32", momentum="fp32",
    y="*bf16", dx="*bf16", grad="*bf16")
for name, kernel in (vars(conv_module_triton) | vars(lstm_triton)).items():
    if not hasattr(kernel, "arg_names") or name.startswith("_"):
        continue
    for masked in (False, True):
        known = FIXED | {"MASKED": masked, "PRECISION": "tf32x3", "CELLS": 32}
        fixed = {argument: value for argument, value in known.items() if argument in kernel.arg_names}
        if "statistics" in name or "gradients" in name or name == "add_up":
            fixed["LANES"] = 16
        x = "*fp32" if name.startswith(("first", "patch")) else "*bf16"
        added = ("moments", "sums") if name in ("first_statistics", "first_gradients") else ()
        others = OTHERS | dict.fromkeys(added, "*fp64") | ({"grad": "*fp32"} if "lstm" in name else {})
        types = {argument: "constexpr" if argument in fixed else others.get(argument, x if argument == "x" else "*fp32")
                 for argument in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=types, constexprs=fixed)
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
        print(name, len(compiled.asm["cubin"]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Triton's compiler is for Linux")
def test_every_kernel_compiles_to_an_h100s_machine_code(tmp_path: Any) -> None:
    """Without a GPU too: the assembler comes with Triton."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    compiled = [line.split() for line in done.stdout.splitlines()]
    assert len({name for name, _ in compiled}) == 14
    assert all(int(size) > 1_000 for _, size in compiled)
