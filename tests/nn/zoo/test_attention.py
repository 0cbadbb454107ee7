"""Attention weights: they sum to 1 over the valid frames, padding has none, and they are what the formulas say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from affekt.nn.zoo.dilated_resnet import FrameSelfAttention
from affekt.nn.zoo.ecapa import AttentiveStatistics
from affekt.nn.zoo.tdnn_lstm import REACH_FRAMES, RestrictedAttention

LENGTHS = torch.tensor([20, 7, 1])
MASK = torch.arange(20) < LENGTHS[:, None]


def states(features: int) -> Tensor:
    return torch.randn(3, 20, features, generator=torch.Generator().manual_seed(3))


def sums_to_1(weights: Tensor, mask: Tensor = MASK) -> None:
    torch.testing.assert_close(weights.sum(1), torch.ones_like(weights[:, 0]))
    assert (weights[~mask] == 0).all()
    assert (weights[mask] > 0).all()


@pytest.mark.parametrize("name", ["rnn-attention", "lstm-attention", "crnn-3d"])
def test_weights_of_frames(name: str, small) -> None:
    network = small(name)
    sums_to_1(network.weights(states(16), MASK))


def test_local_attention_is_a_softmax_of_u_times_y(small) -> None:
    network, y = small("rnn-attention"), states(16)
    scores = np.exp((y[1, :7] @ network.score.weight[0]).detach().numpy().astype(np.float64))
    np.testing.assert_allclose(network.weights(y, MASK)[1, :7].detach().numpy(), scores / scores.sum(), rtol=1e-5)


def test_context_aware_attention_hears_the_past_alone_unless_it_is_bidirectional(small) -> None:
    """Changing the last frame changes the ratio of the weights of the first two only where the future is heard."""
    y = states(16)[:1]
    changed = y.clone()
    changed[0, -1] += 5.0
    for bidirectional in (False, True):
        network = small("lstm-attention", bidirectional=bidirectional)
        before, after = (network.weights(x, None)[0, :2] for x in (y, changed))
        same = torch.allclose(before[0] / before[1], after[0] / after[1], rtol=1e-6)
        assert same is not bidirectional


def test_attentive_statistics_weights() -> None:
    pooling = AttentiveStatistics(6, 4)
    weights = pooling.weights(states(6) * MASK[..., None], MASK)
    torch.testing.assert_close(weights.sum(1), torch.ones(3, 6))
    assert (weights[~MASK] == 0).all()


def test_self_attention_weights() -> None:
    attention = FrameSelfAttention(8, heads=2)
    _, weights = attention.attend(states(8), MASK)
    assert weights.shape == (3, 2, 20, 20)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 20))
    assert (weights[1, :, :, 7:] == 0).all()


def test_restricted_attention_against_a_loop() -> None:
    attention, x = RestrictedAttention(8, heads=2), states(8)
    weights, heard = attention.weights(x, MASK), attention(x, MASK)
    for row, length in enumerate(LENGTHS.tolist()):
        for t in range(length):
            frames = [t + offset for offset in REACH_FRAMES if 0 <= t + offset < length]
            parts = []
            for head in range(2):
                part = slice(4 * head, 4 * head + 4)
                scores = torch.stack(
                    [attention.query(x)[row, t, part] @ attention.key(x)[row, s, part] for s in frames]
                )
                own = (scores / 2.0).softmax(0)
                offsets = [REACH_FRAMES.index(s - t) for s in frames]
                torch.testing.assert_close(weights[row, t, head, offsets], own, atol=1e-6, rtol=1e-5)
                assert float(weights[row, t, head].sum()) == pytest.approx(1.0, abs=1e-5)
                parts.append(own @ attention.value(x)[row, frames, part])
            expected = x[row, t] + attention.output(torch.cat(parts))
            torch.testing.assert_close(heard[row, t], expected, atol=1e-5, rtol=1e-4)
