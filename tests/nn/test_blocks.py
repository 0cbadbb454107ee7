"""The convolution module against plain loops, and what a mask must guarantee layer by layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from affekt.nn.blocks import ConvModule, CosineHead, MaskedBatchNorm, average_pool, bidirectional_lstm, frame_mask


def same_average_pool(x: np.ndarray, pool: int) -> np.ndarray:
    """Oracle: TensorFlow's 'same' average pooling with window = stride = 2, in loops over [frames, mels]."""
    frames, mels = -(-x.shape[0] // pool), -(-x.shape[1] // pool)
    before = [max(n * pool - size, 0) // 2 for n, size in zip((frames, mels), x.shape, strict=True)]
    pooled = np.zeros((frames, mels))
    for t in range(frames):
        for m in range(mels):
            rows = [i for i in range(t * pool - before[0], (t + 1) * pool - before[0]) if 0 <= i < x.shape[0]]
            columns = [j for j in range(m * pool - before[1], (m + 1) * pool - before[1]) if 0 <= j < x.shape[1]]
            pooled[t, m] = np.mean([x[i, j] for i in rows for j in columns])
    return pooled


def same_convolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Oracle: 3x3 correlation over [channels, frames, mels] with zeros outside, in loops."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(weight), *x.shape[1:]))
    for c, t, m in np.ndindex(*out.shape):
        out[c, t, m] = np.sum(padded[:, t : t + 3, m : m + 3] * weight[c]) + bias[c]
    return out


@pytest.mark.parametrize(("frames", "mels"), [(6, 4), (7, 5), (1, 3), (2, 1)])
def test_average_pool_is_tensorflows_same_pooling(frames: int, mels: int) -> None:
    x = np.random.default_rng(0).normal(size=(frames, mels))
    pooled = average_pool(torch.tensor(x)[None, None], pool=2)[0, 0].numpy()
    np.testing.assert_allclose(pooled, same_average_pool(x, 2), atol=1e-12)


def test_average_pool_averages_valid_frames_only() -> None:
    x = torch.tensor([1.0, 3.0, 5.0, 100.0, 100.0, 100.0]).reshape(1, 1, 6, 1)
    pooled = average_pool(x, 2, frame_mask(torch.tensor([3]), 6))
    assert pooled.flatten().tolist() == [2.0, 5.0, 0.0]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_masked_pool_of_an_odd_clip_is_the_pool_of_the_clip_alone(length: int) -> None:
    x = torch.randn(1, 2, 5, 3, generator=torch.Generator().manual_seed(length))
    alone = average_pool(x[:, :, :length], 2)
    masked = average_pool(x, 2, frame_mask(torch.tensor([length]), 5))
    torch.testing.assert_close(masked[:, :, : alone.shape[2]], alone)
    assert masked[:, :, alone.shape[2] :].abs().sum() == 0


def test_conv_module_against_loops() -> None:
    torch.manual_seed(0)
    module = ConvModule(2, 3, kernel=3, pool=2, dropout=0.25).double()
    nn.init.normal_(module.norm.weight)
    nn.init.normal_(module.norm.bias)
    x = torch.randn(4, 2, 7, 5, dtype=torch.float64)
    module.dropout.p = 0.0
    weight, bias = module.convolution.weight.detach().numpy(), module.convolution.bias.detach().numpy()
    convolved = np.stack([same_convolution(clip, weight, bias) for clip in x.numpy()])
    mean, variance = convolved.mean((0, 2, 3)), convolved.var((0, 2, 3))
    gamma, beta = module.norm.weight.detach().numpy(), module.norm.bias.detach().numpy()
    expected = np.zeros((4, 3, 4, 3))
    for clip, channel in np.ndindex(4, 3):
        normal = (convolved[clip, channel] - mean[channel]) / np.sqrt(variance[channel] + 1e-5)
        rectified = np.maximum(gamma[channel] * normal + beta[channel], 0)
        expected[clip, channel] = same_average_pool(rectified, 2)
    actual, mask = module(x)
    np.testing.assert_allclose(actual.detach().numpy(), expected, atol=1e-10)
    assert mask is None


def test_conv_module_drops_a_quarter_in_training_and_nothing_in_evaluation() -> None:
    torch.manual_seed(0)
    module = ConvModule(1, 16, kernel=3, pool=1, dropout=0.25)
    nn.init.constant_(module.norm.bias, 10.0)  # nothing is zero but what dropout makes zero
    x = torch.randn(8, 1, 40, 20)
    dropped = (module(x)[0] == 0).float().mean()
    assert abs(float(dropped) - 0.25) < 0.01
    assert (module.eval()(x)[0] > 0).all()


def test_masked_batch_norm_uses_the_valid_frames_alone() -> None:
    torch.manual_seed(1)
    x = torch.randn(3, 4, 6, 5) * 2 + 1
    lengths = torch.tensor([6, 2, 3])
    plain, masked = nn.BatchNorm2d(4), MaskedBatchNorm(4)
    valid = torch.cat([clip[:, :length] for clip, length in zip(x, lengths, strict=True)], dim=1)[None]
    expected = plain(valid)
    actual = masked(x, frame_mask(lengths, 6))
    kept = torch.cat([clip[:, :length] for clip, length in zip(actual, lengths, strict=True)], dim=1)[None]
    torch.testing.assert_close(kept, expected)
    torch.testing.assert_close(masked.state_dict(), plain.state_dict())


def test_masked_batch_norm_has_the_gradient_of_batch_norm() -> None:
    torch.manual_seed(2)
    x = torch.randn(2, 3, 4, 2, dtype=torch.float64)
    gradients = []
    for norm, mask in ((nn.BatchNorm2d(3), None), (MaskedBatchNorm(3), torch.ones(2, 4, dtype=torch.bool))):
        clip = x.clone().requires_grad_()
        out = norm.double()(clip) if mask is None else norm.double()(clip, mask)
        out.pow(3).sum().backward()
        gradients.append([clip.grad, norm.weight.grad, norm.bias.grad])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_bidirectional_lstm_reads_backwards_from_the_last_valid_frame() -> None:
    torch.manual_seed(3)
    lstm = nn.LSTM(5, 3, batch_first=True, bidirectional=True)
    sequence = torch.randn(2, 7, 5)
    states = bidirectional_lstm(lstm, sequence, frame_mask(torch.tensor([7, 4]), 7))
    torch.testing.assert_close(states[:1], lstm(sequence[:1])[0])
    torch.testing.assert_close(states[1:, :4], lstm(sequence[1:, :4])[0])
    assert states[1, 4:].abs().sum() == 0


def test_cosine_head_against_numpy_and_blind_to_length() -> None:
    torch.manual_seed(4)
    head = CosineHead(6, 4)
    embedding = torch.randn(5, 6)
    f, w = embedding.numpy(), head.weight.detach().numpy()
    expected = [[np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) for b in w] for a in f]
    np.testing.assert_allclose(head(embedding).detach().numpy(), expected, atol=1e-6)
    torch.testing.assert_close(head(embedding), head(100 * embedding))


def test_cosine_head_of_a_zero_embedding_is_zero_with_a_finite_gradient() -> None:
    embedding = torch.zeros(1, 6, requires_grad=True)
    scores = CosineHead(6, 4)(embedding)
    scores.sum().backward()
    assert scores.tolist() == [[0.0] * 4]
    assert embedding.grad is not None
    assert torch.isfinite(embedding.grad).all()
