"""Oracle: the GPU's LSTM against PyTorch's, on a GPU if there is one, else in Triton's interpreter."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from affekt.nn import Network, NetworkConfig, lstm_cuda
from affekt.nn.blocks import bidirectional_lstm, frame_mask

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
pytest.importorskip("triton", reason="no Triton on this machine")
torch.backends.cudnn.allow_tf32 = False  # PyTorch's layer is the oracle

BATCH, FRAMES, INPUTS = 19, 7, 12  # more utterances than one program takes
LENGTHS = torch.tensor([7, 1, 4] + [1 + n % 7 for n in range(BATCH - 3)], device=DEVICE)


def make_lstm(cells: int) -> nn.LSTM:
    torch.manual_seed(cells)
    return nn.LSTM(INPUTS, cells, batch_first=True, bidirectional=True).to(DEVICE)


def step(lstm: nn.LSTM, by_kernels: bool, masked: bool) -> dict[str, Tensor]:
    """States and all gradients."""
    generator = torch.Generator().manual_seed(1)
    sequence = torch.randn(BATCH, FRAMES, INPUTS, generator=generator).to(DEVICE).requires_grad_()
    weights = torch.randn(BATCH, FRAMES, 2 * lstm.hidden_size, generator=generator).to(DEVICE)
    lstm.zero_grad()
    if by_kernels:
        states = lstm_cuda.run(lstm, sequence, LENGTHS.int() if masked else None)
    else:
        states = bidirectional_lstm(lstm, sequence, frame_mask(LENGTHS, FRAMES) if masked else None)
    (states * weights).sum().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in lstm.named_parameters()}
    return {"states": states.detach(), "sequence": sequence.grad, **gradients}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cells", [16, 32])
def test_kernels_equal_the_layer(cells: int, masked: bool) -> None:
    expected, got = (step(make_lstm(cells), by_kernels, masked) for by_kernels in (False, True))
    for name, tensor in expected.items():
        assert torch.allclose(got[name], tensor, rtol=1e-4, atol=2e-5), name
    if masked:
        outside = ~frame_mask(LENGTHS, FRAMES)
        assert torch.count_nonzero(got["states"][outside]) == torch.count_nonzero(got["sequence"][outside]) == 0


def test_padding_is_hidden() -> None:
    """In the masked mode no number depends on what follows an utterance, or on how much does."""
    lstm, lengths = make_lstm(16), torch.tensor([3, 2], dtype=torch.int32, device=DEVICE)
    sequence = torch.randn(2, 5, INPUTS, generator=torch.Generator().manual_seed(2)).to(DEVICE)
    other = sequence.clone()
    other[0, 3:], other[1, 2:] = 9.0, -9.0
    with torch.no_grad():
        states, same, shorter = (lstm_cuda.run(lstm, x, lengths) for x in (sequence, other, sequence[:, :3]))
    assert torch.equal(states, same)
    assert torch.allclose(states[:, :3], shorter, atol=1e-6)  # a matrix product of another size adds in another order


@pytest.mark.parametrize("masked", [False, True])
def test_nothing_waits_for_the_device(masked: bool, no_waiting: TorchDispatchMode) -> None:
    lstm, lengths = make_lstm(16), LENGTHS.int() if masked else None
    with no_waiting:
        lstm_cuda.run(lstm, torch.ones(BATCH, FRAMES, INPUTS, device=DEVICE), lengths).sum().backward()
    assert lstm.weight_hh_l0_reverse.grad is not None


def test_a_layer_that_the_kernels_cannot_compute_is_left_to_pytorch() -> None:
    assert lstm_cuda.fits(Network(NetworkConfig(), mels=40, classes=4).blstm)
    options = {"batch_first": True, "bidirectional": True}
    for changes in ({"num_layers": 2}, {"bidirectional": False}, {"batch_first": False}, {"bias": False}):
        assert not lstm_cuda.fits(nn.LSTM(INPUTS, 32, **options | changes))
    for cells in (8, 48, 128):
        assert not lstm_cuda.fits(nn.LSTM(INPUTS, cells, **options))
    with torch.autocast("cpu", torch.bfloat16):
        assert not lstm_cuda.serves(nn.LSTM(INPUTS, 32, **options), torch.ones(1, 2, INPUTS))  # it is on a CPU
