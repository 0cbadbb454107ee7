"""The two-way LSTM: the oracle is PyTorch's on packed sequences."""

from __future__ import annotations

import torch

from affekt.nn.blocks import bidirectional_lstm, frame_mask
from affekt.nn.zoo.encoder_back_end import TwoWayLSTM


def test_two_ways_are_packed_sequences() -> None:
    """States and every gradient; what follows a sequence is not seen."""
    torch.manual_seed(0)
    lstm = TwoWayLSTM(5, 3)
    packed = torch.nn.LSTM(5, 3, batch_first=True, bidirectional=True)
    packed.load_state_dict(lstm.state_dict())
    x, mask = torch.randn(4, 9, 5), frame_mask(torch.tensor([9, 1, 4, 7]), 9)
    ours, theirs = lstm(x, mask), bidirectional_lstm(packed, x, mask)
    torch.testing.assert_close(ours, theirs)
    assert not ours[1, 1:].any()
    direction = torch.randn(4, 9, 6)
    (ours * direction).sum().backward()
    (theirs * direction).sum().backward()
    for own, other in zip(lstm.parameters(), packed.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad)
    torch.testing.assert_close(lstm(x), packed(x)[0])
