"""A small batch for all losses: double precision, every class at least twice."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

CLASSES, FEATURES = 4, 6


class Batch(NamedTuple):
    """Embeddings, a weight matrix, and the scores of both heads."""

    embedding: Tensor
    weight: Tensor
    labels: Tensor

    @property
    def linear(self) -> Tensor:
        return self.embedding @ self.weight.T

    @property
    def cosine(self) -> Tensor:
        return F.normalize(self.embedding) @ F.normalize(self.weight).T


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(11)
    embedding = torch.randn(10, FEATURES, dtype=torch.float64, generator=generator)
    weight = torch.randn(CLASSES, FEATURES, dtype=torch.float64, generator=generator)
    return Batch(embedding, weight, torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 3, 1]))
