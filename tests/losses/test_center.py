"""Center loss against loops, and centers that find the means of their classes."""

from __future__ import annotations

import math

import pytest
import torch

from affekt.losses import Center


def test_center_loss_against_loops(batch) -> None:
    loss = Center(4, 6, weight=0.3, center_speed=2.0).double()
    torch.nn.init.normal_(loss.scaled_centers, generator=torch.Generator().manual_seed(0))
    centers, total = (2.0 * loss.scaled_centers).tolist(), 0.0
    for row, f, y in zip(batch.linear.tolist(), batch.embedding.tolist(), batch.labels.tolist(), strict=True):
        total -= math.log(math.exp(row[y]) / sum(map(math.exp, row)))
        total += 0.3 / 2 * sum((a - b) ** 2 for a, b in zip(f, centers[y], strict=True))
    actual = loss(batch.linear, batch.embedding, batch.labels)
    assert actual.item() == pytest.approx(total / len(batch.labels))


def test_adam_moves_the_centers_to_the_means_of_their_classes(batch) -> None:
    loss = Center(4, 6, weight=1.0, center_speed=100.0).double()
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-4)
    for _ in range(1000):
        optimizer.zero_grad()
        loss(batch.linear, batch.embedding, batch.labels).backward()
        optimizer.step()
    means = torch.stack([batch.embedding[batch.labels == j].mean(0) for j in range(4)])
    torch.testing.assert_close(loss.centers.detach(), means, atol=0.02, rtol=0)


def test_centers_are_saved_with_the_loss() -> None:
    assert {name: tuple(value.shape) for name, value in Center(4, 6).state_dict().items()} == {"scaled_centers": (4, 6)}
