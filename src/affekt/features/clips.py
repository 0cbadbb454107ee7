"""Features of many utterances in one ragged tensor, and batches of them.

A batch is padded to a fixed length (the paper's 7.5 s) or to its longest utterance. All features are on one device, and
a batch is one gather operation, without a loop or a copy between host and device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from affekt.features.log_mel import FrontEnd, Normalizer

BUCKET_BATCHES = 8  # bucketed batches are cut from sorted runs of this many batches


class Batch(NamedTuple):
    """Padded features and each utterance's valid frames, at least 1."""

    features: Float[Tensor, "batch frames dims"]
    lengths: Int[Tensor, " batch"]


@dataclass(frozen=True)
class Clips:
    """Ragged features: the frames of all utterances, one after the other.

    Attributes:
        values: all frames.
        offsets: start of each utterance in `values`, and the end of the last.
        silence: value of padding in each dimension.
    """

    values: Float[Tensor, "all_frames dims"]
    offsets: Int[Tensor, " utterances_and_one"]
    silence: Float[Tensor, " dims"]

    @classmethod
    def of(cls, features: Iterable[Float[Tensor, "frames dims"]], silence: float) -> Clips:
        """Make clips from the features of each utterance."""
        parts = list(features)
        offsets = torch.tensor([0, *(len(part) for part in parts)]).cumsum(0)
        values = torch.cat(parts)
        return cls(values, offsets, torch.full((values.shape[1],), silence))

    @classmethod
    def from_waveforms(
        cls,
        waveforms: Sequence[NDArray[np.float32]],
        front_end: FrontEnd,
        device: torch.device | str = "cpu",
        progress: Callable[[int], object] = lambda done: None,
    ) -> Clips:
        """Features of every waveform, [samples] each, cut to the configured clip length.

        Each clip is computed alone, so its features cannot depend on its neighbors.
        """
        extract = front_end.extractor(device)
        clip_samples = round(front_end.clip_seconds * front_end.sample_rate_hz)
        parts = []
        with torch.inference_mode():
            for done, waveform in enumerate(waveforms):
                samples = torch.from_numpy(np.array(waveform[:clip_samples], np.float32)).to(device)
                parts.append(extract(samples))
                progress(done + 1)
        return cls.of(parts, front_end.silence).to(device)

    def to(self, device: torch.device | str) -> Clips:
        """The same clips on another device."""
        return Clips(self.values.to(device), self.offsets.to(device), self.silence.to(device))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Float[Tensor, "frames dims"]:
        """The features of one utterance."""
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> Int[Tensor, " utterances"]:
        """Frames of each utterance."""
        return self.offsets.diff()

    def normalizer(self, rows: Sequence[int]) -> Normalizer:
        """Fit a normalizer on the frames of these utterances: the training part of a fold alone."""
        ends = self.offsets.tolist()
        return Normalizer.fit(self.values[ends[row] : ends[row + 1]].cpu().numpy() for row in rows)

    def normalized(self, normalizer: Normalizer) -> Clips:
        """Normalized clips, including the silence of their padding."""
        return replace(self, values=normalizer(self.values), silence=normalizer(self.silence))

    def batch(self, rows: Int[Tensor, " batch"], frames: int | None = None) -> Batch:
        """Utterances `rows`, padded with silence to `frames`, or to the longest of them.

        >>> clips = Clips.of([torch.ones(1, 2), torch.ones(3, 2)], silence=-1.0)
        >>> features, lengths = clips.batch(torch.tensor([0, 1]))
        >>> features[..., 0].tolist(), lengths.tolist()
        ([[1.0, -1.0, -1.0], [1.0, 1.0, 1.0]], [1, 3])
        """
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        width = frames if frames is not None else int(lengths.max())
        lengths = lengths.clamp_max(width)
        steps = torch.arange(width, device=rows.device)
        valid = steps < lengths[:, None]
        index = torch.where(valid, starts[:, None] + steps, 0)
        return Batch(torch.where(valid[..., None], self.values[index], self.silence), lengths)


def batches_per_epoch(utterances: int, batch_size: int) -> int:
    """Number of batches of :func:`shuffled_batches`; a remainder of one utterance joins the batch before it.

    >>> [batches_per_epoch(utterances, batch_size=4) for utterances in (1, 4, 5, 6)]
    [1, 1, 1, 2]
    """
    whole, rest = divmod(utterances, batch_size)
    return max(1, whole + (rest > 1))


def shuffled_batches(
    lengths: NDArray[np.int64], rows: NDArray[np.int64], batch_size: int, seed: int, bucketed: bool
) -> list[NDArray[np.int64]]:
    """The batches of one pass: every row once, in an order that depends on the seed alone.

    Args:
        lengths: frames of each utterance, indexed by row.
        rows: the utterances to train on.
        batch_size: utterances per batch; the last may be smaller, but has at least 2, for batch normalization.
        seed: seed of this pass.
        bucketed: form batches of similar length, with little padding.

    Returns:
        Rows of each batch.

    >>> batches = shuffled_batches(np.arange(10), np.arange(10), batch_size=4, seed=0, bucketed=False)
    >>> [len(batch) for batch in batches], sorted(np.concatenate(batches).tolist()) == list(range(10))
    ([4, 4, 2], True)
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(rows)
    if bucketed:
        run = batch_size * BUCKET_BATCHES
        runs = [order[start : start + run] for start in range(0, len(order), run)]
        order = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in runs])
    batches = np.split(order, batch_size * np.arange(1, batches_per_epoch(len(order), batch_size)))
    if bucketed:
        batches = [batches[index] for index in generator.permutation(len(batches))]
    return batches


def sorted_batches(lengths: NDArray[np.int64], rows: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Batches for evaluation: every row once, sorted by length to minimize padding."""
    order = rows[np.argsort(lengths[rows], kind="stable")]
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
