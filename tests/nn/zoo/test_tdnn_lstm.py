"""The TDNN-LSTM: every frame is labeled, and the utterance is what its frames say together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from affekt.errors import ConfigError
from affekt.losses import Softmax, make_loss
from affekt.nn.zoo.tdnn_lstm import FilterBank


def test_the_loss_is_the_mean_cross_entropy_of_the_frames(small, ragged) -> None:
    network, labels = small("tdnn-lstm").eval(), torch.tensor([2, 0])
    waveform, lengths = ragged("tdnn-lstm", 30, 12)
    scores, embedding = network(waveform, lengths)
    loss = make_loss("softmax", 4, network.embedding_size, log_posteriors=True)(scores, embedding, labels)
    hidden, mask = network.frames(waveform, lengths)
    assert mask.sum(1).tolist() == [30, 12]
    per_utterance = [
        F.cross_entropy(network.head(hidden[row, mask[row]]), label.expand(int(mask[row].sum())))
        for row, label in enumerate(labels)
    ]
    torch.testing.assert_close(loss, torch.stack(per_utterance).mean())


def test_log_posteriors_with_the_other_options_by_hand() -> None:
    loss = Softmax(2, 1, label_smoothing=0.2, alpha=[1.0, 3.0], log_posteriors=True)
    scores = torch.tensor([[-1.0, -2.0], [-4.0, -0.5]])
    by_hand = (1.0 * (0.9 * 1.0 + 0.1 * 2.0) + 3.0 * (0.9 * 0.5 + 0.1 * 4.0)) / 2
    assert float(loss(scores, torch.zeros(2, 1), torch.tensor([0, 1]))) == pytest.approx(by_hand)


def test_filter_bank_against_a_loop() -> None:
    bank = FilterBank(3).eval()
    waveform = torch.randn(1, 700, 1, generator=torch.Generator().manual_seed(0))
    levels, mask = bank(waveform, torch.tensor([650]))
    assert mask.tolist() == [[True] * 5]  # 650 samples begin 5 frames of 160
    own = np.pad(waveform[0, :650, 0].numpy(), (0, 2000)).astype(np.float64)
    weight, bias = bank.filters.weight[:, 0].detach().numpy(), bank.filters.bias.detach().numpy()
    for t in range(5):
        starts = [t * 160 + step * 20 for step in range(8)]
        response = np.stack([np.abs(weight @ own[start : start + 500] + bias) for start in starts])
        mean = torch.from_numpy(np.log(response + 1e-3).mean(0)).float() / (1 + bank.norm.eps) ** 0.5
        torch.testing.assert_close(levels[0, :, t], F.relu(bank.linear(mean)), atol=1e-4, rtol=1e-4)


def test_only_logits_can_be_averaged(small) -> None:
    with pytest.raises(ConfigError, match="a loss on logits"):
        small("tdnn-lstm", head="cosine")
