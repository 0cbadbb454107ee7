"""Fused convolution modules on the CPU: the mathematics of `blocks` in few passes over memory, several times faster.

Batch normalization, ReLU, average pooling and dropout have little arithmetic but, executed one by one, move tensors
through memory a dozen times. Here they are one pass forward and two backward, in C++ (`kernels/conv_module.cpp`).

The first module is fused with its convolution, whose output, the largest tensor of the network, is never stored. That
output is z = w'p + b with the nine inputs p of a position, so its batch statistics follow from those of p: the mean is
w' mean(p) + b, the variance w' Cov(p) w.

Convolutions compute in bfloat16, in training by :mod:`affekt.nn.winograd` where supported; all else is float32. Without
a compiler :func:`available` is false and the plain modules are used.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import BFloat16, Bool, Float, Int32
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from affekt.nn import kernels, winograd

KERNELS = "conv_module"
LANES = 16
MAX_MELS, MAX_POOL = 1024, 4  # as in conv_module.cpp


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("frames", "mels", "channels", "pool")]


class _Dropout(ctypes.Structure):
    _fields_ = [
        ("seed", ctypes.c_uint32),
        ("salt", ctypes.c_uint32),
        ("threshold", ctypes.c_uint32),
        ("scale", ctypes.c_float),
    ]


@dataclass(frozen=True, slots=True)
class Dropout:
    """Dropout whose mask is a hash of seed and position, so that the backward pass computes it again; p = 0: off."""

    p: float
    seed: int = 0

    def _argument(self) -> _Dropout:
        return _Dropout(self.seed & 0xFFFFFFFF, self.seed >> 32 & 0xFFFFFFFF, int(self.p * 2**32), 1.0 / (1.0 - self.p))


def available() -> bool:
    """Whether the compiled kernels can be used here."""
    return kernels.library(KERNELS) is not None


def _call(name: str, utterances: int, *arguments: Any) -> None:
    kernels.call(KERNELS, name, utterances, *arguments)


def _pooled(size: int, pool: int) -> int:
    return -(-size // pool)


def _batch_statistics(x: Tensor, lengths: Tensor, shape: _Shape, count: int) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel over the valid frames, float64."""
    sums = torch.zeros(len(x), 2, shape.channels)
    _call("batch_norm_sums", len(x), x, lengths, sums, shape)
    mean, square = sums.sum(0, dtype=torch.float64) / count
    return mean, (square - mean.square()).clamp_min(0)


def _patch_statistics(padded: Tensor, lengths: Tensor, shape: _Shape, count: int) -> tuple[Tensor, Tensor]:
    """Mean [9] and covariance [9, 9] of the inputs of a 3x3 convolution, float64."""
    moments = torch.zeros(len(padded), 9, 10, dtype=torch.float64)
    _call("patch_moments", len(padded), padded, lengths, moments, shape)
    second, mean = (moments.sum(0) / count).split([9, 1], dim=1)
    return mean[:, 0], second - mean @ mean.T


