"""The adversary learns to name speakers, and the network to hide them from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from affekt.errors import ConfigError
from affekt.features.clips import Clips
from affekt.features.log_mel import FeatureConfig
from affekt.nn import NetworkConfig
from affekt.training.fitted import Subset
from affekt.training.fitting import fit
from affekt.training.speaker_adversary import Adversary, reverse_gradient
from affekt.training.systems import System
from affekt.training.train_config import TrainConfig

CLASSES, MELS, UTTERANCES = 2, 8, 64
SYSTEM = System(
    "tiny",
    network=NetworkConfig(filters=(8, 8), pools=(2, 2), lstm_cells_per_direction=4, masked=True),
    features=FeatureConfig(mels=MELS, clip_seconds=0.3),
)


def test_gradients_are_reversed_and_values_kept() -> None:
    values = torch.randn(5, requires_grad=True)
    same = reverse_gradient(values, 0.3)
    assert torch.equal(same, values)
    (same * torch.arange(5.0)).sum().backward()
    assert values.grad is not None
    assert torch.allclose(values.grad, -0.3 * torch.arange(5.0))


def test_the_strength_rises_from_nothing_to_the_weight() -> None:
    adversary = Adversary(4, 3, weight=0.5)
    strengths = []
    for progress in (0.0, 0.1, 0.5, 1.0):
        adversary.advance(progress)
        strengths.append(adversary.strength)
    assert strengths == pytest.approx([0, 0.5 * 0.46212, 0.5 * 0.98661, 0.5 * 0.99991], abs=1e-5)


def test_the_adversary_descends_and_the_network_ascends() -> None:
    torch.manual_seed(0)
    adversary, speakers = Adversary(6, 3, weight=0.5), torch.tensor([0, 2, 1, 1])
    adversary.advance(1.0)
    embedding = torch.randn(4, 6, requires_grad=True)
    loss = adversary(embedding, speakers)
    loss.backward()
    plain = embedding.detach().clone().requires_grad_()
    expected = nn.functional.cross_entropy(adversary.layers(plain), speakers)
    own = [parameter.grad for parameter in adversary.parameters()]
    named, *layers = torch.autograd.grad(expected, [plain, *adversary.parameters()])
    assert loss.item() == pytest.approx(expected.item())
    assert embedding.grad is not None
    assert torch.allclose(embedding.grad, -adversary.strength * named, atol=1e-7)
    assert all(torch.allclose(mine, theirs, atol=1e-7) for mine, theirs in zip(own, layers, strict=True))


def make_clips(speakers: np.ndarray) -> tuple[Clips, Tensor]:
    generator = torch.Generator().manual_seed(0)
    clips = -9 + torch.randn(UTTERANCES, 20, MELS, generator=generator)
    for row, speaker in enumerate(speakers):
        clips[row, :, row % CLASSES] += 2
        clips[row, :, 4 + speaker] += 3
    return Clips.of(clips, silence=-18.0), clips


def fitted_with(speakers: np.ndarray | None, weight: float) -> object:
    rows = np.arange(UTTERANCES)
    named = np.arange(UTTERANCES) // 2 % 3
    clips, _ = make_clips(named)
    part = Subset(rows, rows % CLASSES, speakers)
    config = TrainConfig(batch_size=16, learning_rate=3e-3, max_epochs=3, adversary=weight, monitor="loss")
    return fit(SYSTEM, clips, part, part, CLASSES, config, seed=0)


def test_training_against_an_adversary_leads_elsewhere_and_keeps_the_network_alone() -> None:
    speakers = np.arange(UTTERANCES) // 2 % 3
    without, against = fitted_with(speakers, 0.0), fitted_with(speakers, 1.0)
    names, others = without.network.state_dict(), against.network.state_dict()  # type: ignore[attr-defined]
    assert names.keys() == others.keys()
    assert any(not torch.equal(names[name], others[name]) for name in names)
    same = fitted_with(speakers + 100, 1.0).network.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(same[name], others[name]) for name in others), "speakers' numbers do not matter"


@pytest.mark.parametrize(
    ("speakers", "got"),
    [
        (None, "utterances without a speaker"),
        (np.where(np.arange(UTTERANCES) == 5, -1, np.arange(UTTERANCES) % 3), "utterances without a speaker"),
        (np.full(UTTERANCES, 7), "one speaker"),
    ],
)
def test_an_adversary_without_speakers_is_refused(speakers: np.ndarray | None, got: str) -> None:
    with pytest.raises(ConfigError, match=rf"train\.adversary: speakers: got {got}, expected at least 2"):
        fitted_with(speakers, 0.5)
    assert fitted_with(speakers, 0.0)


def test_a_weight_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.adversary: got -1, expected 0 or more"):
        TrainConfig(adversary=-1)
