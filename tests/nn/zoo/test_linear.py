"""The shrunk linear model: the oracle is scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from affekt.errors import ConfigError
from affekt.nn.zoo.linear import ShrunkLinear


def clouds(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three overlapping classes of different sizes."""
    labels = torch.tensor([0] * 60 + [1] * 25 + [2] * 15)
    centers = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 0.5, 0.0, 0.0], [-1.0, 1.0, 0.5, 0.0]])
    return centers[labels] + torch.randn(100, 4, generator=torch.Generator().manual_seed(seed)), labels


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("penalty", [0.01, 0.1, 1.0])
def test_equals_scikit_learn(penalty: float, balanced: bool) -> None:
    """Its objective is C * sum(loss) + |W|^2 / 2, so C = 1 / (2 n penalty)."""
    inputs, labels = clouds()
    network = ShrunkLinear(4, 3, penalties=(penalty,), balanced=balanced)
    network.solve(1, inputs, labels)
    theirs = LogisticRegression(
        C=1 / (2 * len(labels) * penalty), class_weight="balanced" if balanced else None, tol=1e-8, max_iter=1_000
    ).fit(inputs.double().numpy(), labels.numpy())
    np.testing.assert_allclose(network.head.weight.detach(), theirs.coef_, atol=1e-3)
    probabilities = network(inputs[:, None]).scores.softmax(1).detach()
    np.testing.assert_allclose(probabilities, theirs.predict_proba(inputs.double().numpy()), atol=5e-4)


def test_a_class_without_utterances_is_no_obstacle() -> None:
    inputs, labels = clouds()
    network = ShrunkLinear(4, 5)
    network.solve(1, inputs, labels)
    assert set(network(inputs[:, None]).scores.argmax(1).tolist()) <= {0, 1, 2}


def test_one_solution_for_each_penalty() -> None:
    inputs, labels = clouds()
    network = ShrunkLinear(4, 3, penalties=(1.0, 0.01))
    assert network.solutions == 2
    sizes = []
    for number in (1, 2):
        network.solve(number, inputs, labels)
        sizes.append(float(network.head.weight.square().sum()))
    assert sizes[0] < 0.1 * sizes[1]
    with pytest.raises(ConfigError, match="penalties"):
        ShrunkLinear(4, 3, penalties=())
