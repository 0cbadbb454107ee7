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
    """Rows of the clips that a part of a fold holds, their class numbers, and where known their speakers' numbers.

    A speaker of -1 is not known.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    speakers: NDArray[np.int64] | None = None


def as_subset(rows: Sequence[int], labels: NDArray[np.int64], speakers: NDArray[np.int64] | None = None) -> Subset:
    """A part of a fold from row numbers and all utterances' labels, and their speakers where known."""
    index = np.asarray(rows, np.int64)
    return Subset(index, labels[index], None if speakers is None else speakers[index])


@dataclass(frozen=True)
class Epoch:
    """One row of the history: measures of one pass over the training part, and of the validation part after it."""

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    validation_ua: float
    learning_rate: float
    seconds: float

    def value(self, monitor: Monitor) -> float:
        """What is monitored, so that more is better."""
        return -self.validation_loss if monitor == "loss" else getattr(self, f"validation_{monitor}")


@dataclass
class Fitted:
    """A trained network, with what it needs to be used."""

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