class _PoolFunction(torch.autograd.Function):
    """Batch norm, ReLU, average pooling and dropout of a convolution's output, channels last in bfloat16."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        lengths: Tensor,
        gamma: Tensor,
        beta: Tensor,
        fixed: tuple[Tensor, Tensor] | None,
        eps: float,
        pool: int,
        dropout: Dropout,
    ) -> tuple[Tensor, Tensor, Tensor]:
        utterances, frames, mels, channels = x.shape
        shape = _Shape(frames, mels, channels, pool)
        count = int(lengths.sum()) * mels
        mean, variance = fixed or _batch_statistics(x, lengths, shape, count)
        rstd = (variance + eps).rsqrt()
        scale = (gamma * rstd).float()
        shift = (beta - gamma * rstd * mean).float()
        y = x.new_empty(utterances, _pooled(frames, pool), _pooled(mels, pool), channels)
        _call("pool_forward", utterances, x, lengths, scale, shift, y, shape, dropout._argument())
        ctx.save_for_backward(x, lengths, scale, shift, mean, rstd)
        ctx.shape, ctx.dropout, ctx.count = shape, dropout, count
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, lengths, scale, shift, mean, rstd = ctx.saved_tensors
        shape, dropout, utterances = ctx.shape, ctx.dropout._argument(), len(x)
        grad = grad.contiguous()
        sums = torch.zeros(utterances, 2, shape.channels)
        _call("pool_backward_sums", utterances, x, lengths, scale, shift, grad, sums, shape, dropout)
        d_beta, products = sums.sum(0, dtype=torch.float64)
        d_gamma = (products - mean * d_beta) * rstd
        # dx = scale * (d - d_beta / count - normalized(x) * d_gamma / count), sorted by powers of x
        slope = (-scale * rstd * d_gamma / ctx.count).float()
        offset = (-scale * d_beta / ctx.count - slope * mean).float()
        dx = torch.empty_like(x)
        _call("pool_backward", utterances, x, lengths, scale, shift, slope, offset, grad, dx, shape, dropout)
        return dx, None, d_gamma.float(), d_beta.float(), None, None, None, None


class _FirstFunction(torch.autograd.Function):
    """The whole first module: 3x3 convolution of one channel, batch norm, ReLU, average pooling, dropout."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        lengths: Tensor,
        weight: Tensor,
        bias: Tensor,
        gamma: Tensor,
        beta: Tensor,
        fixed: tuple[Tensor, Tensor] | None,
        eps: float,
        pool: int,
        dropout: Dropout,
    ) -> tuple[Tensor, Tensor, Tensor]:
        utterances, frames, mels = x.shape
        channels = len(weight)
        shape = _Shape(frames, mels, channels, pool)
        padded = torch.nn.functional.pad(x.float(), (1, 1, 1, 1))
        count = int(lengths.sum()) * mels
        taps = weight.double().reshape(channels, 9).T  # [9, channels]
        patch_mean, covariance = _patch_statistics(padded, lengths, shape, count)
        if fixed is None:
            mean = patch_mean @ taps + bias
            variance = (taps * (covariance @ taps)).sum(0).clamp_min(0)
        else:
            mean, variance = fixed
        scale = gamma * (variance + eps).rsqrt()
        folded = (taps * scale).float().contiguous()
        shift = (beta + (bias - mean) * scale).float()
        y = torch.empty(utterances, _pooled(frames, pool), _pooled(mels, pool), channels, dtype=torch.bfloat16)
        _call("first_forward", utterances, padded, lengths, folded, shift, y, shape, dropout._argument())
        ctx.save_for_backward(padded, lengths, taps, folded, shift, gamma, variance, patch_mean, covariance)
        ctx.shape, ctx.dropout, ctx.count, ctx.eps = shape, dropout, count, eps
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        padded, lengths, taps, folded, shift, gamma, variance, patch_mean, covariance = ctx.saved_tensors
        shape, utterances, grad = ctx.shape, len(padded), grad.contiguous()
        sums = torch.zeros(utterances, 10, shape.channels)
        arguments = (padded, lengths, folded, shift, grad, sums, shape, ctx.dropout._argument())
        _call("first_backward", utterances, *arguments)
        total = sums.sum(0, dtype=torch.float64)
        # With r = 1 / sqrt(variance + eps), n = r w'(p - mean(p)) is the normalized output, gamma n + beta the input of
        # the ReLU, and d its gradient. Sums are over the N positions.
        #   d_beta  = sum d
        #   d_gamma = sum d n = r w' (sum d p - mean(p) sum d) = r w' centered
        #   dz      = gamma r (d - d_beta / N - n d_gamma / N), the gradient of a batch normalization
        #   dw      = sum dz p = gamma r (centered - d_gamma / N sum n p), where sum n p = N r Cov(p) w
        # The bias has no gradient: the normalization subtracts it again.
        products, d_beta = total[:9], total[9]  # sum d p, sum d
        rstd = (variance + ctx.eps).rsqrt()
        centered = products - torch.outer(patch_mean, d_beta)
        d_gamma = (taps * centered).sum(0) * rstd
        d_taps = gamma * rstd * (centered - covariance @ taps * rstd * d_gamma)
        d_weight = d_taps.T.reshape(-1, 1, 3, 3).float()
        return (
            None,
            None,
            d_weight,
            torch.zeros_like(d_beta).float(),
            d_gamma.float(),
            d_beta.float(),
            None,
            None,
            None,
            None,
        )


