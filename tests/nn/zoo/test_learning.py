"""Every system learns a few real recordings by heart, with its own input and segmenting.

The networks are narrow and the recordings short, so that this takes seconds on one core.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from affekt import audio
from affekt.features.clips import Clips
from affekt.training.fitted import Epoch, as_subset
from affekt.training.fitting import fit
from affekt.training.systems import SYSTEMS, System
from affekt.training.train_config import TrainConfig

CLASSES = "WFTN"  # anger, happiness, sadness, neutral: the sixth letter of EmoDB's names
SECONDS = 1.0
NARROW = {
    "lstm": {"cells": 32, "dense": 16, "input_dropout": 0.0, "dropout": 0.0},
    "lstm-attention": {"hidden": 32, "cells": 16, "dropout": 0.0},
    "rnn-attention": {"hidden": 32, "cells": 16, "dropout": 0.0},
    "cnn-blstm": {"maps": (4, 6, 8), "cells": 16, "dense": 16, "dropout": 0.0},
    "tdnn-lstm": {"filters": 24, "width": 32, "projection": 16, "heads": 2, "dropout": 0.0},
    "resnet-mha": {"width": 4, "heads": 4, "dense": 16, "dropout": 0.0},
    "crnn-3d": {"maps": 4, "convolutions": 2, "pool": (2, 4), "hidden": 32, "cells": 16, "dense": 16},
    "functionals-svm": {},
    "ecapa": {"channels": 32, "scale": 4, "bottleneck": 8, "embedding": 16},
}

DEEP = ("resnet-mha", "tdnn-lstm")  # which want smaller steps


class LearnedError(Exception):
    """Raised once all recordings are recognized, so that no time is lost."""


def recordings(folder: Path, per_class: int = 3) -> tuple[list[np.ndarray], np.ndarray]:
    """The middle of a few recordings of each class, of different speakers and sentences."""
    waveforms, labels = [], []
    for number, letter in enumerate(CLASSES):
        paths = sorted((folder / "emodb" / "wav").glob(f"?????{letter}?.wav"))
        for path in paths[:: len(paths) // per_class][:per_class]:
            samples = audio.load(path)
            start = max(0, (len(samples) - round(16_000 * SECONDS)) // 2)
            waveforms.append(samples[start : start + round(16_000 * SECONDS)])
            labels.append(number)
    return waveforms, np.array(labels)


def narrow(name: str) -> System:
    system = SYSTEMS[name]
    segments = system.segments and replace(system.segments, seconds=0.6)  # so that the recordings are cut
    return replace(system, network_options={**system.network_options, **NARROW[name]}, segments=segments)


@pytest.mark.slow
@pytest.mark.parametrize("name", NARROW)
def test_learns_a_few_recordings_by_heart(name: str, corpora: Path) -> None:
    waveforms, labels = recordings(corpora)
    system = narrow(name)
    clips = Clips.from_waveforms(waveforms, system.features)
    part = as_subset(range(len(waveforms)), labels)
    rate = 1e-3 if name in DEEP else 1e-2
    config = TrainConfig(batch_size=12, learning_rate=rate, max_epochs=150, patience=150, precision="float32")

    def stop_when_learned(epoch: Epoch) -> None:
        if epoch.validation_accuracy == 1.0:
            raise LearnedError

    with pytest.raises(LearnedError):
        fit(system, clips, part, part, 4, config, seed=0, on_epoch=stop_when_learned)
