"""Centre loss against loops, and centres that find the means of their classes."""

from __future__ import annotations

import math

import pytest
import torch

from affekt.losses import Centre


def test_centre_loss_against_loops(batch) -> None:
    loss = Centre(4, 6, weight=0.3, centre_speed=2.0).double()
    torch.nn.init.normal_(loss.scaled_centres, generator=torch.Generator().manual_seed(0))
    centres, total = (2.0 * loss.scaled_centres).tolist(), 0.0
    for row, f, y in zip(batch.linear.tolist(), batch.embedding.tolist(), batch.labels.tolist(), strict=True):
        total -= math.log(math.exp(row[y]) / sum(map(math.exp, row)))
        total += 0.3 / 2 * sum((a - b) ** 2 for a, b in zip(f, centres[y], strict=True))
    actual = loss(batch.linear, batch.embedding, batch.labels)
    assert actual.item() == pytest.approx(total / len(batch.labels))


def test_adam_moves_the_centres_to_the_means_of_their_classes(batch) -> None:
    loss = Centre(4, 6, weight=1.0, centre_speed=100.0).double()
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-4)
    for _ in range(1000):
        optimizer.zero_grad()
        loss(batch.linear, batch.embedding, batch.labels).backward()
        optimizer.step()
    means = torch.stack([batch.embedding[batch.labels == j].mean(0) for j in range(4)])
    torch.testing.assert_close(loss.centres.detach(), means, atol=0.02, rtol=0)


def test_centres_are_saved_with_the_loss() -> None:
    assert {name: tuple(value.shape) for name, value in Centre(4, 6).state_dict().items()} == {"scaled_centres": (4, 6)}
