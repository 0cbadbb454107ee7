"""Inference with a trained network: logits and deep features of utterances, without gradients or random choices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from affekt.features.clips import Clips, sorted_batches
from affekt.features.pieces import combine_embeddings, combine_logits
from affekt.runtime.devices import autocast
from affekt.training.fitted import Fitted
from affekt.training.train_config import TrainConfig


class Scored(NamedTuple):
    """Outputs of a network: logits, whose softmax is the posterior, and deep features."""

    logits: Float[NDArray[np.float32], "utterances classes"]
    embeddings: Float[NDArray[np.float32], "utterances features"]


def score(
    fitted: Fitted, clips: Clips, rows: NDArray[np.int64], config: TrainConfig, device: torch.device | str = "cpu"
) -> Scored:
    """Score utterances.

    Args:
        fitted: the trained network.
        clips: features of all utterances, not normalized.
        rows: rows of the utterances to score.
        config: batch size and precision.
        device: where to compute.

    Returns:
        Logits and deep features, in the order of `rows`.
    """
    segments = fitted.system.segments
    if segments is None or segments.combine == "whole":
        return _score(fitted, clips, rows, config, device)
    pieces, cut = segments.cut(clips, rows, fitted.system.features.hop_seconds)
    scored = _score(fitted, pieces, np.arange(len(pieces)), config, device)
    owners = torch.from_numpy(cut)
    logits = combine_logits(torch.from_numpy(scored.logits), owners, segments.combine)
    return Scored(logits.numpy(), combine_embeddings(torch.from_numpy(scored.embeddings), owners).numpy())


def _score(
    fitted: Fitted, clips: Clips, rows: NDArray[np.int64], config: TrainConfig, device: torch.device | str
) -> Scored:
    system, device = fitted.system, torch.device(device)
    frames = None if system.masked else system.features.clip_frames
    logits, embeddings = [], []
    order = {int(row): place for place, row in enumerate(rows)}
    network, normalize = fitted.network.eval(), fitted.normalizer.on(device)
    chunks = sorted_batches(clips.lengths.cpu().numpy(), rows, config.batch_size)
    sorted_rows = torch.from_numpy(np.concatenate(chunks)).to(device)
    with torch.inference_mode(), autocast(device, config.precision):
        for chunk in sorted_rows.split([len(chunk) for chunk in chunks]):
            batch = clips.batch(chunk, frames)
            scores, embedding = network(normalize(batch.features), batch.lengths)
            logits.append(fitted.loss.logits(scores).float())
            embeddings.append(embedding.float())
    back = np.argsort([order[int(row)] for row in np.concatenate(chunks)])
    return Scored(*(torch.cat(parts).cpu().numpy()[back] for parts in (logits, embeddings)))
