"""The convolution modules in few passes over memory, on an NVIDIA GPU: what :mod:`fused` does on a CPU, in Triton.

The kernels are in `kernels/conv_module_triton.py`; convolutions are cuDNN's, in bfloat16 and without their bias, which
the normalisation removes again (the running mean counts it). Nothing here waits for the device, so a step of training
can be recorded as a CUDA graph. Where :func:`serves` is false (no Triton, AFFEKT_FUSED=0, float32), the plain modules
do the work.

References: :mod:`fused` for the mathematics; Ioffe & Szegedy 2015, section 3, for the gradients of batch normalisation.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch
from jaxtyping import BFloat16, Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from affekt.nn.fused import MAX_MELS, MAX_POOL, Module

LANES, ROWS = 16, 8  # channels are whole multiples of LANES; output positions of one program
MAX_LANES = 128
PROGRAMS_PER_PROCESSOR, FEWEST_PROGRAMS = 4, 4
SUMMED_TOGETHER = 64
MOMENTS_PRECISION, PRECISION = "tf32x3", "tf32"
"""Of the first module's matrix products: for its statistics as good as float32's; TensorFloat-32 for what is rounded to
bfloat16 afterwards or was before."""
FIRST_ROWS, FIRST_WARPS = 32, 8
"""Output positions and warps of a program of the first module: what needs the fewest registers."""


@cache
def available() -> bool:
    """Whether Triton is here and AFFEKT_FUSED does not forbid it."""
    return os.environ.get("AFFEKT_FUSED", "1") != "0" and importlib.util.find_spec("triton") is not None


def serves(module: Module, x: Float[Tensor, "batch channels frames mels"]) -> bool:
    """Whether this module can run fused: bfloat16 autocast on a GPU, channels in whole vectors, and Triton."""
    return (
        x.device.type == "cuda"
        and torch.is_autocast_enabled("cuda")
        and torch.get_autocast_dtype("cuda") == torch.bfloat16
        and fits(module, x)
        and available()
    )


def fits(module: Module, x: Float[Tensor, "batch channels frames mels"]) -> bool:
    """Whether the kernels can compute this module: its sizes, and that nobody differentiates its evaluation."""
    return (
        module.convolution.out_channels % LANES == 0
        and module.pool <= MAX_POOL
        and x.shape[3] <= MAX_MELS
        and (module.training or not torch.is_grad_enabled())
    )


def run(
    module: Module,
    x: Float[Tensor, "batch channels frames mels"],
    mask: Bool[Tensor, "batch frames"] | None,
) -> BFloat16[Tensor, "batch channels pooled_frames pooled_mels"]:
    """What `module` computes, in bfloat16; frames outside the mask must be zero, and come out as zero."""
    with torch.cuda.device_of(x):
        return _run(module, x, mask)


def _run(module: Module, x: Tensor, mask: Tensor | None) -> Tensor:
    lengths = None if mask is None else mask.sum(1, dtype=torch.int32)
    convolution = module.convolution
    way: type[_First | _Pool]
    if convolution.in_channels == 1 and convolution.kernel_size == (3, 3) and not x.requires_grad:
        inputs, way = x[:, 0].float().contiguous(), _First
    else:
        inputs, way = _convolved(convolution, x), _Pool
    if module.training:
        batch = _Batch.of(inputs, lengths, module)
        y: Tensor = way.train(inputs, batch, module)
    else:
        y = way.evaluate(inputs, _Batch.of(inputs, lengths, module, dropout=0.0), module)
    return y.permute(0, 3, 1, 2)


def _convolved(convolution: nn.Conv2d, x: Tensor) -> BFloat16[Tensor, "batch frames mels filters"]:
    """The convolution without its bias, channels last."""
    weight = convolution.weight.to(torch.bfloat16, memory_format=torch.channels_last)
    image = x.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    y = nn.functional.conv2d(
        image, weight, None, convolution.stride, convolution.padding, convolution.dilation, convolution.groups
    )
    return y.permute(0, 2, 3, 1).contiguous()


@dataclass(frozen=True)
class _Batch:
    """The sizes of a batch, its utterances' lengths, and its dropout; what every kernel is told."""

    utterances: int
    frames: int
    mels: int
    channels: int
    pool: int
    lengths: Tensor | None
    count: Tensor
    seed: Tensor
    dropout: float

    @classmethod
    def of(cls, x: Tensor, lengths: Tensor | None, module: Module, dropout: float | None = None) -> _Batch:
        utterances, frames, mels = x.shape[:3]
        count = torch.full((), utterances * frames, dtype=torch.float64, device=x.device)
        if lengths is not None:
            count = lengths.sum(dtype=torch.float64)
        seed = torch.randint(2**62, (), device=x.device) if dropout is None else count  # which is not looked at
        p = module.dropout.p if dropout is None else dropout
        channels = module.convolution.out_channels
        return cls(utterances, frames, mels, channels, module.pool, lengths, count * mels, seed, p)

    @property
    def positions(self) -> int:
        return self.utterances * self.frames * self.mels

    @property
    def pooled_shape(self) -> tuple[int, int, int, int]:
        return self.utterances, -(-self.frames // self.pool), -(-self.mels // self.pool), self.channels

    @property
    def windows(self) -> int:
        utterances, frames, mels, _ = self.pooled_shape
        return utterances * frames * mels

    @property
    def lanes(self) -> int:
        """Channels of one program: a power of two."""
        return min(MAX_LANES, 1 << (self.channels - 1).bit_length())

    def grid(self, programs: int) -> tuple[int, int]:
        return programs, -(-self.channels // self.lanes)

    def sizes(self) -> dict[str, Any]:
        """Arguments of the kernels that look at windows."""
        dropped = {"THRESHOLD": int(self.dropout * 2**32), "GAIN": 1.0 / (1.0 - self.dropout)}
        shape = {"MELS": self.mels, "CHANNELS": self.channels, "POOL": self.pool, "MASKED": self.lengths is not None}
        places = {"windows": self.windows, "frames": self.frames, "pooled_frames": self.pooled_shape[1]}
        blocks = {"ROWS": ROWS, "LANES": self.lanes}
        return {"seed": self.seed, "lengths": self.lengths_or_any} | places | shape | dropped | blocks

    @property
    def lengths_or_any(self) -> Tensor:
        """Kernels want a pointer; without the masked mode they do not look."""
        return self.seed if self.lengths is None else self.lengths


class _Pool:
    """What follows a convolution: batch norm, ReLU, average pooling, dropout."""

    @staticmethod
    def train(x: Tensor, batch: _Batch, module: Module) -> Tensor:
        norm, bias = module.norm, _bias(module.convolution)
        y: Tensor = _PoolFunction.apply(x, bias, norm.weight, norm.bias, norm, batch)  # type: ignore[no-untyped-call]
        return y

    @staticmethod
    def evaluate(x: Tensor, batch: _Batch, module: Module) -> Tensor:
        return _pool_forward(x, batch, *_fixed(module))


class _First:
    """The whole first module: its convolution's output, the network's largest tensor, is never stored."""

    @staticmethod
    def train(x: Tensor, batch: _Batch, module: Module) -> Tensor:
        norm, convolution = module.norm, module.convolution
        arguments = (convolution.weight, _bias(convolution), norm.weight, norm.bias)
        y: Tensor = _FirstFunction.apply(x, *arguments, norm, batch)  # type: ignore[no-untyped-call]
        return y

    @staticmethod
    def evaluate(x: Tensor, batch: _Batch, module: Module) -> Tensor:
        scale, shift = _fixed(module)
        taps = x.new_zeros(_kernels().PATCH, batch.channels)
        taps[:9] = module.convolution.weight.reshape(-1, 9).T * scale
        taps[9] = shift
        return _first_forward(x, batch, taps)


class _PoolFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor, norm: nn.BatchNorm2d, batch: _Batch
    ) -> Tensor:
        programs = _programs(x.device)
        sums = _partial_sums(batch, programs, 2)
        shape = {"MELS": batch.mels, "CHANNELS": batch.channels, "MASKED": batch.lengths is not None}
        _kernels().batch_norm_sums[batch.grid(programs)](
            x, batch.lengths_or_any, sums, batch.positions, batch.frames, **shape, ROWS=8 * ROWS, LANES=batch.lanes
        )
        folded = x.new_empty(4, batch.channels, dtype=torch.float32)
        _kernels().batch_norm_statistics[_lane_grid(batch)](
            sums, batch.count, bias, gamma, beta, *_running(norm), folded, programs, *_constants(norm), **_adding(batch)
        )
        ctx.save_for_backward(x, folded)
        ctx.batch = batch
        return _pool_forward(x, batch, folded[1], folded[2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, folded = ctx.saved_tensors
        batch: _Batch = ctx.batch
        grad, programs = grad.contiguous(), _programs(x.device)
        sums = _partial_sums(batch, programs, 2)
        _kernels().pool_backward_sums[batch.grid(programs)](
            x=x, scale=folded[1], shift=folded[2], grad=grad, sums=sums, **batch.sizes()
        )
        gradients = torch.empty_like(folded)
        _kernels().pool_gradients[_lane_grid(batch)](sums, batch.count, folded, gradients, programs, **_adding(batch))
        d_gamma, d_beta, slope, offset = gradients
        dx = torch.empty_like(x)
        _kernels().pool_backward[batch.grid(-(-batch.windows // ROWS))](
            x=x, scale=folded[1], shift=folded[2], slope=slope, offset=offset, grad=grad, dx=dx, **batch.sizes()
        )
        return dx, torch.zeros_like(d_beta), d_gamma, d_beta, None, None


class _FirstFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        gamma: Tensor,
        beta: Tensor,
        norm: nn.BatchNorm2d,
        batch: _Batch,
    ) -> Tensor:
        kernels, programs = _kernels(), _programs(x.device)
        weight = weight.contiguous()
        moments = x.new_empty(programs, kernels.PATCH, kernels.PATCH)
        shape = {"MELS": batch.mels, "MASKED": batch.lengths is not None, "PRECISION": MOMENTS_PRECISION}
        kernels.patch_moments[(programs,)](
            x, batch.lengths_or_any, moments, batch.positions, batch.frames, **shape, ROWS=8 * ROWS, num_warps=2
        )
        taps = x.new_empty(kernels.PATCH, batch.channels)
        folded, products = x.new_empty(4, batch.channels), x.new_empty(9, batch.channels)
        patch_mean = x.new_empty(kernels.PATCH)
        outputs = (taps, folded, products, patch_mean)
        kernels.first_statistics[_lane_grid(batch)](
            _added(moments),
            batch.count,
            weight,
            bias,
            gamma,
            beta,
            *_running(norm),
            *outputs,
            *_constants(norm),
            CHANNELS=batch.channels,
            LANES=LANES,
        )
        ctx.save_for_backward(x, weight, *outputs)
        ctx.batch = batch
        return _first_forward(x, batch, taps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, taps, folded, products, patch_mean = ctx.saved_tensors
        batch: _Batch = ctx.batch
        kernels, programs = _kernels(), _programs(x.device)
        sums = _partial_sums(batch, programs, kernels.PATCH)
        kernels.first_backward[batch.grid(programs)](
            x=x, taps=taps, grad=grad.contiguous(), sums=sums, **_first_sizes(batch)
        )
        gradients, d_weight = x.new_empty(2, batch.channels), torch.empty_like(weight)
        parts = (_added(sums), weight, folded, products, patch_mean, gradients, d_weight)
        kernels.first_gradients[_lane_grid(batch)](*parts, CHANNELS=batch.channels, LANES=LANES)
        d_gamma, d_beta = gradients
        return None, d_weight, torch.zeros_like(d_beta), d_gamma, d_beta, None, None


def _pool_forward(x: Tensor, batch: _Batch, scale: Tensor, shift: Tensor) -> Tensor:
    y = x.new_empty(batch.pooled_shape)
    grid = batch.grid(-(-batch.windows // ROWS))
    _kernels().pool_forward[grid](x=x, scale=scale, shift=shift, y=y, **batch.sizes())
    return y


def _first_forward(x: Tensor, batch: _Batch, taps: Tensor) -> Tensor:
    y = x.new_empty(batch.pooled_shape, dtype=torch.bfloat16)
    grid = batch.grid(-(-batch.windows // FIRST_ROWS))
    _kernels().first_forward[grid](x=x, taps=taps, y=y, **_first_sizes(batch))
    return y


def _first_sizes(batch: _Batch) -> dict[str, Any]:
    return batch.sizes() | {"PRECISION": PRECISION, "ROWS": FIRST_ROWS, "num_warps": FIRST_WARPS}


def _added(sums: Float[Tensor, "programs ..."]) -> Float[Tensor, ...]:
    """The sum over the programs, float64."""
    totals = torch.empty(sums.shape[1:], dtype=torch.float64, device=sums.device)
    width = totals.numel()
    _kernels().add_up[(-(-width // LANES),)](sums, totals, len(sums), width, PARTS=SUMMED_TOGETHER, LANES=LANES)
    return totals


def _fixed(module: Module) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
    """Scale and shift by the running averages, for a convolution without its bias."""
    norm = module.norm
    mean, variance = (dict(norm.named_buffers())[name] for name in ("running_mean", "running_var"))
    scale = norm.weight * (variance + norm.eps).rsqrt()
    return scale, norm.bias + (_bias(module.convolution) - mean) * scale


def _bias(convolution: nn.Conv2d) -> Tensor:
    if convolution.bias is None:
        return convolution.weight.new_zeros(convolution.out_channels)
    return convolution.bias


def _running(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor]:
    averages = dict(norm.named_buffers())
    return averages["running_mean"], averages["running_var"], averages["num_batches_tracked"]


def _constants(norm: nn.BatchNorm2d) -> tuple[float, float]:
    return norm.eps, 0.1 if norm.momentum is None else norm.momentum


def _adding(batch: _Batch) -> dict[str, int]:
    """Arguments of the kernels that add partial sums, each for a few channels."""
    return {"CHANNELS": batch.channels, "PARTS": SUMMED_TOGETHER, "LANES": LANES}


def _lane_grid(batch: _Batch) -> tuple[int]:
    return (-(-batch.channels // LANES),)


def _partial_sums(batch: _Batch, programs: int, rows: int) -> Float[Tensor, "programs rows channels"]:
    return torch.empty(programs, rows, batch.channels, device=batch.seed.device)


@cache
def _programs(device: torch.device) -> int:
    """Programs of a kernel that sums: as many as keep the GPU busy, whatever the batch."""
    if device.type != "cuda":  # Triton's interpreter
        return FEWEST_PROGRAMS
    return PROGRAMS_PER_PROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count


@cache
def _kernels() -> ModuleType:
    from affekt.nn.kernels import conv_module_triton

    return conv_module_triton
