"""Clips of different lengths in one tensor, and batches of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affekt.features.clips import BUCKET_BATCHES, Clips, batches_per_epoch, shuffled_batches, sorted_batches
from affekt.features.log_mel import FeatureConfig, LogMel, Normalizer, silence_value

LENGTHS = (5, 1, 9, 3, 9, 2)


@pytest.fixture
def clips() -> Clips:
    generator = torch.Generator().manual_seed(0)
    return Clips.of([torch.randn(frames, 3, generator=generator) for frames in LENGTHS], silence=-7.0)


@pytest.mark.parametrize("frames", [None, 9, 12, 4])
@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4, 5], [3, 0, 3], [1], [5, 1]])
def test_a_batch_is_what_a_loop_gathers(clips: Clips, rows: list[int], frames: int | None) -> None:
    features, lengths = clips.batch(torch.tensor(rows), frames)
    width = max(LENGTHS[row] for row in rows) if frames is None else frames
    assert features.shape == (len(rows), width, 3)
    for place, row in enumerate(rows):
        own = min(LENGTHS[row], width)
        assert lengths[place] == own
        assert torch.equal(features[place, :own], clips[row][:own])
        assert (features[place, own:] == -7.0).all()


def test_clips_know_their_rows(clips: Clips) -> None:
    assert len(clips) == 6
    assert clips.lengths.tolist() == list(LENGTHS)
    assert torch.equal(torch.cat([clips[row] for row in range(6)]), clips.values)
    moved = clips.to("cpu")
    assert torch.equal(moved.values, clips.values)
    assert torch.equal(moved.offsets, clips.offsets)


def test_the_normalizer_sees_its_rows_and_nothing_else(clips: Clips) -> None:
    frames = torch.cat([clips[2], clips[5]]).double().numpy()
    normalizer = clips.normalizer([2, 5])
    np.testing.assert_allclose(normalizer.mean, frames.mean(0), rtol=1e-12)
    np.testing.assert_allclose(normalizer.std, frames.std(0), rtol=1e-10)


def test_normalized_clips_are_padded_with_normalized_silence(clips: Clips) -> None:
    normalizer = Normalizer((1.0, 0.0, -7.0), (2.0, 1.0, 0.5))
    features, _ = clips.normalized(normalizer).batch(torch.tensor([1]), frames=3)
    assert features[0, 1:].tolist() == [[-4.0, -7.0, 0.0]] * 2
    raw, _ = clips.batch(torch.tensor([1]), frames=3)
    assert torch.equal(features, normalizer(raw))


def test_clips_from_waveforms_are_their_own_features_cut_to_the_clip() -> None:
    config = FeatureConfig(clip_seconds=0.1)
    rng = np.random.default_rng(0)
    waveforms = [rng.normal(size=samples).astype(np.float32) for samples in (1_000, 5_000, 1_600, 1)]
    seen: list[int] = []
    clips = Clips.from_waveforms(waveforms, config, progress=seen.append)
    assert clips.lengths.tolist() == [7, 10, 10, 1]
    assert seen == [1, 2, 3, 4]
    for row, waveform in enumerate(waveforms):
        assert torch.equal(clips[row], LogMel(config)(torch.from_numpy(waveform[:1_600])[None])[0])
    padded, lengths = clips.batch(torch.tensor([0]), config.clip_frames)
    assert (padded[0, 7:] == silence_value(config)).all()
    assert lengths.tolist() == [7]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 200), st.integers(2, 40), st.booleans(), st.integers(0, 5))
def test_every_row_once_and_no_batch_of_one(rows: int, batch_size: int, bucketed: bool, seed: int) -> None:
    numbers = np.arange(rows) * 3 + 1
    lengths = np.random.default_rng(seed).integers(1, 100, 3 * rows + 1)
    batches = shuffled_batches(lengths, numbers, batch_size, seed, bucketed)
    assert sorted(np.concatenate(batches).tolist()) == numbers.tolist()
    assert len(batches) == batches_per_epoch(rows, batch_size) == max(1, math.ceil((rows - 1) / batch_size))
    assert all(2 <= len(batch) <= batch_size + 1 for batch in batches) or rows == 1


def test_order_depends_on_the_seed_and_on_nothing_else() -> None:
    lengths, rows = np.arange(50), np.arange(50)
    for bucketed in (False, True):
        first, again, other = (
            [batch.tolist() for batch in shuffled_batches(lengths, rows, 8, seed, bucketed)] for seed in (1, 1, 2)
        )
        assert first == again != other


def test_buckets_hold_utterances_of_similar_length() -> None:
    lengths = np.random.default_rng(0).permutation(512)
    rows = np.arange(512)

    def padding(bucketed: bool) -> int:
        return sum(int((lengths[b].max() - lengths[b]).sum()) for b in shuffled_batches(lengths, rows, 8, 0, bucketed))

    assert padding(bucketed=True) < padding(bucketed=False) / 3
    longest = [int(lengths[batch].max()) for batch in shuffled_batches(lengths, rows, 8, 0, bucketed=True)]
    assert longest[:BUCKET_BATCHES] != sorted(longest[:BUCKET_BATCHES])  # batches come in random order


def test_evaluation_batches_are_sorted_and_stable() -> None:
    lengths = np.array([5, 1, 9, 3, 9, 2, 4])
    rows = np.array([6, 4, 2, 0, 1])
    batches = sorted_batches(lengths, rows, 2)
    assert [batch.tolist() for batch in batches] == [[1, 6], [0, 4], [2]]
