"""Augmentation of log-mel features: loudness, frequency response, noise, pass band, vocal tract length, tempo, masks.

All variations work on batches of features before normalization, on their device, with draws from a generator that is an
argument. A microphone or a room adds to the logarithm of each mel band; noise adds to its energy; a telephone's pass
band empties the other bands; another vocal tract length shifts the bands; another tempo changes the number of frames.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from affekt.features.clips import Batch
from affekt.training.train_config import AugmentConfig

NEPER_PER_DB = math.log(10) / 10  # of energy: 10 dB are a factor of 10, which is ln(10) in log-mel features


def augment(batch: Batch, config: AugmentConfig, silence: Float[Tensor, " mels"], generator: torch.Generator) -> Batch:
    """Augment a batch; padding stays silence, and masked parts are set to the utterance's mean.

    Args:
        batch: log-mel features, not normalized.
        config: the amounts.
        silence: value of padding in each band.
        generator: a generator on the CPU, of which all draws are taken.

    Returns:
        The augmented copy.
    """
    if not config.active:
        return batch
    if config.tempo:
        batch = _change_tempo(batch, config.tempo, generator)
    features, lengths = batch
    if config.warp:
        features = _warp_bands(features, config.warp, generator)
    features = features + _response(features, config, generator)
    if config.noise_probability:
        features = _add_noise(features, lengths, config, generator)
    if config.band_probability:
        features = _narrow(features, config, silence, generator)
    features = _mask(features, lengths, config, generator)
    valid = torch.arange(features.shape[1], device=features.device) < lengths[:, None]
    return Batch(torch.where(valid[..., None], features, silence), lengths)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator, like: Tensor) -> Tensor:
    return (low + (high - low) * torch.rand(shape, generator=generator)).to(like.device)


def _change_tempo(batch: Batch, amount: float, generator: torch.Generator) -> Batch:
    """Resample the time axis linearly by a factor per utterance, up to the width of the batch."""
    features, lengths = batch
    width = features.shape[1]
    factor = _uniform((len(features), 1), 1 - amount, 1 + amount, generator, features)
    factor = torch.maximum(factor, lengths[:, None] / width)
    position = torch.minimum(torch.arange(width, device=features.device) * factor, lengths[:, None] - 1.0)
    below = position.long()
    above = torch.minimum(below + 1, lengths[:, None] - 1)
    share = (position - below)[..., None]
    rows = torch.arange(len(features), device=features.device)[:, None]
    resampled = torch.lerp(features[rows, below], features[rows, above], share)
    return Batch(resampled, (lengths / factor[:, 0]).ceil().long().clamp(1, width))


def _warp_bands(features: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Scale the mel axis by a factor per utterance, with linear interpolation."""
    mels = features.shape[2]
    factor = _uniform((len(features), 1), 1 - amount, 1 + amount, generator, features)
    position = (torch.arange(mels, device=features.device) * factor).clamp_max(mels - 1)
    below = position.long()
    above = (below + 1).clamp_max(mels - 1)
    share = (position - below)[:, None]
    index = below[:, None].expand_as(features), above[:, None].expand_as(features)
    return torch.lerp(features.gather(2, index[0]), features.gather(2, index[1]), share)


def _response(features: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Gain plus a smooth frequency response: three cosines over the mel axis, [batch, 1, mels]."""
    utterances, _, mels = features.shape
    gain = _uniform((utterances, 1), -config.gain_db, config.gain_db, generator, features)
    waves = torch.arange(1, 4)[:, None] * torch.linspace(0, math.pi, mels)  # half, one and one and a half periods
    weights = torch.randn(utterances, 3, generator=generator) * config.channel_db * math.sqrt(2 / 3)
    return (gain + (weights @ waves.cos()).to(features.device))[:, None] * NEPER_PER_DB


def _add_noise(features: Tensor, lengths: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Add stationary noise with a random tilt: ln(e^x + e^n)."""
    utterances, width, mels = features.shape
    valid = (torch.arange(width, device=features.device) < lengths[:, None])[..., None]
    energy = torch.where(valid, features.exp(), 0).sum((1, 2)) / (lengths * mels)
    snr_db = _uniform((utterances,), *config.noise_snr_db, generator, features)
    tilt = _uniform((utterances, 1), -1.5, 1.5, generator, features) * torch.linspace(
        -1, 1, mels, device=features.device
    )
    level = energy.clamp_min(1e-20).log() - snr_db * NEPER_PER_DB
    noisy = torch.logaddexp(features, (level[:, None] + tilt)[:, None])
    chosen = _uniform((utterances, 1, 1), 0, 1, generator, features) < config.noise_probability
    return torch.where(chosen, noisy, features)


def _narrow(features: Tensor, config: AugmentConfig, silence: Tensor, generator: torch.Generator) -> Tensor:
    """Set the bands outside a pass band to silence, in some utterances."""
    utterances, _, mels = features.shape
    lowest = _uniform((utterances, 1), 0, config.band_lowest, generator, features)
    highest = _uniform((utterances, 1), config.band_highest, 1, generator, features)
    chosen = _uniform((utterances, 1), 0, 1, generator, features) < config.band_probability
    place = (torch.arange(mels, device=features.device) + 0.5) / mels
    empty = chosen & ((place < lowest) | (place > highest))
    return torch.where(empty[:, None], silence, features)


def _mask(features: Tensor, lengths: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Replace stretches of time and bands of frequency by the utterance's mean."""
    utterances, width, mels = features.shape
    if not config.time_masks and not config.mel_masks:
        return features
    frames, bands = torch.arange(width, device=features.device), torch.arange(mels, device=features.device)
    hidden = torch.zeros_like(features, dtype=torch.bool)
    for _ in range(config.time_masks):
        size = _uniform((utterances, 1), 0, config.time_mask_frames, generator, features).minimum(lengths[:, None] / 4)
        start = _uniform((utterances, 1), 0, 1, generator, features) * (lengths[:, None] - size)
        hidden |= ((frames >= start) & (frames < start + size))[..., None]
    for _ in range(config.mel_masks):
        size = _uniform((utterances, 1), 0, config.mel_mask_bands, generator, features)
        start = _uniform((utterances, 1), 0, 1, generator, features) * (mels - size)
        hidden |= ((bands >= start) & (bands < start + size))[:, None]
    valid = (frames < lengths[:, None])[..., None]
    mean = torch.where(valid, features, 0).sum((1, 2), keepdim=True) / (lengths[:, None, None] * mels)
    return torch.where(hidden, mean, features)
