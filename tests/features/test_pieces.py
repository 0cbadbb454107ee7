"""Pieces of utterances: where they are cut, what belongs to whom, and how hand-made posteriors are combined."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affekt.errors import ConfigError
from affekt.features.clips import Clips
from affekt.features.pieces import Segments, combine_embeddings, combine_logits


@given(length=st.integers(1, 5_000), frames=st.integers(1, 700), overlap=st.booleans())
def test_pieces_cover_everything_and_none_is_too_long(length: int, frames: int, overlap: bool) -> None:
    bounds = Segments(1.0, overlap=overlap).bounds(length, frames)
    assert len(bounds) == -(-length // frames)
    assert (bounds[0][0], bounds[-1][1]) == (0, length)
    sizes = [end - start for start, end in bounds]
    assert all(1 <= size <= frames for size in sizes)
    gaps = [later - end for (_, end), (later, _) in pairwise(bounds)]
    if overlap and length > frames:
        assert set(sizes) == {frames}
        assert all(gap <= 0 for gap in gaps)
    else:
        assert max(sizes) - min(sizes) <= 1
        assert all(gap == 0 for gap in gaps)


def test_cutting_by_hand() -> None:
    features = [torch.arange(length, dtype=torch.float32)[:, None] + 100 * row for row, length in enumerate((5, 2, 7))]
    clips = Clips.of(features, silence=-1.0)
    pieces, owners = Segments(0.03).cut(clips, np.array([2, 0]), hop_seconds=0.01)
    assert [pieces[row][:, 0].tolist() for row in range(len(pieces))] == [
        [200, 201],
        [202, 203, 204],
        [205, 206],
        [0, 1],
        [2, 3, 4],
    ]
    assert owners.tolist() == [0, 0, 0, 1, 1]
    assert pieces.silence.tolist() == [-1.0]
    assert pieces.batch(torch.tensor([0, 1])).features[..., 0].tolist() == [[200, 201, -1], [202, 203, 204]]


POSTERIORS = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.4, 0.1, 0.5], [0.1, 0.1, 0.8]])
OWNERS = torch.tensor([0, 0, 0, 1])


def test_mean_of_posteriors() -> None:
    combined = combine_logits(POSTERIORS.log() + 3.0, OWNERS, "mean").softmax(1)
    expected = torch.tensor([[0.4, 1.1 / 3, 0.7 / 3], [0.1, 0.1, 0.8]])
    torch.testing.assert_close(combined, expected)


def test_largest_posterior() -> None:
    combined = combine_logits(POSTERIORS.log() - 2.0, OWNERS, "max").softmax(1)
    torch.testing.assert_close(combined, torch.tensor([[0.6 / 1.8, 0.7 / 1.8, 0.5 / 1.8], [0.1, 0.1, 0.8]]))


def test_an_impossible_class_stays_finite() -> None:
    logits = torch.tensor([[0.0, -1e4]])
    assert torch.isfinite(combine_logits(logits, torch.tensor([0]), "mean")).all()


def test_embeddings_are_averaged() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [3.0, 6.0], [5.0, 3.0], [7.0, 7.0]])
    assert combine_embeddings(embeddings, OWNERS).tolist() == [[3.0, 3.0], [7.0, 7.0]]


def test_all_faults_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Segments(0.0, "median")
    assert [fault.what for fault in caught.value.faults] == ["segments.seconds", "segments.combine"]
