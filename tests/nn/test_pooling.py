"""Every pooling against a loop over frames, and the mask that they all must obey."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affekt.nn import POOLINGS
from affekt.nn.blocks import frame_mask
from affekt.nn.pooling import CombinedPooling, SelfAttentivePooling, last_states, weighted_deviation

FEATURES = 6


def softmax(scores: list[float]) -> np.ndarray:
    exponentials = [np.exp(score - max(scores)) for score in scores]
    return np.array([value / sum(exponentials) for value in exponentials])


def deviation(h: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Eq. 5 as printed."""
    mu = sum(a[t] * h[t] for t in range(len(h)))
    return np.sqrt(np.maximum(sum(a[t] * h[t] * h[t] for t in range(len(h))) - mu * mu, 0))


def attention(h: np.ndarray, pooling: torch.nn.Module) -> np.ndarray:
    """Eq. 4 with e_t = h_t' W q in loops."""
    q = np.concatenate([h[-1, : FEATURES // 2], h[0, FEATURES // 2 :]])
    w = pooling.score.weight.detach().numpy()
    scores = [sum(h[t, i] * w[i, j] * q[j] for i in range(FEATURES) for j in range(FEATURES)) for t in range(len(h))]
    return softmax(scores)


def oracle(name: str, pooling: torch.nn.Module, h: np.ndarray) -> np.ndarray:
    uniform = np.full(len(h), 1 / len(h))
    if name in ("attention", "combined"):
        a = attention(h, pooling)
        mu = sum(a[t] * h[t] for t in range(len(h)))
        return mu if name == "attention" else np.concatenate([mu, deviation(h, a)])
    if name == "self-attentive":
        hidden = np.tanh(h @ pooling.hidden.weight.detach().numpy().T)
        scores = hidden @ pooling.heads.weight.detach().numpy().T
        heads = [softmax(list(scores[:, r])) for r in range(scores.shape[1])]
        return np.concatenate([sum(a[t] * h[t] for t in range(len(h))) for a in heads])
    return {
        "mean": h.mean(0),
        "max": h.max(0),
        "statistics": np.concatenate([h.mean(0), deviation(h, uniform)]),
    }[name]


def make(name: str) -> torch.nn.Module:
    torch.manual_seed(7)
    return POOLINGS[name](FEATURES).double()


def sequence(batch: int, frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, frames, FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_against_loops(name: str) -> None:
    pooling, h = make(name), sequence(3, 5)
    pooled = pooling(h).detach().numpy()
    np.testing.assert_allclose(pooled, [oracle(name, pooling, clip) for clip in h.numpy()], atol=1e-9)
    assert pooled.shape == (3, pooling.size)


@pytest.mark.parametrize("name", POOLINGS)
def test_masked_pooling_is_the_pooling_of_each_clip_alone(name: str) -> None:
    pooling, h, lengths = make(name), sequence(3, 9, seed=1), torch.tensor([9, 1, 4])
    pooled = pooling(h, frame_mask(lengths, 9))
    for clip, length, vector in zip(h, lengths, pooled, strict=True):
        torch.testing.assert_close(pooling(clip[None, :length])[0], vector)


@pytest.mark.parametrize("name", POOLINGS)
@settings(max_examples=15, deadline=None)
@given(length=st.integers(1, 6), padding=st.integers(1, 5), filling=st.sampled_from([0.0, 1e3, -1e3]))
def test_padding_changes_nothing(name: str, length: int, padding: int, filling: float) -> None:
    pooling, h = make(name), sequence(2, length, seed=2)
    padded = torch.cat([h, torch.full((2, padding, FEATURES), filling, dtype=torch.float64)], dim=1)
    mask = frame_mask(torch.tensor([length, length]), length + padding)
    torch.testing.assert_close(pooling(padded, mask), pooling(h))


@pytest.mark.parametrize("name", POOLINGS)
def test_gradients_are_right_and_none_reach_the_padding(name: str) -> None:
    pooling, mask = make(name), frame_mask(torch.tensor([4, 2]), 4)
    h = sequence(2, 4, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pooling(x, mask), (h,))
    pooling(h, mask).sum().backward()
    assert h.grad is not None
    assert h.grad[1, 2:].abs().sum() == 0


@settings(max_examples=50, deadline=None)
@given(value=st.floats(-1, 1, width=32), frames=st.integers(1, 24))
def test_deviation_of_a_constant_sequence_is_exactly_zero_with_a_finite_gradient(value: float, frames: int) -> None:
    torch.manual_seed(0)
    pooling = CombinedPooling(FEATURES)
    h = torch.full((1, frames, FEATURES), value, requires_grad=True)
    pooled = pooling(h)
    pooled.sum().backward()
    assert pooled[0, FEATURES:].tolist() == [0.0] * FEATURES
    assert h.grad is not None
    assert torch.isfinite(h.grad).all()


def test_deviation_survives_a_large_mean_in_float32() -> None:
    h = 1000 + torch.tensor([0.0, 0.01, 0.02, 0.03]).reshape(1, 4, 1)
    sigma = weighted_deviation(h, torch.full((1, 4), 0.25))
    assert float(sigma) == pytest.approx(0.01118, rel=0.01)  # as printed, eq. 5 gives 0 or 0.25 here


def test_last_states_are_those_that_the_lstm_reports() -> None:
    torch.manual_seed(5)
    lstm = torch.nn.LSTM(4, FEATURES // 2, batch_first=True, bidirectional=True)
    states, (last, _) = lstm(torch.randn(3, 8, 4))
    torch.testing.assert_close(last_states(states, None), torch.cat([last[0], last[1]], dim=-1))


def test_last_forward_state_under_a_mask_is_at_the_last_valid_frame() -> None:
    h = torch.arange(8.0).reshape(1, 4, 2)
    assert last_states(h, frame_mask(torch.tensor([3]), 4)).tolist() == [[4.0, 1.0]]


def test_self_attentive_heads_and_hidden_are_options() -> None:
    pooling = SelfAttentivePooling(FEATURES, heads=2, hidden=3)
    assert pooling.size == 2 * FEATURES
    assert sum(p.numel() for p in pooling.parameters()) == 3 * FEATURES + 2 * 3


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_under_bfloat16_stays_close(name: str) -> None:
    pooling, h = make(name).float(), sequence(2, 5).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = pooling(h)
    torch.testing.assert_close(rough.float(), pooling(h), atol=0.05, rtol=0.05)
