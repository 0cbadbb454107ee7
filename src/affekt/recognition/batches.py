"""Batches of recordings of similar length, so that little padding is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from affekt.recognition.card import ModelCard

BATCH_SECONDS = 10.0
"""Longest batch: its intermediate results should stay in the processor's cache."""


def batches_of(samples: Mapping[int, int], card: ModelCard) -> Iterator[list[int]]:
    """Recordings of similar length together, none of the batches longer than :data:`BATCH_SECONDS`.

    Args:
        samples: the length of each recording, by its index.
        card: of the model, which hears at most a clip, and always a whole one if it does not mask padding.

    Yields:
        Indices of the recordings of one batch.
    """
    clip = card.clip_samples
    longest = BATCH_SECONDS * card.sample_rate_hz
    batch: list[int] = []
    for index in sorted(samples, key=samples.__getitem__):
        heard = min(samples[index], clip) if card.masked else clip
        if batch and (len(batch) + 1) * heard > longest:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
