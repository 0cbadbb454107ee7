"""Utterances cut into pieces of a few seconds, on which some systems are trained and whose scores are combined."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from affekt.errors import ConfigError, Fault
from affekt.features.clips import Clips

Combine = Literal["mean", "max", "whole"]
SMALLEST_POSTERIOR = 1e-30  # so that its logarithm is finite


@dataclass(frozen=True)
class Segments:
    """Cutting of utterances for training, and combination of the pieces' posteriors at test time.

    An utterance is cut into the smallest number of equal pieces that are no longer than `seconds`.

    Attributes:
        seconds: longest piece.
        combine: "mean" or "max" of the pieces' posteriors for each class; "whole" scores the utterance uncut.
        overlap: pieces are all `seconds` long and overlap, the first at the start and the last at the end.

    Raises:
        ConfigError: values out of range.

    >>> Segments(3.0).bounds(7, frames=3), Segments(3.0, overlap=True).bounds(7, frames=3)
    ([(0, 2), (2, 5), (5, 7)], [(0, 3), (2, 5), (4, 7)])
    """

    seconds: float
    combine: Combine = "mean"
    overlap: bool = False

    def __post_init__(self) -> None:
        faults = []
        if not 0 < self.seconds < math.inf:
            faults.append(Fault("segments.seconds", str(self.seconds), "above 0"))
        if self.combine not in get_args(Combine):
            faults.append(Fault("segments.combine", repr(self.combine), f"one of {', '.join(get_args(Combine))}"))
        if faults:
            raise ConfigError.of(faults)

    def bounds(self, length: int, frames: int) -> list[tuple[int, int]]:
        """First frame and end of each piece of an utterance with `length` frames; pieces have at most `frames`."""
        count = max(1, -(-length // frames))
        if self.overlap and count > 1:
            starts = [round(piece * (length - frames) / (count - 1)) for piece in range(count)]
            return [(start, start + frames) for start in starts]
        edges = [round(piece * length / count) for piece in range(count + 1)]
        return list(pairwise(edges))

    def cut(self, clips: Clips, rows: NDArray[np.int64], hop_seconds: float) -> tuple[Clips, NDArray[np.int64]]:
        """The pieces of utterances, and for each piece the index of its utterance in `rows`."""
        frames = max(1, round(self.seconds / hop_seconds))
        starts, lengths = clips.offsets.tolist(), clips.lengths.tolist()
        pieces, owners = [], []
        for place, row in enumerate(rows.tolist()):
            for start, end in self.bounds(lengths[row], frames):
                pieces.append(clips.values[starts[row] + start : starts[row] + end])
                owners.append(place)
        offsets = torch.tensor([0, *(len(piece) for piece in pieces)], device=clips.values.device).cumsum(0)
        return Clips(torch.cat(pieces), offsets, clips.silence), np.array(owners, np.int64)


def combine_logits(
    logits: Float[Tensor, "pieces classes"], owners: Int[Tensor, " pieces"], combine: Combine
) -> Float[Tensor, "utterances classes"]:
    """Logarithm of the mean or the largest posterior of each class over an utterance's pieces.

    Its softmax is the utterance's posterior: the mean itself, or the largest ones scaled to sum to 1.

    >>> logits = torch.tensor([[0.8, 0.2], [0.4, 0.6], [0.5, 0.5]]).log()
    >>> combine_logits(logits, torch.tensor([0, 0, 1]), "mean").exp()
    tensor([[0.6000, 0.4000],
            [0.5000, 0.5000]])
    >>> combine_logits(logits, torch.tensor([0, 0, 1]), "max").exp()
    tensor([[0.8000, 0.6000],
            [0.5000, 0.5000]])
    """
    posteriors = logits.softmax(1)
    kept = [part.amax(0) if combine == "max" else part.mean(0) for part in _split(posteriors, owners)]
    return torch.stack(kept).clamp_min(SMALLEST_POSTERIOR).log()


def combine_embeddings(
    embeddings: Float[Tensor, "pieces features"], owners: Int[Tensor, " pieces"]
) -> Float[Tensor, "utterances features"]:
    """The mean embedding of the pieces of each utterance."""
    return torch.stack([part.mean(0) for part in _split(embeddings, owners)])


def _split(values: Tensor, owners: Tensor) -> tuple[Tensor, ...]:
    """The rows of each owner; owners are in order, and each has at least one."""
    parts: tuple[Tensor, ...] = values.split(owners.bincount().tolist())
    return parts
