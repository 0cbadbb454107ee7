"""Mixup: energies and losses are mixed in the same shares, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affekt.errors import ConfigError
from affekt.features.clips import Batch
from affekt.training.mixup import mix
from affekt.training.train_config import AugmentConfig

SILENCE = -18.0


def make_batch(utterances: int = 5, width: int = 9, mels: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(3)
    lengths = 1 + torch.arange(utterances) * 2 % width
    features = torch.randn(utterances, width, mels, generator=generator)
    return Batch(torch.where((torch.arange(width) < lengths[:, None])[..., None], features, SILENCE), lengths)


def drawn_from(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_off_is_the_same_batch_and_draws_nothing() -> None:
    batch, generator = make_batch(), drawn_from(0)
    before = generator.get_state()
    mixed = mix(batch, 0.0, generator)
    assert mixed.batch is batch
    assert mixed.share == 1
    assert torch.equal(generator.get_state(), before)
    assert mixed.loss(lambda targets: targets.double().sum(), torch.arange(5)).item() == 10


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.1, 0.4, 1.0, 8.0]))
def test_energies_are_mixed_in_the_shares(seed: int, concentration: float) -> None:
    batch = make_batch()
    mixed = mix(batch, concentration, drawn_from(seed))
    assert 0.5 <= mixed.share <= 1
    assert sorted(mixed.partners.tolist()) == list(range(5))
    energy = batch.features.exp()
    expected = mixed.share * energy + (1 - mixed.share) * energy[mixed.partners]
    assert torch.allclose(mixed.batch.features.exp(), expected, rtol=1e-5)
    assert torch.equal(mixed.batch.lengths, torch.maximum(batch.lengths, batch.lengths[mixed.partners]))


def test_the_padding_of_a_shorter_utterance_adds_nothing() -> None:
    batch = make_batch(utterances=2)
    mixed = next(each for seed in range(99) if (each := mix(batch, 1.0, drawn_from(seed))).partners.tolist() == [1, 0])
    longer = int(batch.lengths.argmax())
    alone = slice(int(batch.lengths.min()), int(batch.lengths.max()))
    louder = mixed.batch.features[longer, alone] - batch.features[longer, alone]
    assert louder.exp() == pytest.approx(torch.full_like(louder, mixed.share), rel=1e-3)


def test_the_concentration_decides_how_even_the_shares_are() -> None:
    batch = make_batch(utterances=2, width=1)
    shares = {
        concentration: torch.tensor([mix(batch, concentration, drawn_from(seed)).share for seed in range(400)])
        for concentration in (0.1, 1.0, 1e6)
    }
    assert shares[0.1].mean() > 0.9
    assert shares[1.0].mean() == pytest.approx(0.75, abs=0.02)  # the larger part of a stick broken anywhere
    assert shares[1e6].mean() == pytest.approx(0.5, abs=1e-3)


def test_losses_are_mixed_in_the_same_shares() -> None:
    mixed = mix(make_batch(), 1.0, drawn_from(4))
    values = torch.tensor([1.0, 10.0, 100.0, 1e3, 1e4])
    weights = torch.arange(1.0, 6.0)
    loss = mixed.loss(lambda targets: (weights * values[targets]).sum(), torch.arange(5))
    own, other = (weights * values).sum(), (weights * values[mixed.partners]).sum()
    assert loss.item() == pytest.approx((mixed.share * own + (1 - mixed.share) * other).item())


@pytest.mark.parametrize("wrong", [-0.1, float("inf"), float("nan")])
def test_a_concentration_out_of_range_is_refused(wrong: float) -> None:
    with pytest.raises(ConfigError, match=r"augment\.mixup: got .*, expected 0 or more"):
        AugmentConfig(mixup=wrong)
