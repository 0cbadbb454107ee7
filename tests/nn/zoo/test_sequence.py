"""Layers over ragged sequences, against PyTorch's own on each sequence alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from affekt.nn.blocks import max_pool
from affekt.nn.zoo.sequence import Convolution, SequenceNorm, forward_lstm, last_valid

LENGTHS = torch.tensor([12, 5, 1])
MASK = torch.arange(12) < LENGTHS[:, None]


def sequences(channels: int) -> torch.Tensor:
    return torch.randn(3, channels, 12, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(1, 1, 1), (3, 1, 4), (10, 1, 1), (2, 2, 1), (5, 1, 2)])
def test_convolution_against_a_loop(kernel: int, stride: int, dilation: int) -> None:
    layer, x = Convolution(2, 3, kernel, stride, dilation), sequences(2)
    together, mask = layer(x, MASK)
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    for row, length in enumerate(LENGTHS.tolist()):
        own = x[row, :, :length].numpy()
        frames = -(-length // stride)
        assert mask[row].sum() == frames
        for t in range(frames):
            first = t * stride - ((kernel - 1) * dilation - (stride - 1)) // 2
            seen = [first + k * dilation for k in range(kernel)]
            window = np.stack([own[:, s] if 0 <= s < length else np.zeros(2) for s in seen], axis=1)
            expected = (weight * window).sum((1, 2)) + bias
            np.testing.assert_allclose(together[row, :, t].detach().numpy(), expected, atol=1e-5)
    assert (together.transpose(1, 2)[~mask] == 0).all()


def test_norm_in_training_sees_valid_frames_only() -> None:
    norm, x = SequenceNorm(2), sequences(2)
    valid = x.transpose(1, 2)[MASK]
    expected = (valid - valid.mean(0)) / (valid.var(0, correction=0) + norm.eps).sqrt()
    torch.testing.assert_close(norm.train()(x, MASK).transpose(1, 2)[MASK], expected, atol=1e-5, rtol=1e-4)


def test_lstm_of_any_depth_and_its_last_valid_state() -> None:
    lstm = nn.LSTM(2, 4, num_layers=2, batch_first=True, proj_size=3)
    x = sequences(2).transpose(1, 2)
    states = forward_lstm(lstm, x, MASK)
    last = last_valid(states, MASK)
    for row, length in enumerate(LENGTHS.tolist()):
        alone, _ = lstm(x[row : row + 1, :length])
        torch.testing.assert_close(states[row, :length], alone[0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(last[row], alone[0, -1], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("pool", [(2, 2), (2, 4), (3, 1)])
def test_max_pool_against_a_loop(pool: tuple[int, int]) -> None:
    x = torch.randn(3, 2, 12, 5, generator=torch.Generator().manual_seed(4)) - 3.0  # zeros would win
    pooled, mask = max_pool(x, pool, MASK)
    for row, length in enumerate(LENGTHS.tolist()):
        for t, f in np.ndindex(-(-length // pool[0]), -(-5 // pool[1])):
            window = x[row, :, t * pool[0] : min((t + 1) * pool[0], length), f * pool[1] : (f + 1) * pool[1]]
            torch.testing.assert_close(pooled[row, :, t, f], window.amax((1, 2)))
    assert (pooled.permute(0, 2, 1, 3)[~mask] == 0).all()
    torch.testing.assert_close(max_pool(x, pool)[0][0], pooled[0])
