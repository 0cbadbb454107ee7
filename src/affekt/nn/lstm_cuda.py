"""A bidirectional LSTM of one layer on an NVIDIA GPU: its recurrence in one launch each way, in Triton.

cuDNN launches kernels for every step, which take longer to start than to run where there are 32 cells; and it wants the
lengths of masked utterances on the host. Here (`kernels/lstm_triton.py`) nothing waits for the device, so a step of
training in the masked mode can be recorded as a CUDA graph too. All is float32, matrix products inside the recurrence
by three products of TensorFloat-32. Where :func:`serves` is false, PyTorch's layer does the work.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float, Int32
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from affekt.nn import fused_cuda

ROWS = 16  # utterances of a program: what a matrix product needs at least
FEWEST_CELLS, MOST_CELLS = 16, 64
PRECISION = "tf32x3"


def serves(lstm: nn.LSTM, sequence: Tensor) -> bool:
    """Whether this layer can run by the kernels: on a GPU under bfloat16 autocast, a shape that fits, and Triton."""
    return (
        sequence.device.type == "cuda"
        and torch.is_autocast_enabled("cuda")
        and torch.get_autocast_dtype("cuda") == torch.bfloat16
        and fits(lstm)
        and fused_cuda.available()
    )


def fits(lstm: nn.LSTM) -> bool:
    """Whether the kernels can compute this layer: one layer, both directions, cells of a power of two."""
    cells = lstm.hidden_size
    shape = (lstm.num_layers, lstm.bidirectional, lstm.batch_first, lstm.bias, lstm.proj_size)
    return (
        shape == (1, True, True, True, 0) and cells in range(FEWEST_CELLS, MOST_CELLS + 1) and not cells & (cells - 1)
    )


def run(
    lstm: nn.LSTM, sequence: Float[Tensor, "batch frames inputs"], lengths: Int32[Tensor, " batch"] | None
) -> Float[Tensor, "batch frames features"]:
    """The states of both directions, concatenated; zero past the lengths, where the second direction starts."""
    with torch.cuda.device_of(sequence), torch.autocast(sequence.device.type, enabled=False):
        weight, bias_ih, bias_hh = (torch.cat(_both(lstm, name)) for name in ("weight_ih", "bias_ih", "bias_hh"))
        added = nn.functional.linear(sequence.float(), weight, bias_ih + bias_hh)
        recurrent = torch.stack(_both(lstm, "weight_hh"))
        states: Tensor = _Recurrence.apply(added, recurrent, lengths)  # type: ignore[no-untyped-call]
        return states


def _both(lstm: nn.LSTM, name: str) -> list[Tensor]:
    """A parameter of both directions."""
    return [getattr(lstm, f"{name}_l0{direction}") for direction in ("", "_reverse")]


class _Recurrence(torch.autograd.Function):
    """From what the inputs add to the gates [batch, frames, 8 cells] to the states [batch, frames, 2 cells]."""

    @staticmethod
    def forward(ctx: Any, added: Tensor, recurrent: Tensor, lengths: Tensor | None) -> Tensor:
        batch, frames, width = added.shape
        added = added.contiguous()
        gates = torch.empty_like(added)
        states, cells = (added.new_empty(batch, frames, width // 4) for _ in range(2))
        tensors = (added, recurrent, _pointer(lengths, added), gates, states, cells)
        _kernels().lstm_forward[_grid(batch)](*tensors, batch, frames, **_shape(width, lengths))
        ctx.save_for_backward(gates, recurrent, cells, states, lengths)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gates, recurrent, cells, states, lengths = ctx.saved_tensors
        batch, frames, width = gates.shape
        changes = torch.empty_like(gates)
        tensors = (gates, recurrent, _pointer(lengths, gates), cells, grad.contiguous(), changes)
        _kernels().lstm_backward[_grid(batch)](*tensors, batch, frames, **_shape(width, lengths))
        return changes, _recurrent_gradient(changes, states), None


def _recurrent_gradient(
    changes: Float[Tensor, "batch frames gates"], states: Float[Tensor, "batch frames features"]
) -> Float[Tensor, "directions gates cells"]:
    """Of the recurrent weights: the gates' gradients times the states that they were computed from."""
    batch, frames, width = changes.shape
    cells = width // 8
    by_way = states.unflatten(2, (2, cells))
    before = torch.zeros_like(by_way)
    before[:, 1:, 0] = by_way[:, :-1, 0]
    before[:, :-1, 1] = by_way[:, 1:, 1]
    gates = changes.reshape(batch * frames, 2, 4 * cells)
    return torch.einsum("ndg,ndc->dgc", gates, before.reshape(batch * frames, 2, cells))


def _grid(batch: int) -> tuple[int, int]:
    return -(-batch // ROWS), 2


def _shape(width: int, lengths: Tensor | None) -> dict[str, Any]:
    return {"CELLS": width // 8, "MASKED": lengths is not None, "PRECISION": PRECISION, "ROWS": ROWS}


def _pointer(lengths: Tensor | None, other: Tensor) -> Tensor:
    """Kernels want a pointer; without the masked mode they do not look."""
    return other if lengths is None else lengths


@cache
def _kernels() -> ModuleType:
    from affekt.nn.kernels import lstm_triton

    return lstm_triton
