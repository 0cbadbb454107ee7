"""The passes of a convolution module over memory on a GPU, in Triton; `conv_module.cpp` is the same for a CPU.

Tensors are channels-last: x [utterances, frames, mels, channels] in bfloat16. A *window* is what one output position
averages over: POOL x POOL input positions, fewer at the edges and, in the masked mode, past an utterance's last frame.
Dropout's mask is the hash of (seed, position) that the C++ kernels use: the same seed drops the same elements, and the
backward pass computes it again instead of storing it.

Kernels that sum leave one partial sum for each program, which small kernels add in float64 in a fixed order: the same
numbers every time, and nothing waits for the host. The first module's convolution has nine inputs. They and a one are
ten columns of a matrix of patches, padded to sixteen, so that convolution, moments and gradients are matrix products.
"""

from __future__ import annotations

import triton
import triton.language as tl

PATCH = 16
"""Columns of the matrix of patches: nine inputs, a one, and zeros; what a matrix product needs at least."""


@triton.jit
def _window(w, windows, frames, pooled_frames, lengths, MELS: tl.constexpr, POOL: tl.constexpr, MASKED: tl.constexpr):
    """Utterance, first frame and first mel band of each window, and its utterance's length."""
    pooled_mels: tl.constexpr = (MELS + POOL - 1) // POOL
    row = w // pooled_mels
    utterance = row // pooled_frames
    t, m = (row % pooled_frames) * POOL, (w % pooled_mels) * POOL
    if MASKED:
        length = tl.load(lengths + utterance, mask=w < windows, other=0)
    else:
        length = tl.zeros_like(t) + frames
    return utterance, t, m, length


@triton.jit
def _share(t, m, length, MELS: tl.constexpr, POOL: tl.constexpr):
    """One over the number of positions in each window."""
    positions = (tl.minimum(t + POOL, length) - t) * (tl.minimum(m + POOL, MELS) - m)
    return 1.0 / tl.maximum(positions, 1).to(tl.float32)


@triton.jit
def _kept(w, c, seed, CHANNELS: tl.constexpr, THRESHOLD: tl.constexpr, GAIN: tl.constexpr):
    """Dropout's factor of each output element, 0 or GAIN = 1 / (1 - p), by MurmurHash3's finaliser, salted inside."""
    if THRESHOLD == 0:
        return tl.full([w.shape[0], c.shape[0]], 1.0, tl.float32)
    key = tl.load(seed)
    h = (w[:, None] * CHANNELS + c[None, :]).to(tl.uint32) ^ key.to(tl.uint32)
    h = h ^ (h >> 16)
    h = h * 0x85EBCA6B
    h = h ^ ((h >> 13) ^ (key >> 32).to(tl.uint32))
    h = h * 0xC2B2AE35
    h = h ^ (h >> 16)
    return tl.where(h >= THRESHOLD, GAIN, 0.0)


@triton.jit
def _at(utterance, t, m, frames, c, MELS: tl.constexpr, CHANNELS: tl.constexpr):
    """Where the channels of input positions lie."""
    return ((utterance.to(tl.int64) * frames + t) * MELS + m)[:, None] * CHANNELS + c[None, :]


@triton.jit
def _patches(x, utterance, t, m, valid, frames, MELS: tl.constexpr):
    """The nine inputs around each position and a one, [positions, 16]; zero past the edges and where not valid."""
    k = tl.arange(0, 16)[None, :]
    at_t, at_m = t[:, None] + k // 3 - 1, m[:, None] + k % 3 - 1
    inside = valid[:, None] & (k < 9) & (at_t >= 0) & (at_t < frames) & (at_m >= 0) & (at_m < MELS)
    values = tl.load(x + (utterance.to(tl.int64)[:, None] * frames + at_t) * MELS + at_m, mask=inside, other=0.0)
    return tl.where((k == 9) & valid[:, None], 1.0, values)


