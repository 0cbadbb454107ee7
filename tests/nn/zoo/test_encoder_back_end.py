"""The LSTM of the encoder's back end: the oracle is PyTorch's on packed sequences."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from affekt.nn import kernels, recurrence
from affekt.nn.dropout import ByteDropout
from affekt.nn.zoo.encoder_back_end import TwoWayLSTM

LENGTHS = torch.tensor([9, 1, 4, 7, 8])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("cells", [3, 16, 32, 144])
def test_states_and_gradients_are_those_of_packed_sequences(cells: int, threads: int) -> None:
    """For cells that the kernel serves and for others; what follows a sequence is not seen."""
    torch.manual_seed(0)
    lstm = TwoWayLSTM(5, cells)
    oracle = torch.nn.LSTM(5, cells, batch_first=True, bidirectional=True)
    oracle.load_state_dict(lstm.state_dict())
    x = 3 * torch.randn(5, 9, 5)
    assert recurrence.serves(x, cells) == (cells % 16 == 0 and kernels.library("lstm") is not None)
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ours = lstm(mine, LENGTHS)
        direction = torch.randn(5, 9, 2 * cells)
        (ours * direction).sum().backward()
    finally:
        torch.set_num_threads(before)
    packed = pack_padded_sequence(theirs, LENGTHS, batch_first=True, enforce_sorted=False)
    states, _ = pad_packed_sequence(oracle(packed)[0], batch_first=True, total_length=9)
    (states * direction).sum().backward()
    torch.testing.assert_close(ours, states, atol=2e-6, rtol=2e-6)
    assert not ours[1, 1:].any()
    torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-5, rtol=1e-5)
    for own, other in zip(lstm.parameters(), oracle.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(lstm(x), oracle(x)[0])


def test_extreme_gates_saturate() -> None:
    """Gates of +-1,000 give 0 and 1, not infinities."""
    lstm = TwoWayLSTM(2, 16)
    states = lstm(torch.tensor([[[1e3, -1e3], [-1e3, 1e3], [1e30, 1e30]]]), torch.tensor([3]))
    assert bool(states.isfinite().all())
    assert float(states.abs().max()) <= 1


def test_the_mask_of_dropout_follows_the_seed_and_its_share() -> None:
    dropout, x = ByteDropout(0.25), torch.ones(400, 1_001)
    torch.manual_seed(1)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(1)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)
    assert set(first.unique().tolist()) == {0.0, torch.tensor(4 / 3).item()}
    share = (first == 0).float()
    assert abs(float(share.mean()) - 0.25) < 0.003  # five standard deviations
    assert float((share.mean(0) - 0.25).abs().max()) < 0.12  # no column, so no byte of a word, is favored
    assert dropout.eval()(x) is x
    assert ByteDropout(0.0)(x) is x
