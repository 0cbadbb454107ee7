"""Initial weights as Keras makes them: oracles by formula, and by Keras itself where it is installed."""

from __future__ import annotations

import math
import os

import pytest
import torch
from torch import nn

from affekt.errors import ConfigError
from affekt.nn import NetworkConfig
from affekt.nn.initialization import initialize_as_keras
from affekt.nn.network import Network
from affekt.runtime.devices import seeded
from affekt.training.systems import System, from_system_dict


def network(**options: object) -> Network:
    with seeded(3):
        return Network(NetworkConfig(initialization="keras", **options), mels=40, classes=4)  # type: ignore[arg-type]


def limits(weight: torch.Tensor) -> tuple[float, float]:
    return float(weight.detach().min()), float(weight.detach().max())


def test_kernels_are_glorot_uniform_and_biases_zero() -> None:
    """The second convolution: fans of 9 x 128 each, so +- sqrt(6 / 2304); 147,456 draws come within 1 % of the ends."""
    convolution = network().cnn[1].convolution  # type: ignore[union-attr]
    bound = math.sqrt(6 / (9 * 128 + 9 * 128))
    assert limits(convolution.weight) == pytest.approx((-bound, bound), rel=1e-2)  # type: ignore[arg-type]
    assert float(convolution.weight.detach().var()) == pytest.approx(bound**2 / 3, rel=2e-2)  # type: ignore[operator]
    assert not convolution.bias.any()  # type: ignore[operator]
    head = network().head
    assert float(head.weight.detach().abs().max()) <= math.sqrt(6 / (64 + 4))  # type: ignore[operator]


def test_the_lstm_is_glorot_over_all_gates_orthogonal_and_remembers() -> None:
    lstm = network().blstm
    inputs, cells = lstm.input_size, lstm.hidden_size
    for suffix in ("", "_reverse"):
        kernel = getattr(lstm, f"weight_ih_l0{suffix}")
        bound = math.sqrt(6 / (inputs + 4 * cells))
        assert limits(kernel) == pytest.approx((-bound, bound), rel=1e-2)
        recurrent = getattr(lstm, f"weight_hh_l0{suffix}")
        torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(cells), atol=1e-5, rtol=0)
        bias = getattr(lstm, f"bias_ih_l0{suffix}") + getattr(lstm, f"bias_hh_l0{suffix}")
        forget = torch.zeros(4, cells)
        forget[1] = 1.0
        assert torch.equal(bias.view(4, cells), forget)


def test_batch_normalization_averages_slowly() -> None:
    norms = [module for module in network().modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 6
    assert {(round(norm.momentum or 0, 9), norm.eps) for norm in norms} == {(0.01, 1e-3)}


def test_the_seed_decides_and_the_default_is_pytorch_s() -> None:
    assert all(torch.equal(one, two) for one, two in zip(network().parameters(), network().parameters(), strict=True))
    with seeded(3):
        plain = Network(NetworkConfig(), mels=40, classes=4)
    assert plain.cnn[0].norm.eps == 1e-5  # type: ignore[union-attr]
    assert float(plain.cnn[0].convolution.bias.abs().max()) > 0  # type: ignore[union-attr, operator]


def test_a_system_keeps_the_choice_and_does_not_mention_the_default() -> None:
    chosen = System("a", network=NetworkConfig(initialization="keras"))
    assert from_system_dict(chosen.to_dict()) == chosen
    assert "initialization" not in System("a").to_dict()["network"]
    with pytest.raises(ConfigError, match="initialization: got 'lecun', expected one of pytorch, keras"):
        NetworkConfig(initialization="lecun")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["convolution", "dense", "lstm", "batch normalization"])
def test_keras_itself_draws_from_the_same_distributions(kind: str) -> None:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    layer, module, inputs = {
        "convolution": (keras.layers.Conv2D(64, 3), nn.Conv2d(48, 64, 3), (1, 9, 9, 48)),
        "dense": (keras.layers.Dense(96), nn.Linear(128, 96), (1, 128)),
        "lstm": (keras.layers.LSTM(32), nn.LSTM(128, 32), (1, 5, 128)),
        "batch normalization": (keras.layers.BatchNormalization(), nn.BatchNorm2d(8), (1, 9, 9, 8)),
    }[kind]
    layer.build(inputs)
    initialize_as_keras(module)
    if kind == "batch normalization":
        assert (1 - layer.momentum, layer.epsilon) == pytest.approx((module.momentum, module.eps))
        return
    theirs = {weight.name: torch.as_tensor(keras.ops.convert_to_numpy(weight)) for weight in layer.weights}
    ours = dict(module.named_parameters())
    kernel = ours["weight_ih_l0"] if kind == "lstm" else ours["weight"]
    assert limits(kernel) == pytest.approx(limits(theirs["kernel"]), rel=2e-2)
    assert float(kernel.std()) == pytest.approx(float(theirs["kernel"].std()), rel=3e-2)
    if kind == "lstm":
        recurrent = theirs["recurrent_kernel"]
        torch.testing.assert_close(recurrent @ recurrent.T, torch.eye(32), atol=1e-5, rtol=0)
        assert torch.equal(ours["bias_ih_l0"] + ours["bias_hh_l0"], theirs["bias"])
    else:
        assert torch.equal(ours["bias"], theirs["bias"])