@triton.jit
def batch_norm_sums(
    x,
    lengths,
    sums,
    positions,
    frames,
    MELS: tl.constexpr,
    CHANNELS: tl.constexpr,
    MASKED: tl.constexpr,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
):
    """sums [programs, 2, channels]: of x and of x squared over the valid positions."""
    c = tl.program_id(1) * LANES + tl.arange(0, LANES)
    total = tl.zeros([ROWS, LANES], tl.float32)
    squares = tl.zeros([ROWS, LANES], tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(positions, ROWS), tl.num_programs(0)):
        n = tile * ROWS + tl.arange(0, ROWS)
        valid = n < positions
        if MASKED:
            row = n // MELS
            valid = valid & (row % frames < tl.load(lengths + row // frames, mask=valid, other=0))
        at = n.to(tl.int64)[:, None] * CHANNELS + c[None, :]
        values = tl.load(x + at, mask=valid[:, None] & (c < CHANNELS)[None, :], other=0.0).to(tl.float32)
        total += values
        squares += values * values
    out = sums + tl.program_id(0) * 2 * CHANNELS + c
    tl.store(out, tl.sum(total, 0), mask=c < CHANNELS)
    tl.store(out + CHANNELS, tl.sum(squares, 0), mask=c < CHANNELS)


@triton.jit
def _add_up(sums, row, c, programs, ROWS: tl.constexpr, CHANNELS: tl.constexpr, PARTS: tl.constexpr):
    """The sum [lanes] over the programs of one row of sums [programs, rows, channels], float64."""
    total = tl.zeros([PARTS, c.shape[0]], tl.float64)
    for first in range(0, programs, PARTS):
        p = first + tl.arange(0, PARTS)
        at = (p[:, None] * ROWS + row) * CHANNELS + c[None, :]
        total += tl.load(sums + at, mask=(p < programs)[:, None] & (c < CHANNELS)[None, :], other=0.0).to(tl.float64)
    return tl.sum(total, 0)


@triton.jit
def add_up(sums, totals, programs, width, PARTS: tl.constexpr, LANES: tl.constexpr):
    """totals [width], float64: sums [programs, width] over the programs."""
    column = tl.program_id(0) * LANES + tl.arange(0, LANES)
    total = tl.zeros([PARTS, LANES], tl.float64)
    for first in range(0, programs, PARTS):
        p = first + tl.arange(0, PARTS)
        live = (p < programs)[:, None] & (column < width)[None, :]
        total += tl.load(sums + p[:, None] * width + column[None, :], mask=live, other=0.0).to(tl.float64)
    tl.store(totals + column, tl.sum(total, 0), mask=column < width)


@triton.jit
def _normalise(
    mean, variance, bias, gamma, beta, eps, count, momentum, running_mean, running_variance, batches, fixed, c, live
):
    """scale = gamma / deviation and the shift that belongs to it; running averages are those of mean + bias."""
    b = tl.load(bias + c, mask=live, other=0.0).to(tl.float64)
    rstd = 1.0 / tl.sqrt(variance + eps)
    scale = tl.load(gamma + c, mask=live, other=0.0).to(tl.float64) * rstd
    shift = tl.load(beta + c, mask=live, other=0.0).to(tl.float64) - mean * scale
    tl.store(fixed + c, mean, mask=live)
    old_mean = tl.load(running_mean + c, mask=live, other=0.0).to(tl.float64)
    old_variance = tl.load(running_variance + c, mask=live, other=0.0).to(tl.float64)
    unbiased = variance * count / tl.maximum(count - 1.0, 1.0)
    tl.store(running_mean + c, old_mean + momentum * (mean + b - old_mean), mask=live)
    tl.store(running_variance + c, old_variance + momentum * (unbiased - old_variance), mask=live)
    if tl.program_id(0) == 0:
        tl.store(batches, tl.load(batches) + 1)
    return scale, shift, rstd


@triton.jit
def batch_norm_statistics(
    sums,
    count,
    bias,
    gamma,
    beta,
    running_mean,
    running_variance,
    batches,
    folded,
    programs,
    eps,
    momentum,
    CHANNELS: tl.constexpr,
    PARTS: tl.constexpr,
    LANES: tl.constexpr,
):
    """folded [4, channels]: mean, scale, shift and 1 / deviation, from `batch_norm_sums`; running averages move on."""
    c = tl.program_id(0) * LANES + tl.arange(0, LANES)
    live = c < CHANNELS
    n = tl.load(count)
    mean = _add_up(sums, 0, c, programs, 2, CHANNELS, PARTS) / n
    variance = tl.maximum(_add_up(sums, 1, c, programs, 2, CHANNELS, PARTS) / n - mean * mean, 0.0)
    scale, shift, rstd = _normalise(
        mean, variance, bias, gamma, beta, eps, n, momentum, running_mean, running_variance, batches, folded, c, live
    )
    tl.store(folded + CHANNELS + c, scale, mask=live)
    tl.store(folded + 2 * CHANNELS + c, shift, mask=live)
    tl.store(folded + 3 * CHANNELS + c, rstd, mask=live)


@triton.jit
def pool_forward(
    x,
    lengths,
    scale,
    shift,
    y,
    seed,
    windows,
    frames,
    pooled_frames,
    MELS: tl.constexpr,
    CHANNELS: tl.constexpr,
    POOL: tl.constexpr,
    MASKED: tl.constexpr,
    THRESHOLD: tl.constexpr,
    GAIN: tl.constexpr,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
):
    """y = dropout(pool(relu(x * scale + shift)))."""
    w = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(1) * LANES + tl.arange(0, LANES)
    live = (w < windows)[:, None] & (c < CHANNELS)[None, :]
    utterance, t, m, length = _window(w, windows, frames, pooled_frames, lengths, MELS, POOL, MASKED)
    a = tl.load(scale + c, mask=c < CHANNELS, other=0.0)[None, :]
    b = tl.load(shift + c, mask=c < CHANNELS, other=0.0)[None, :]
    total = tl.zeros([ROWS, LANES], tl.float32)
    for i in tl.static_range(POOL):
        for j in tl.static_range(POOL):
            here = live & ((t + i < length) & (m + j < MELS))[:, None]
            at = _at(utterance, t + i, m + j, frames, c, MELS, CHANNELS)
            values = tl.load(x + at, mask=here, other=0.0).to(tl.float32)
            total += tl.where(here, tl.maximum(values * a + b, 0.0), 0.0)
    factor = _share(t, m, length, MELS, POOL)[:, None] * _kept(w, c, seed, CHANNELS, THRESHOLD, GAIN)
    tl.store(y + w.to(tl.int64)[:, None] * CHANNELS + c[None, :], total * factor, mask=live)


@triton.jit
def pool_backward_sums(
    x,
    lengths,
    scale,
    shift,
    grad,
    sums,
    seed,
    windows,
    frames,
    pooled_frames,
    MELS: tl.constexpr,
    CHANNELS: tl.constexpr,
    POOL: tl.constexpr,
    MASKED: tl.constexpr,
    THRESHOLD: tl.constexpr,
    GAIN: tl.constexpr,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
):
    """With d the gradient that reaches the ReLU's input: sums [programs, 2, channels] of d and of d * x."""
    c = tl.program_id(1) * LANES + tl.arange(0, LANES)
    a = tl.load(scale + c, mask=c < CHANNELS, other=0.0)[None, :]
    b = tl.load(shift + c, mask=c < CHANNELS, other=0.0)[None, :]
    total = tl.zeros([ROWS, LANES], tl.float32)
    products = tl.zeros([ROWS, LANES], tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(windows, ROWS), tl.num_programs(0)):
        w = tile * ROWS + tl.arange(0, ROWS)
        live = (w < windows)[:, None] & (c < CHANNELS)[None, :]
        utterance, t, m, length = _window(w, windows, frames, pooled_frames, lengths, MELS, POOL, MASKED)
        above = tl.load(grad + w.to(tl.int64)[:, None] * CHANNELS + c[None, :], mask=live, other=0.0).to(tl.float32)
        above *= _share(t, m, length, MELS, POOL)[:, None] * _kept(w, c, seed, CHANNELS, THRESHOLD, GAIN)
        for i in tl.static_range(POOL):
            for j in tl.static_range(POOL):
                here = live & ((t + i < length) & (m + j < MELS))[:, None]
                at = _at(utterance, t + i, m + j, frames, c, MELS, CHANNELS)
                values = tl.load(x + at, mask=here, other=0.0).to(tl.float32)
                d = tl.where(here & (values * a + b > 0.0), above, 0.0)
                total += d
                products += d * values
    out = sums + tl.program_id(0) * 2 * CHANNELS + c
    tl.store(out, tl.sum(total, 0), mask=c < CHANNELS)
    tl.store(out + CHANNELS, tl.sum(products, 0), mask=c < CHANNELS)


@triton.jit
def pool_gradients(
    sums,
    count,
    folded,
    gradients,
    programs,
    CHANNELS: tl.constexpr,
    PARTS: tl.constexpr,
    LANES: tl.constexpr,
):
    """gradients [4, channels]: of gamma and beta, and slope and offset of dx = scale * d + slope * x + offset."""
    c = tl.program_id(0) * LANES + tl.arange(0, LANES)
    live = c < CHANNELS
    n = tl.load(count)
    mean = tl.load(folded + c, mask=live, other=0.0).to(tl.float64)
    scale = tl.load(folded + CHANNELS + c, mask=live, other=0.0).to(tl.float64)
    rstd = tl.load(folded + 3 * CHANNELS + c, mask=live, other=0.0).to(tl.float64)
    d_beta = _add_up(sums, 0, c, programs, 2, CHANNELS, PARTS)
    d_gamma = (_add_up(sums, 1, c, programs, 2, CHANNELS, PARTS) - mean * d_beta) * rstd
    slope = -scale * rstd * d_gamma / n
    tl.store(gradients + c, d_gamma, mask=live)
    tl.store(gradients + CHANNELS + c, d_beta, mask=live)
    tl.store(gradients + 2 * CHANNELS + c, slope, mask=live)
    tl.store(gradients + 3 * CHANNELS + c, -scale * d_beta / n - slope * mean, mask=live)


@triton.jit
def pool_backward(
    x,
    lengths,
    scale,
    shift,
    slope,
    offset,
    grad,
    dx,
    seed,
    windows,
    frames,
    pooled_frames,
    MELS: tl.constexpr,
    CHANNELS: tl.constexpr,
    POOL: tl.constexpr,
    MASKED: tl.constexpr,
    THRESHOLD: tl.constexpr,
    GAIN: tl.constexpr,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
):
    """dx = scale * d + slope * x + offset; zero past an utterance's end."""
    w = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(1) * LANES + tl.arange(0, LANES)
    live = (w < windows)[:, None] & (c < CHANNELS)[None, :]
    utterance, t, m, length = _window(w, windows, frames, pooled_frames, lengths, MELS, POOL, MASKED)
    a = tl.load(scale + c, mask=c < CHANNELS, other=0.0)[None, :]
    b = tl.load(shift + c, mask=c < CHANNELS, other=0.0)[None, :]
    u = tl.load(slope + c, mask=c < CHANNELS, other=0.0)[None, :]
    v = tl.load(offset + c, mask=c < CHANNELS, other=0.0)[None, :]
    above = tl.load(grad + w.to(tl.int64)[:, None] * CHANNELS + c[None, :], mask=live, other=0.0).to(tl.float32)
    above *= _share(t, m, length, MELS, POOL)[:, None] * _kept(w, c, seed, CHANNELS, THRESHOLD, GAIN)
    for i in tl.static_range(POOL):
        for j in tl.static_range(POOL):
            exists = live & ((t + i < frames) & (m + j < MELS))[:, None]
            here = exists & (t + i < length)[:, None]
            at = _at(utterance, t + i, m + j, frames, c, MELS, CHANNELS)
            values = tl.load(x + at, mask=here, other=0.0).to(tl.float32)
            d = tl.where(values * a + b > 0.0, above, 0.0)
            tl.store(dx + at, tl.where(here, a * d + u * values + v, 0.0), mask=exists)


@triton.jit
def patch_moments(
    x,
    lengths,
    moments,
    positions,
    frames,
    MELS: tl.constexpr,
    MASKED: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
):
    """moments [programs, 16, 16]: sums over the valid positions of the products of their patches' columns."""
    total = tl.zeros([16, 16], tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(positions, ROWS), tl.num_programs(0)):
        n = tile * ROWS + tl.arange(0, ROWS)
        row = n // MELS
        utterance, t = row // frames, row % frames
        valid = n < positions
        if MASKED:
            valid = valid & (t < tl.load(lengths + utterance, mask=valid, other=0))
        p = _patches(x, utterance, t, n % MELS, valid, frames, MELS)
        total += tl.dot(tl.trans(p), p, input_precision=PRECISION)
    k = tl.arange(0, 16)
    tl.store(moments + (tl.program_id(0) * 16 + k[:, None]) * 16 + k[None, :], total)


@triton.jit
def first_statistics(
    moments,
    count,
    weight,
    bias,
    gamma,
    beta,
    running_mean,
    running_variance,
    batches,
    taps,
    folded,
    products,
    patch_mean,
    eps,
    momentum,
    CHANNELS: tl.constexpr,
    LANES: tl.constexpr,
):
    """What the first module needs of its batch, from the sums of its patches' products: their mean and covariance.

    taps [16, channels]: the filters times scale, and the shift, as rows of a matrix that multiplies patches; folded
    [4, channels] as in `batch_norm_statistics`; products [9, channels]: covariance times filters; patch_mean [16].
    """
    c = tl.program_id(0) * LANES + tl.arange(0, LANES)
    live = c < CHANNELS
    k = tl.arange(0, 16)
    n = tl.load(count)
    means = tl.load(moments + 9 * 16 + k) / n  # the row of the ones
    tl.store(patch_mean + k, means)
    filters = tl.load(weight + c[None, :] * 9 + k[:, None], mask=live[None, :] & (k < 9)[:, None], other=0.0)
    filters = filters.to(tl.float64)
    mean = tl.sum(means[:, None] * filters, 0)
    variance = tl.zeros([LANES], tl.float64)
    for i in range(9):
        second = tl.load(moments + i * 16 + k) / n
        covariance = second - means * tl.sum(tl.where(k == i, means, 0.0), 0)
        product = tl.sum(covariance[:, None] * filters, 0)
        tl.store(products + i * CHANNELS + c, product, mask=live)
        variance += product * tl.load(weight + c * 9 + i, mask=live, other=0.0).to(tl.float64)
    variance = tl.maximum(variance, 0.0)
    scale, shift, rstd = _normalise(
        mean, variance, bias, gamma, beta, eps, n, momentum, running_mean, running_variance, batches, folded, c, live
    )
    rows = tl.where((k == 9)[:, None], shift[None, :], filters * scale[None, :])
    tl.store(taps + k[:, None] * CHANNELS + c[None, :], rows, mask=live[None, :])
    tl.store(folded + CHANNELS + c, scale, mask=live)
    tl.store(folded + 2 * CHANNELS + c, shift, mask=live)
    tl.store(folded + 3 * CHANNELS + c, rstd, mask=live)


@triton.jit
def first_forward(
    x,
    lengths,
    taps,
    y,
    seed,
    windows,
    frames,
    pooled_frames,
    MELS: tl.constexpr,
    CHANNELS: tl.constexpr,
    POOL: tl.constexpr,
    MASKED: tl.constexpr,
    THRESHOLD: tl.constexpr,
    GAIN: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
):
    """y = dropout(pool(relu(patches @ taps)))."""
    w = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(1) * LANES + tl.arange(0, LANES)
    utterance, t, m, length = _window(w, windows, frames, pooled_frames, lengths, MELS, POOL, MASKED)
    k = tl.arange(0, 16)
    matrix = tl.load(taps + k[:, None] * CHANNELS + c[None, :], mask=(c < CHANNELS)[None, :], other=0.0)
    total = tl.zeros([ROWS, LANES], tl.float32)
    for i in tl.static_range(POOL):
        for j in tl.static_range(POOL):
            here = (w < windows) & (t + i < length) & (m + j < MELS)
            p = _patches(x, utterance, t + i, m + j, here, frames, MELS)
            total += tl.maximum(tl.dot(p, matrix, input_precision=PRECISION), 0.0)
    factor = _share(t, m, length, MELS, POOL)[:, None] * _kept(w, c, seed, CHANNELS, THRESHOLD, GAIN)
    live = (w < windows)[:, None] & (c < CHANNELS)[None, :]
    tl.store(y + w.to(tl.int64)[:, None] * CHANNELS + c[None, :], total * factor, mask=live)


@triton.jit
def first_backward(
    x,
    lengths,
    taps,
    grad,
    sums,
    seed,
    windows,
    frames,
    pooled_frames,
    MELS: tl.constexpr,
    CHANNELS: tl.constexpr,
    POOL: tl.constexpr,
    MASKED: tl.constexpr,
    THRESHOLD: tl.constexpr,
    GAIN: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
):
    """sums [programs, 16, channels]: of d times each column of the patches; the tenth, of the ones, is d's own sum."""
    c = tl.program_id(1) * LANES + tl.arange(0, LANES)
    k = tl.arange(0, 16)
    matrix = tl.load(taps + k[:, None] * CHANNELS + c[None, :], mask=(c < CHANNELS)[None, :], other=0.0)
    total = tl.zeros([16, LANES], tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(windows, ROWS), tl.num_programs(0)):
        w = tile * ROWS + tl.arange(0, ROWS)
        live = (w < windows)[:, None] & (c < CHANNELS)[None, :]
        utterance, t, m, length = _window(w, windows, frames, pooled_frames, lengths, MELS, POOL, MASKED)
        above = tl.load(grad + w.to(tl.int64)[:, None] * CHANNELS + c[None, :], mask=live, other=0.0).to(tl.float32)
        above *= _share(t, m, length, MELS, POOL)[:, None] * _kept(w, c, seed, CHANNELS, THRESHOLD, GAIN)
        for i in tl.static_range(POOL):
            for j in tl.static_range(POOL):
                here = (w < windows) & (t + i < length) & (m + j < MELS)
                p = _patches(x, utterance, t + i, m + j, here, frames, MELS)
                d = tl.where(tl.dot(p, matrix, input_precision=PRECISION) > 0.0, above, 0.0)
                total += tl.dot(tl.trans(p), d, input_precision=PRECISION)
    out = sums + (tl.program_id(0) * 16 + k[:, None]) * CHANNELS + c[None, :]
    tl.store(out, total, mask=(c < CHANNELS)[None, :])


@triton.jit
def first_gradients(
    sums,
    weight,
    folded,
    products,
    patch_mean,
    gradients,
    d_weight,
    CHANNELS: tl.constexpr,
    LANES: tl.constexpr,
):
    """gradients [2, channels]: of gamma and beta; d_weight [channels, 9]; from sums [16, channels]."""
    c = tl.program_id(0) * LANES + tl.arange(0, LANES)
    k = tl.arange(0, 16)
    live = c < CHANNELS
    tap = (k < 9)[:, None] & live[None, :]
    scale = tl.load(folded + CHANNELS + c, mask=live, other=0.0).to(tl.float64)
    rstd = tl.load(folded + 3 * CHANNELS + c, mask=live, other=0.0).to(tl.float64)
    d_beta = tl.load(sums + 9 * CHANNELS + c, mask=live, other=0.0)
    means = tl.load(patch_mean + k).to(tl.float64)
    centred = tl.load(sums + k[:, None] * CHANNELS + c[None, :], mask=tap, other=0.0)
    centred -= means[:, None] * d_beta[None, :]
    filters = tl.load(weight + c[None, :] * 9 + k[:, None], mask=tap, other=0.0).to(tl.float64)
    d_gamma = tl.sum(filters * centred, 0) * rstd
    spread = tl.load(products + k[:, None] * CHANNELS + c[None, :], mask=tap, other=0.0).to(tl.float64)
    tl.store(
        d_weight + c[None, :] * 9 + k[:, None],
        scale[None, :] * (centred - spread * (rstd * d_gamma)[None, :]),
        mask=tap,
    )
    tl.store(gradients + c, d_gamma, mask=live)
    tl.store(gradients + CHANNELS + c, d_beta, mask=live)
