"""The recurrence of a bidirectional LSTM on the CPU, in C++ (`kernels/lstm.cpp`), with its own gradient.

PyTorch's LSTM computes the gradient with respect to its input too, which frozen features do not need, and visits padded
sequences step by step. Here the caller projects the input of all steps and both directions in one product, and what
remains for each step is a product with a small matrix, which stays in the first-level cache.

With gates i, f, o (sigmoid) and g (tanh), a step is

    c_t = f c_{t-1} + i g,    h_t = o tanh(c_t).

Backwards, with dh and dc the gradients of h_t and c_t,

    dc += dh o (1 - tanh(c_t)^2)
    d(i, f, g before their nonlinearity) = dc (g i (1 - i), c_{t-1} f (1 - f), i (1 - g^2))
    d(o before its nonlinearity) = dh tanh(c_t) o (1 - o).
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from affekt.nn import kernels

SOURCE = "lstm"
LANES, MAX_CELLS = 16, 256  # as in lstm.cpp
GATES = (0, 1, 3, 2)
"""Where i, f, o and g lie in PyTorch's weights (i, f, g, o)."""


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("steps", "cells")]


def serves(x: Tensor, cells: int) -> bool:
    """Whether the compiled recurrence can be used for this input and this number of cells."""
    fits = cells % LANES == 0 and cells <= MAX_CELLS
    return fits and x.device.type == "cpu" and x.dtype == torch.float32 and kernels.library(SOURCE) is not None


def bidirectional_states(
    projected: Float[Tensor, "batch steps 2 gates"],
    recurrent: Float[Tensor, "2 cells gates"],
    lengths: Int[Tensor, " batch"],
) -> Float[Tensor, "batch steps 2 cells"]:
    """States h_t of the forward and the backward direction, from zero states; zero past an utterance's end.

    Args:
        projected: W x_t + b of each step, float32; gates in the order i, f, o, g.
        recurrent: the transposed recurrent weights of both directions, gates in the same order.
        lengths: valid steps of each utterance; the backward direction starts at the last of them.
    """
    states: Tensor = _Recurrence.apply(projected, recurrent, lengths)  # type: ignore[no-untyped-call]
    return states


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, projected: Tensor, recurrent: Tensor, lengths: Tensor) -> Tensor:
        projected, recurrent, lengths = projected.contiguous(), recurrent.contiguous(), lengths.contiguous()
        batch, steps, _, _ = projected.shape
        shape = _Shape(steps, recurrent.shape[1])
        states, cells = (projected.new_zeros(batch, steps, 2, shape.cells) for _ in range(2))
        gates = torch.zeros_like(projected)
        kernels.call(SOURCE, "lstm_forward", batch, projected, recurrent, lengths, states, cells, gates, shape)
        ctx.save_for_backward(states, cells, gates, recurrent, lengths)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        states, cells, gates, recurrent, lengths = ctx.saved_tensors
        batch, steps, _, count = cells.shape
        given, transposed, grads = gradients[0].contiguous(), recurrent.mT.contiguous(), torch.zeros_like(gates)
        shape = _Shape(steps, count)
        kernels.call(SOURCE, "lstm_backward", batch, given, transposed, lengths, cells, gates, grads, shape)
        # dW = sum_t h_{t-1}' da_t; the step before t is t + 1 for the backward direction, and zero past the end.
        before = (states[:, :-1, 0], states[:, 1:, 1]), (grads[:, 1:, 0], grads[:, :-1, 1])
        pairs = zip(*before, strict=True)
        d_recurrent = torch.stack([h.flatten(0, 1).T @ d.flatten(0, 1) for h, d in pairs])
        return grads, d_recurrent, None
