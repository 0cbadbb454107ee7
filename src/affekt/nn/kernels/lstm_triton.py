"""The recurrence of a bidirectional LSTM on a GPU, in Triton: all its steps in one launch.

One program computes some utterances in one direction and keeps their states, and the recurrent weights, where it
computes: nothing but the gates passes through memory between two steps. Gates are in PyTorch's order: input, forget,
cell, output. Products with the inputs, which need no order, are matrix products outside.

Reference: Hochreiter & Schmidhuber 1997, "Long Short-Term Memory", with the forget gate of Gers et al. 2000.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _tanh(x):
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def _weights(recurrent, gate, CELLS: tl.constexpr):
    """Where the weights [gate's cells, states] of one gate in this program's direction lie."""
    rows, columns = tl.arange(0, CELLS)[:, None], tl.arange(0, CELLS)[None, :]
    return recurrent + ((tl.program_id(1) * 4 + gate) * CELLS + rows) * CELLS + columns


@triton.jit
def lstm_forward(
    added,
    recurrent,
    lengths,
    gates,
    states,
    cells,
    utterances,
    frames,
    CELLS: tl.constexpr,
    MASKED: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
):
    """The gates as they were opened, the states and the cells of every frame, from what the inputs add to the gates.

    added and gates [utterances, frames, 2, 4, cells], recurrent [2, 4, cells, cells], states and cells [utterances,
    frames, 2, cells]. The second direction goes from the last frame to the first; in the masked mode states are zero
    past an utterance's length, so that it starts at the last valid one.
    """
    direction = tl.program_id(1)
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.arange(0, CELLS)
    there = (n < utterances)[:, None]
    length = tl.load(lengths + n, mask=n < utterances, other=0) if MASKED else tl.zeros_like(n) + frames
    w_input = tl.trans(tl.load(_weights(recurrent, 0, CELLS)))
    w_forget = tl.trans(tl.load(_weights(recurrent, 1, CELLS)))
    w_cell = tl.trans(tl.load(_weights(recurrent, 2, CELLS)))
    w_output = tl.trans(tl.load(_weights(recurrent, 3, CELLS)))
    h = tl.zeros([ROWS, CELLS], tl.float32)
    s = tl.zeros([ROWS, CELLS], tl.float32)
    for step in range(frames):
        t = step + direction * (frames - 1 - 2 * step)
        place = (n.to(tl.int64)[:, None] * frames + t) * 2 + direction
        at = place * 4 * CELLS + c[None, :]
        i = tl.load(added + at, mask=there, other=0.0) + tl.dot(h, w_input, input_precision=PRECISION)
        f = tl.load(added + at + CELLS, mask=there, other=0.0) + tl.dot(h, w_forget, input_precision=PRECISION)
        g = tl.load(added + at + 2 * CELLS, mask=there, other=0.0) + tl.dot(h, w_cell, input_precision=PRECISION)
        o = tl.load(added + at + 3 * CELLS, mask=there, other=0.0) + tl.dot(h, w_output, input_precision=PRECISION)
        i, f, g, o = tl.sigmoid(i), tl.sigmoid(f), _tanh(g), tl.sigmoid(o)
        valid = (t < length)[:, None]
        s = tl.where(valid, f * s + i * g, 0.0)
        h = tl.where(valid, o * _tanh(s), 0.0)
        tl.store(gates + at, i, mask=there)
        tl.store(gates + at + CELLS, f, mask=there)
        tl.store(gates + at + 2 * CELLS, g, mask=there)
        tl.store(gates + at + 3 * CELLS, o, mask=there)
        tl.store(states + place * CELLS + c[None, :], h, mask=there)
        tl.store(cells + place * CELLS + c[None, :], s, mask=there)


@triton.jit
def lstm_backward(
    gates,
    recurrent,
    lengths,
    cells,
    grad,
    changes,
    utterances,
    frames,
    CELLS: tl.constexpr,
    MASKED: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
):
    """changes, shaped as the gates: the gradient of what the inputs add to them. grad is that of the states."""
    direction = tl.program_id(1)
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.arange(0, CELLS)
    there = (n < utterances)[:, None]
    length = tl.load(lengths + n, mask=n < utterances, other=0) if MASKED else tl.zeros_like(n) + frames
    w_input = tl.load(_weights(recurrent, 0, CELLS))
    w_forget = tl.load(_weights(recurrent, 1, CELLS))
    w_cell = tl.load(_weights(recurrent, 2, CELLS))
    w_output = tl.load(_weights(recurrent, 3, CELLS))
    dh = tl.zeros([ROWS, CELLS], tl.float32)
    ds = tl.zeros([ROWS, CELLS], tl.float32)
    for step in range(frames):
        t = (1 - direction) * (frames - 1) + (2 * direction - 1) * step
        before = t + 2 * direction - 1  # the frame whose cells this one went on from
        place = (n.to(tl.int64)[:, None] * frames + t) * 2 + direction
        at = place * 4 * CELLS + c[None, :]
        i = tl.load(gates + at, mask=there, other=0.0)
        f = tl.load(gates + at + CELLS, mask=there, other=0.0)
        g = tl.load(gates + at + 2 * CELLS, mask=there, other=0.0)
        o = tl.load(gates + at + 3 * CELLS, mask=there, other=0.0)
        opened = _tanh(tl.load(cells + place * CELLS + c[None, :], mask=there, other=0.0))
        has_before = there & (before >= 0) & (before < frames)
        past = tl.load(cells + (place + 2 * (before - t)) * CELLS + c[None, :], mask=has_before, other=0.0)
        valid = (t < length)[:, None] & there
        dh += tl.load(grad + place * CELLS + c[None, :], mask=there, other=0.0)
        ds += dh * o * (1.0 - opened * opened)
        di = tl.where(valid, ds * g * i * (1.0 - i), 0.0)
        df = tl.where(valid, ds * past * f * (1.0 - f), 0.0)
        dg = tl.where(valid, ds * i * (1.0 - g * g), 0.0)
        do = tl.where(valid, dh * opened * o * (1.0 - o), 0.0)
        tl.store(changes + at, di, mask=there)
        tl.store(changes + at + CELLS, df, mask=there)
        tl.store(changes + at + 2 * CELLS, dg, mask=there)
        tl.store(changes + at + 3 * CELLS, do, mask=there)
        ds = tl.where(valid, ds * f, 0.0)
        dh = tl.dot(di, w_input, input_precision=PRECISION) + tl.dot(df, w_forget, input_precision=PRECISION)
        dh += tl.dot(dg, w_cell, input_precision=PRECISION) + tl.dot(do, w_output, input_precision=PRECISION)