class Module(Protocol):
    """The parts of :class:`affekt.nn.blocks.ConvModule` that are fused."""

    training: bool

    @property
    def convolution(self) -> nn.Conv2d: ...
    @property
    def norm(self) -> nn.BatchNorm2d: ...
    @property
    def dropout(self) -> nn.Dropout: ...
    @property
    def pool(self) -> int: ...


def serves(module: Module, x: Float[Tensor, "batch channels frames mels"]) -> bool:
    """Whether this module can run fused: bfloat16 autocast on a CPU, channels in whole vectors, and a compiler."""
    return (
        x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and module.convolution.out_channels % LANES == 0
        and module.pool <= MAX_POOL
        and x.shape[3] <= MAX_MELS
        and (module.training or not torch.is_grad_enabled())
        and available()
    )


def run(
    module: Module,
    x: Float[Tensor, "batch channels frames mels"],
    mask: Bool[Tensor, "batch frames"] | None,
) -> Float[Tensor, "batch channels pooled_frames pooled_mels"]:
    """The output of a module, in bfloat16; frames outside the mask must be zero, and are zero in the output."""
    lengths = torch.full((len(x),), x.shape[2]) if mask is None else mask.sum(1)
    lengths = lengths.to(torch.int32)
    norm = module.norm
    if module.training:
        dropout = Dropout(module.dropout.p, int(torch.randint(2**62, ())))
        fixed = None
    else:
        dropout, fixed = Dropout(0.0), (norm.running_mean, norm.running_var)
    tail = (norm.weight, norm.bias, fixed, norm.eps, module.pool, dropout)
    convolution = module.convolution
    if convolution.in_channels == 1 and convolution.kernel_size == (3, 3) and not x.requires_grad:
        y, mean, variance = _FirstFunction.apply(x[:, 0], lengths, convolution.weight, _bias(convolution), *tail)  # type: ignore[no-untyped-call]
    else:
        y, mean, variance = _PoolFunction.apply(_convolved(module, x, lengths), lengths, *tail)  # type: ignore[no-untyped-call]
    if module.training:
        _update_running(norm, mean, variance, int(lengths.sum()) * x.shape[3])
    output: Tensor = y.permute(0, 3, 1, 2)
    return output


def _convolved(
    module: Module, x: Float[Tensor, "batch channels frames mels"], lengths: Int32[Tensor, " batch"]
) -> BFloat16[Tensor, "batch frames mels filters"]:
    """The module's convolution, channels last; frames past the lengths are undefined."""
    convolution = module.convolution
    if module.training and winograd.serves(convolution):
        rows = x.permute(0, 2, 3, 1).to(torch.bfloat16)
        return winograd.convolve(rows, lengths, convolution.weight, _bias(convolution))
    image = convolution(x.contiguous(memory_format=torch.channels_last)).to(torch.bfloat16)
    output: Tensor = image.permute(0, 2, 3, 1).contiguous()
    return output


def _bias(convolution: nn.Conv2d) -> Tensor:
    return torch.zeros(convolution.out_channels) if convolution.bias is None else convolution.bias


@torch.no_grad()
def _update_running(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Update the running averages of mean and unbiased variance, as PyTorch does."""
    averages = dict(norm.named_buffers())
    momentum = 0.1 if norm.momentum is None else norm.momentum
    averages["num_batches_tracked"].add_(1)
    averages["running_mean"].lerp_(mean.float(), momentum)
    averages["running_var"].lerp_((variance * count / max(count - 1, 1)).float(), momentum)
