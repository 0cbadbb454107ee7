"""The network: its parameters, its shapes, a plain numpy version of it, and the guarantees of the masked mode."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from affekt.errors import ConfigError
from affekt.nn import POOLINGS, Network, NetworkConfig, ledger, parameter_ledger

SMALL = NetworkConfig(filters=(4, 3), pools=(2, 1), lstm_cells_per_direction=3)


def total(config: NetworkConfig, **options: object) -> int:
    return sum(parameters for _, _, parameters in parameter_ledger(config, 4, **options))


def small(masked: bool = False, pooling: str = "attention", head: str = "linear") -> Network:
    torch.manual_seed(0)
    network = Network(dataclasses.replace(SMALL, masked=masked, pooling=pooling), mels=5, classes=4, head=head)
    for module in network.cnn:
        nn.init.normal_(module.norm.running_mean)
        nn.init.uniform_(module.norm.running_var, 0.5, 2.0)
    return network


def clips(*lengths: int, mels: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, mels, generator=generator) for length in lengths]


def pad(clips: list[Tensor], frames: int, filling: float = 0.0) -> tuple[Tensor, Tensor]:
    batch = torch.full((len(clips), frames, clips[0].shape[1]), filling)
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = clip
    return batch, torch.tensor([len(clip) for clip in clips])


# --- worked example: the ledger of the paper -------------------------------------------------------------------------


def test_ledger_of_the_paper() -> None:
    assert total(NetworkConfig()) == 380_292
    assert total(NetworkConfig(pooling="combined")) == 380_292 + 256


def test_ledger_with_64_cells_per_direction() -> None:
    config = NetworkConfig(lstm_cells_per_direction=64)
    assert total(config) == 450_692
    assert total(dataclasses.replace(config, pooling="combined")) == 450_692 + 512


def test_ledger_by_hand() -> None:
    convolutions = sum(3 * 3 * i * o + o for i, o in [(1, 128), (128, 128), (128, 64), (64, 64), (64, 64), (64, 64)])
    norms = 2 * (128 + 128 + 4 * 64)
    lstm = 2 * 4 * 32 * (2 * 64 + 32 + 2)  # both directions; inputs, recurrence, two biases
    attention = 64 * 64
    output = 64 * 4 + 4
    assert total(NetworkConfig()) == convolutions + norms + lstm + attention + output
    assert total(NetworkConfig(), head="cosine") == convolutions + norms + lstm + attention + output - 4


def test_ledger_lists_the_parameters_of_the_network_itself() -> None:
    network = Network(NetworkConfig(), mels=40, classes=4)
    assert parameter_ledger(NetworkConfig(), 4) == ledger(network)
    assert sum(p.numel() for p in network.parameters()) == 380_292
    network.head.requires_grad_(False)
    assert sum(row.parameters for row in ledger(network)) == 380_292 - 260


# --- shapes ----------------------------------------------------------------------------------------------------------


def test_a_clip_of_750_by_40_becomes_24_by_2() -> None:
    network = Network(NetworkConfig(), mels=40, classes=4).eval()
    x = torch.zeros(1, 1, 750, 40)
    sizes = []
    for module in network.cnn:
        x, _ = module(x, None)
        sizes.append(tuple(x.shape[2:]))
    assert sizes == [(375, 20), (188, 10), (94, 5), (47, 3), (24, 2), (24, 2)]
    assert network.blstm.input_size == 2 * 64


@pytest.mark.parametrize("frames", [1, 2, 31, 33])
def test_any_length_will_do(frames: int) -> None:
    scores, embedding = small().eval()(torch.randn(3, frames, 5, generator=torch.Generator().manual_seed(frames)))
    assert (scores.shape, embedding.shape) == ((3, 4), (3, 6))
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_scores_are_the_head_applied_to_the_embedding(pooling: str, head: str) -> None:
    network = small(pooling=pooling, head=head).eval()
    scores, embedding = network(clips(20)[0][None])
    assert embedding.shape[1] == network.embedding_size
    f, w = embedding.detach().double().numpy()[0], network.head.weight.detach().double().numpy()
    if head == "linear":
        expected = w @ f + network.head.bias.detach().double().numpy()
    else:
        expected = w @ f / np.linalg.norm(w, axis=1) / np.linalg.norm(f)
    np.testing.assert_allclose(scores[0].detach().numpy(), expected, atol=1e-6)


# --- oracle: the whole network in numpy ------------------------------------------------------------------------------


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def numpy_module(x: np.ndarray, w: dict[str, np.ndarray], prefix: str, pool: int) -> np.ndarray:
    """Convolution, batch norm with the running statistics, ReLU and pooling of [channels, frames, mels]."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    y = np.zeros((len(w[f"{prefix}.convolution.bias"]), *x.shape[1:]))
    for c, t, m in np.ndindex(*y.shape):
        patch = padded[:, t : t + 3, m : m + 3]
        y[c, t, m] = (patch * w[f"{prefix}.convolution.weight"][c]).sum() + w[f"{prefix}.convolution.bias"][c]
        y[c, t, m] -= w[f"{prefix}.norm.running_mean"][c]
        y[c, t, m] *= w[f"{prefix}.norm.weight"][c] / np.sqrt(w[f"{prefix}.norm.running_var"][c] + 1e-5)
        y[c, t, m] = max(y[c, t, m] + w[f"{prefix}.norm.bias"][c], 0)
    pooled = np.zeros((len(y), -(-y.shape[1] // pool), -(-y.shape[2] // pool)))
    for c, t, m in np.ndindex(*pooled.shape):
        pooled[c, t, m] = y[c, t * pool : (t + 1) * pool, m * pool : (m + 1) * pool].mean()
    return pooled


def numpy_lstm(x: np.ndarray, w: dict[str, np.ndarray], suffix: str) -> np.ndarray:
    """Hochreiter & Schmidhuber's cell with a forget gate, over [frames, inputs]."""
    cells = w[f"blstm.weight_hh_l0{suffix}"].shape[1]
    h, c, states = np.zeros(cells), np.zeros(cells), []
    for frame in x:
        gates = w[f"blstm.weight_ih_l0{suffix}"] @ frame + w[f"blstm.bias_ih_l0{suffix}"]
        gates = gates + w[f"blstm.weight_hh_l0{suffix}"] @ h + w[f"blstm.bias_hh_l0{suffix}"]
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.array(states)


def numpy_network(features: np.ndarray, w: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    x = numpy_module(numpy_module(features[None], w, "cnn.0", pool=2), w, "cnn.1", pool=1)
    sequence = np.array([np.concatenate([x[:, t, m] for m in range(x.shape[2])]) for t in range(x.shape[1])])
    h = np.concatenate([numpy_lstm(sequence, w, ""), numpy_lstm(sequence[::-1], w, "_reverse")[::-1]], axis=1)
    q = np.concatenate([h[-1, :3], h[0, 3:]])
    e = np.array([h_t @ w["pooling.score.weight"] @ q for h_t in h])
    embedding = (np.exp(e) / np.exp(e).sum()) @ h
    return w["head.weight"] @ embedding + w["head.bias"], embedding


def test_network_against_numpy() -> None:
    network = small().eval().double()
    features = torch.randn(2, 9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    scores, embedding = network(features)
    for clip, clip_scores, clip_embedding in zip(features, scores, embedding, strict=True):
        expected = numpy_network(clip.numpy(), weights)
        np.testing.assert_allclose(clip_scores.detach().numpy(), expected[0], atol=1e-9)
        np.testing.assert_allclose(clip_embedding.detach().numpy(), expected[1], atol=1e-9)


# --- invariants: padding ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", POOLINGS)
def test_masked_alone_is_in_a_batch_is_with_more_padding(pooling: str) -> None:
    network = small(masked=True, pooling=pooling).eval()
    utterances = clips(40, 17, 1, 6)
    batch, lengths = pad(utterances, 40)
    wider, _ = pad(utterances, 61, filling=5.0)
    together, more = network(batch, lengths), network(wider, lengths)
    for i, clip in enumerate(utterances):
        alone = network(clip[None])
        for part in (0, 1):
            torch.testing.assert_close(together[part][i], alone[part][0], atol=1e-5, rtol=0)
            torch.testing.assert_close(more[part][i], alone[part][0], atol=1e-5, rtol=0)


def test_masked_invariance_of_the_paper_sized_network() -> None:
    torch.manual_seed(3)
    network = Network(NetworkConfig(masked=True, pooling="combined"), mels=40, classes=4).eval()
    utterances = clips(97, 64, mels=40)
    together = network(*pad(utterances, 130))
    for i, clip in enumerate(utterances):
        torch.testing.assert_close(together.scores[i], network(clip[None]).scores[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", ["attention", "combined"])
def test_masked_training_is_blind_to_more_padding(pooling: str) -> None:
    """Outputs, batch norm statistics and gradients of a training step; dropout off, for its random numbers shift."""
    utterances, results = clips(20, 7, 12), []
    for frames in (20, 33):
        network = small(masked=True, pooling=pooling).train()
        for module in network.cnn:
            module.dropout.p = 0.0
        output = network(*pad(utterances, frames, filling=3.0))
        output.scores.square().sum().backward()
        results.append((output, network.state_dict(), [p.grad for p in network.parameters()]))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-4)


def test_masked_with_full_lengths_is_the_padded_mode() -> None:
    padded, masked = small().train(), small(masked=True).train()
    for module in (*padded.cnn, *masked.cnn):
        module.dropout.p = 0.0
    batch, lengths = pad(clips(20, 20), 20)
    torch.testing.assert_close(padded(batch), masked(batch, lengths))
    torch.testing.assert_close(padded.state_dict(), masked.state_dict())


def test_padded_mode_sees_the_padding_and_ignores_the_lengths() -> None:
    network = small().eval()
    batch, lengths = pad(clips(20, 7), 20)
    torch.testing.assert_close(network(batch, lengths), network(batch))
    shorter = network(batch[1:, :7]).scores
    assert (network(batch).scores[1:] - shorter).abs().max() > 1e-3


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_bfloat16_autocast_trains_and_gives_float32_scores(masked: bool, head: str) -> None:
    network = small(masked=masked, pooling="combined", head=head).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(*pad(clips(20, 7), 20))
    output.scores.square().sum().backward()
    assert output.scores.dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


# --- configuration ---------------------------------------------------------------------------------------------------


class LastFrame(nn.Module):
    """A pooling as a user would write it."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.size = features

    def forward(self, sequence: Tensor, mask: Tensor | None = None) -> Tensor:
        return sequence[:, -1]


def test_an_own_pooling_is_one_class_passed_in() -> None:
    network = Network(NetworkConfig(pooling=LastFrame), mels=40, classes=4)
    assert isinstance(network.pooling, LastFrame)
    assert network(torch.zeros(2, 30, 40)).embedding.shape == (2, 64)


def test_an_own_pooling_must_say_its_size() -> None:
    with pytest.raises(ConfigError, match="got Identity with size missing"):
        Network(NetworkConfig(pooling=lambda features: nn.Identity()), mels=40, classes=4)


def test_lists_of_a_configuration_file_are_taken() -> None:
    assert NetworkConfig(filters=[8, 8], pools=[2, 1]) == NetworkConfig(filters=(8, 8), pools=(2, 1))


def test_all_faults_of_a_configuration_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        NetworkConfig((128, 0), 4, (2,), 1.0, True, "atention", "yes", "kras")
    assert [fault.what for fault in caught.value.faults] == [
        f"network: {field.name}" for field in dataclasses.fields(NetworkConfig)
    ]
    assert "attention, combined, mean" in str(caught.value)


def test_all_faults_of_the_sizes_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Network(NetworkConfig(), mels=0, classes=1, head="sine")
    assert [fault.what for fault in caught.value.faults] == ["network: mels", "network: classes", "network: head"]
