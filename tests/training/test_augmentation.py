"""Variation of features: each kind does what it says, all are drawn from one generator, and padding stays silence."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affekt.errors import ConfigError
from affekt.features.clips import Batch
from affekt.training.augmentation import NEPER_PER_DB, augment
from affekt.training.train_config import AugmentConfig

MELS = 24
SILENCE = torch.full((MELS,), math.log(1e-8))
LENGTHS = torch.tensor([50, 7, 1, 33])
EVERYTHING = AugmentConfig(
    gain_db=10.0,
    channel_db=4.0,
    noise_probability=0.5,
    band_probability=0.5,
    warp=0.2,
    tempo=0.3,
    time_masks=2,
    mel_masks=2,
)


def make_batch(utterances: int = 4, width: int = 50, seed: int = 0) -> Batch:
    """Speech-like log energies, padded with silence."""
    generator = torch.Generator().manual_seed(seed)
    lengths = LENGTHS[torch.arange(utterances) % 4].clamp_max(width)
    features = -6 + 2 * torch.randn(utterances, width, MELS, generator=generator)
    return Batch(torch.where((torch.arange(width) < lengths[:, None])[..., None], features, SILENCE), lengths)


def vary(batch: Batch, seed: int = 0, **amounts: object) -> Batch:
    return augment(batch, AugmentConfig(**amounts), SILENCE, torch.Generator().manual_seed(seed))  # type: ignore[arg-type]


def valid(batch: Batch) -> torch.Tensor:
    return torch.arange(batch.features.shape[1]) < batch.lengths[:, None]


def test_off_is_the_same_object() -> None:
    batch = make_batch()
    assert vary(batch) is batch
    assert vary(batch, noise_snr_db=(1.0, 2.0), time_mask_frames=9) is batch
    assert AugmentConfig().active is False


EACH = [{"gain_db": 1.0}, {"channel_db": 1.0}, {"noise_probability": 1.0}, {"warp": 0.1}, {"tempo": 0.1}]
EACH += [{"time_masks": 1}, {"mel_masks": 1}, {"band_probability": 1.0, "band_lowest": 0.4, "band_highest": 0.5}]


@pytest.mark.parametrize("amount", EACH)
def test_each_alone_varies_the_utterances_and_leaves_its_input(amount: dict[str, float]) -> None:
    batch, untouched = make_batch(), make_batch()
    assert AugmentConfig(**amount).active  # type: ignore[arg-type]
    varied = vary(batch, **amount)
    assert not torch.equal(varied.features[3], batch.features[3])
    assert torch.equal(batch.features, untouched.features)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(1, 8), st.integers(1, 60))
def test_lengths_are_valid_padding_is_silence_and_all_is_finite(seed: int, utterances: int, width: int) -> None:
    batch = make_batch(utterances, width, seed)
    varied = augment(batch, EVERYTHING, SILENCE, torch.Generator().manual_seed(seed))
    assert varied.features.shape == batch.features.shape
    assert varied.lengths.dtype == torch.int64
    assert ((varied.lengths >= 1) & (varied.lengths <= width)).all()
    assert torch.isfinite(varied.features).all()
    assert (varied.features[~valid(varied)] == SILENCE[0]).all()


def test_what_padding_holds_does_not_matter() -> None:
    batch, noisy = make_batch(), replace(EVERYTHING, noise_probability=1.0, tempo=0.0)
    odd = Batch(batch.features.masked_fill(~valid(batch)[..., None], 99.0), batch.lengths)
    left, right = (augment(one, noisy, SILENCE, torch.Generator().manual_seed(3)).features for one in (batch, odd))
    assert torch.equal(left, right)


def test_the_generator_decides() -> None:
    first, again, other = (vary(make_batch(), seed, **vars(EVERYTHING)).features for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_each_utterance_has_its_own_draw() -> None:
    batch = make_batch()
    twins = Batch(batch.features[3:].repeat(6, 1, 1), batch.lengths[3:].repeat(6))
    for amount in EACH:
        varied = vary(twins, **amount).features
        assert len({row.numpy().tobytes() for row in varied}) == 6, amount


def test_gain_is_one_number_within_its_range() -> None:
    batch = make_batch(400)
    change_db = (vary(batch, gain_db=10.0).features - batch.features)[:, 0] / NEPER_PER_DB
    np.testing.assert_allclose(change_db.std(1), 0, atol=1e-4)
    assert change_db.abs().max() <= 10
    assert change_db[:, 0].min() < -9.5
    assert change_db[:, 0].max() > 9.5


def test_the_channel_is_constant_in_time_smooth_over_bands_and_as_strong_as_asked() -> None:
    batch = make_batch(2_000)
    change_db = (vary(batch, channel_db=4.0).features - batch.features) / NEPER_PER_DB
    np.testing.assert_allclose(change_db[0, 1:50].std(0), 0, atol=1e-4)
    response = change_db[:, 0]
    assert response.square().mean().sqrt().item() == pytest.approx(4.0, rel=0.06)
    assert response.diff(dim=1).square().mean().sqrt() < 1.5  # three slow waves: small steps from band to band
    np.testing.assert_allclose(response.mean(), 0, atol=0.3)


def test_noise_is_added_to_the_energy_at_its_ratio() -> None:
    """A frame of silence shows the noise alone; its mean energy is the utterance's over the ratio, but for the tilt."""
    batch = make_batch(600)
    varied = vary(batch, noise_probability=1.0, noise_snr_db=(10.0, 10.0))
    added = (varied.features.exp() - batch.features.exp())[:, 0]  # the same in every frame
    tilt = torch.linspace(-1, 1, MELS)
    speech = torch.stack([batch.features[row, :length].exp().mean() for row, length in enumerate(batch.lengths)])
    middle = (added[:, MELS // 2 - 1] * added[:, MELS // 2]).sqrt()  # geometric: the tilt is odd about the middle
    np.testing.assert_allclose(middle / speech, 0.1, rtol=2e-2)
    slope = (added[:, -1] / added[:, 0]).log() / (tilt[-1] - tilt[0])
    assert slope.abs().max() <= 1.52
    assert slope.max() > 1.3
    assert slope.min() < -1.3
    stationary = (varied.features.exp() - batch.features.exp())[0, :50]
    np.testing.assert_allclose(stationary, added[0].expand(50, -1), rtol=5e-2, atol=1e-6)


def test_noise_comes_to_its_share_of_the_utterances() -> None:
    batch = make_batch(1_000)
    changed = (vary(batch, noise_probability=0.3).features != batch.features).flatten(1).any(1)
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.05)


def test_a_pass_band_leaves_its_middle_and_silence_beside_it_in_its_share_of_the_utterances() -> None:
    batch = Batch(torch.ones(2_000, 3, MELS), torch.full((2_000,), 3))
    narrowed = vary(batch, band_probability=0.4, band_lowest=0.25, band_highest=0.5).features
    kept = (narrowed == 1).all(1)
    assert ((narrowed == 1) | (narrowed == SILENCE)).all()
    assert kept[:, 6:12].all()  # bands 6 to 11 of 24 lie within a quarter and a half of the axis
    assert (~kept).any(1).float().mean().item() == pytest.approx(0.4, abs=0.05)
    assert (~kept)[:, 0].float().mean().item() == pytest.approx(0.4 * (1 - 0.5 / MELS / 0.25), abs=0.04)
    assert (~kept)[:, 18].float().mean().item() == pytest.approx(0.4 * (18.5 / MELS - 0.5) / 0.5, abs=0.04)
    assert (kept.int().diff(dim=1).abs().sum(1) <= 2).all()  # one stretch


def test_a_silent_utterance_stays_finite() -> None:
    silent = Batch(SILENCE.expand(2, 9, MELS).clone(), torch.tensor([9, 4]))
    assert torch.isfinite(augment(silent, EVERYTHING, SILENCE, torch.Generator().manual_seed(0)).features).all()


def test_warp_scales_the_mel_axis() -> None:
    """Features that are the band's number read off where each band was taken from."""
    bands = torch.arange(MELS, dtype=torch.float32)
    batch = Batch(bands.expand(500, 3, MELS).clone(), torch.full((500,), 3))
    warped = vary(batch, warp=0.1).features
    factor = warped[:, :1, 10:11] / 10
    assert 0.9 <= factor.min() < 0.905
    assert 1.095 < factor.max() <= 1.1
    np.testing.assert_allclose(warped, (factor * bands).clamp_max(MELS - 1).expand(-1, 3, -1), atol=1e-4)


def test_tempo_resamples_the_time_axis() -> None:
    """Features that are the frame's number read off where each frame was taken from."""
    steps = torch.arange(100, dtype=torch.float32)
    lengths = torch.arange(500) % 40 + 20
    batch = Batch(steps[None, :, None].expand(500, -1, MELS).clone(), lengths)
    varied = vary(batch, tempo=0.2)
    factor = varied.features[:, 1, 0]
    assert 0.8 <= factor.min() < 0.81
    assert 1.19 < factor.max() <= 1.2
    for row in range(0, 500, 7):
        length = int(varied.lengths[row])
        assert abs(length - int(lengths[row]) / factor[row]) < 1.001
        expected = (steps[:length] * factor[row]).clamp_max(float(lengths[row]) - 1)
        np.testing.assert_allclose(varied.features[row, :length, 0], expected, atol=1e-3)


def test_tempo_does_not_outgrow_the_batch_and_cuts_nothing_off() -> None:
    steps = torch.arange(40, dtype=torch.float32)
    batch = Batch(steps[None, :, None].expand(300, -1, MELS).clone(), torch.full((300,), 40))
    varied = vary(batch, tempo=0.3)
    last = varied.features[torch.arange(300), varied.lengths - 1, 0]
    assert last.min() > 39 - 1.3
    assert varied.lengths.max() == 40
    slowest = varied.lengths == 40
    assert slowest.float().mean() > 0.4  # half of them would be slower than the width allows: they stay as they are
    assert varied.lengths.min() < 33


@pytest.mark.parametrize(("kind", "axis", "longest"), [("time", 0, 8), ("mel", 1, 5)])
def test_masks_hide_one_stretch_with_the_utterance_s_mean(kind: str, axis: int, longest: int) -> None:
    batch = make_batch(400)
    amounts = {"time_masks": 1, "time_mask_frames": 8} if kind == "time" else {"mel_masks": 1, "mel_mask_bands": 5}
    varied = vary(batch, **amounts)
    sizes = []
    for row, length in enumerate(batch.lengths.tolist()):
        before, after = batch.features[row, :length], varied.features[row, :length]
        hidden = (before != after).any(1 - axis).nonzero()[:, 0]
        sizes.append(len(hidden))
        if len(hidden):
            assert hidden.diff().eq(1).all()
            np.testing.assert_allclose(after.index_select(axis, hidden), float(before.mean()), atol=1e-4)
    assert max(sizes) == longest
    assert min(sizes) == 0


def test_time_masks_hide_at_most_a_quarter_each() -> None:
    batch = make_batch(400)
    varied = vary(batch, time_masks=2, time_mask_frames=1_000)
    for row, length in enumerate(batch.lengths.tolist()):
        hidden = (batch.features[row, :length] != varied.features[row, :length]).any(1).sum()
        assert hidden <= 2 * (length // 4 + 1)


def test_all_faults_of_a_configuration_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        AugmentConfig(-1.0, -1.0, 1.5, (30.0, 5.0), 1.5, -0.1, 1.1, 1.0, 1.0, -1, -1, -1, -1, -1.0)
    named = [fault.what.removeprefix("augment.") for fault in raised.value.faults]
    assert named == list(vars(AugmentConfig()))


def test_values_that_are_no_numbers_are_refused() -> None:
    for name in ("gain_db", "channel_db", "noise_probability", "band_probability", "warp", "tempo"):
        with pytest.raises(ConfigError, match=name):
            replace(EVERYTHING, **{name: math.nan})
