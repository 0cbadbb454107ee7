"""3x3 convolutions with 2.25 times fewer multiplications, for CPUs with AVX512-BF16.

Winograd's F(2x2, 3x3) (Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks", section 4.1), forward
and both gradients, in C++; `kernels/winograd.cpp` derives it. Transformed pixels, sums of four, are rounded to
bfloat16, which a plain convolution in bfloat16 does not do; products are accumulated in float32. Results do not depend
on the number of threads. Other convolutions (:func:`serves`) are left to oneDNN, and all of them with
AFFEKT_WINOGRAD=0.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

import torch
from jaxtyping import BFloat16, Float, Int32
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from affekt.nn import kernels

LANES, MAX_CHANNELS = 32, 1024  # as in winograd.cpp
FILTER_TRANSFORM = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))
"""G of the paper, with which a filter g becomes G g G'."""


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("frames", "mels", "inputs", "outputs")]


def available() -> bool:
    """Whether the machine has the instructions and a compiler, and AFFEKT_WINOGRAD is not 0."""
    wanted = os.environ.get("AFFEKT_WINOGRAD", "1") != "0"
    return wanted and kernels.processor_has("avx512_bf16") and kernels.library("winograd") is not None


def serves(convolution: nn.Conv2d) -> bool:
    """Whether a convolution is supported: 3x3, stride 1, zero padding, channels that are multiples of 32."""
    channels = (convolution.in_channels, convolution.out_channels)
    return (
        convolution.kernel_size == (3, 3)
        and convolution.padding in ("same", (1, 1))
        and convolution.padding_mode == "zeros"
        and convolution.stride == convolution.dilation == (1, 1)
        and convolution.groups == 1
        and all(c % LANES == 0 and c <= MAX_CHANNELS for c in channels)
        and available()
    )


def convolve(
    x: BFloat16[Tensor, "batch frames mels inputs"],
    lengths: Int32[Tensor, " batch"],
    weight: Float[Tensor, "outputs inputs 3 3"],
    bias: Float[Tensor, " outputs"],
) -> BFloat16[Tensor, "batch frames mels outputs"]:
    """The 'same' convolution of the valid frames; frames past `lengths` count as zero and are zero in the output."""
    y: Tensor = _Convolution.apply(x.contiguous(), lengths, weight, bias)  # type: ignore[no-untyped-call]
    return y


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, lengths: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, lengths, weight)
        return _convolved(x, lengths, weight, bias.float())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, lengths, weight = ctx.saved_tensors
        grad = grad.contiguous()
        dx = None
        if ctx.needs_input_grad[0]:  # a convolution too, its filters turned round
            dx = _convolved(grad, lengths, weight.flip(2, 3).transpose(0, 1), torch.zeros(x.shape[3]))
        return dx, None, *_filter_gradient(x, lengths, grad)


def _convolved(x: Tensor, lengths: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    batch, frames, mels, inputs = x.shape
    y = x.new_empty(batch, frames, mels, len(weight))
    shape = _Shape(frames, mels, inputs, len(weight))
    kernels.call("winograd", "winograd_convolve", batch, x, lengths, _transformed(weight), bias, y, shape)
    return y


def _transformed(weight: Float[Tensor, "outputs inputs 3 3"]) -> BFloat16[Tensor, "16 panels pairs panel 2"]:
    """G g G' of each filter, outputs in the kernel's panels, pairs of inputs side by side."""
    outputs, inputs = weight.shape[:2]
    panel = 64 if outputs % 64 == 0 else 32
    transform = torch.tensor(FILTER_TRANSFORM, dtype=torch.float64)  # which autocast leaves alone
    filters = weight.reshape(outputs // panel, panel, inputs // 2, 2, 9).permute(4, 0, 2, 1, 3)
    transformed = torch.kron(transform, transform) @ filters.reshape(9, -1).double()
    return transformed.to(torch.bfloat16).reshape(16, *filters.shape[1:])


def _filter_gradient(
    x: Tensor, lengths: Tensor, grad: Tensor
) -> tuple[Float[Tensor, "outputs inputs 3 3"], Float[Tensor, " outputs"]]:
    batch, frames, mels, inputs = x.shape
    outputs = grad.shape[3]
    sums, bias_sums = torch.empty(batch, 3, 3, inputs, outputs), torch.zeros(batch, outputs)
    shape = _Shape(frames, mels, inputs, outputs)
    kernels.call("winograd", "winograd_filter_gradient", batch, x, lengths, grad, sums, bias_sums, shape)
    return sums.sum(0).permute(3, 2, 0, 1).contiguous(), bias_sums.sum(0)
