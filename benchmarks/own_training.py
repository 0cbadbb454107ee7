"""affekt's training and batch prediction, in its own process: `python -m benchmarks.own_training CORES`.

Freed memory is kept between steps, as in :func:`affekt.training.fitting.fit`; in one process, so would the
alternatives'.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from affekt.audio.reader import load
from affekt.features.clips import Clips
from affekt.features.log_mel import FeatureConfig
from affekt.nn import NetworkConfig
from affekt.runtime import allocator
from affekt.training.fitted import Subset
from affekt.training.fitting import _Run
from affekt.training.scoring import score
from affekt.training.systems import SYSTEMS, System
from affekt.training.train_config import TrainConfig
from benchmarks.setting import BATCH, CLASSES, corpus, recordings
from benchmarks.worker import serve


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]))
    emodb = real_clips()
    with allocator.reuse_freed_memory():
        works = {
            "train": our_epoch(full_clips(), SYSTEMS["baseline"], TrainConfig(batch_size=BATCH)),
            "predict": our_prediction(full_clips()),
        }
        if emodb is not None:
            works["emodb"] = our_epoch(emodb, masked(), TrainConfig(batch_size=BATCH, bucketed=True))
        mean_seconds = 0.0 if emodb is None else float(emodb.lengths.float().mean()) / 100
        serve(works, {"emodb": [0 if emodb is None else len(emodb), mean_seconds]})


def full_clips() -> Clips:
    generator = torch.Generator().manual_seed(0)
    return Clips.of(torch.randn(BATCH, 750, 40, generator=generator), silence=0.0)


def real_clips() -> Clips | None:
    """EmoDB's features; None without the corpus."""
    folder = corpus("emodb")
    return Clips.from_waveforms([load(path) for path in recordings(folder)], FeatureConfig()) if folder else None


def masked() -> System:
    return replace(SYSTEMS["baseline"], network=NetworkConfig(masked=True))


def some_labels(utterances: int) -> Subset:
    return Subset(np.arange(utterances), np.arange(utterances) % len(CLASSES))


def our_epoch(clips: Clips, system: System, config: TrainConfig) -> Callable[[], object]:
    """An epoch as `affekt train` runs it: batches, normalizer, network, loss, gradients, optimizer."""
    part = some_labels(len(clips))
    run = _Run(system, clips, part, part, len(CLASSES), config, 0, torch.device("cpu"))
    return lambda: run._train_epoch(1)


def our_prediction(clips: Clips) -> Callable[[], object]:
    part, config = some_labels(len(clips)), TrainConfig(batch_size=BATCH)
    run = _Run(SYSTEMS["baseline"], clips, part, part, len(CLASSES), config, 0, torch.device("cpu"))
    fitted = run.fitted()
    return lambda: score(fitted, clips, part.rows, config)


if __name__ == "__main__":
    main()
