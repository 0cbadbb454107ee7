"""Inputs and outputs of a training: a part of a fold as row numbers, the history of epochs, the trained network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from affekt.features.log_mel import Normalizer
from affekt.losses import Loss
from affekt.training.systems import System
from affekt.training.train_config import Monitor


@dataclass(frozen=True)
class Subset:
    """A part of a fold.

    Attributes:
        rows: rows of the clips, int64 [utterances].
        labels: class numbers, int64 [utterances].
        speakers: numbers of the speakers, -1 where unknown; None if no speaker is known.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    speakers: NDArray[np.int64] | None = None


def as_subset(rows: Sequence[int], labels: NDArray[np.int64], speakers: NDArray[np.int64] | None = None) -> Subset:
    """A part of a fold.

    Args:
        rows: its rows.
        labels: class numbers of all utterances of the corpus.
        speakers: speaker numbers of all utterances.
    """
    index = np.asarray(rows, np.int64)
    return Subset(index, labels[index], None if speakers is None else speakers[index])


@dataclass(frozen=True)
class Epoch:
    """One row of the history: measures of the training part during an epoch and of the validation part after it."""

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    validation_ua: float
    learning_rate: float
    seconds: float

    def value(self, monitor: Monitor) -> float:
        """The monitored value, with a sign such that larger is better."""
        return -self.validation_loss if monitor == "loss" else getattr(self, f"validation_{monitor}")


@dataclass
class Fitted:
    """A trained network, its loss and normalizer, and the history of its training."""

    system: System
    network: nn.Module
    loss: Loss
    normalizer: Normalizer
    history: list[Epoch]
    best_epoch: int


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during a training that had finished an epoch.

    Attributes:
        fitted: the best epoch's network so far.
    """

    def __init__(self, fitted: Fitted) -> None:
        super().__init__(f"interrupted after epoch {len(fitted.history)}")
        self.fitted = fitted
