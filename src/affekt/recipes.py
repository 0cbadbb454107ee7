"""Recipes: how any system is trained. `paper` is the paper's, to the letter; `robust` for the best model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from affekt.augmentation import AugmentConfig
from affekt.nn import NetworkConfig
from affekt.systems import System
from affekt.training import TrainConfig


@dataclass(frozen=True)
class Recipe:
    """Training configuration, and what it changes in a system.

    Attributes:
        name: for tables.
        train: optimiser, schedule, stopping, precision, augmentation.
        masked: whether the paper's network hides padding; None leaves the system as it is.
    """

    name: str = "paper"
    train: TrainConfig = field(default_factory=TrainConfig)
    masked: bool | None = None

    def apply(self, system: System) -> System:
        """The system as this recipe trains it."""
        if self.masked is None or not isinstance(system.network, NetworkConfig):
            return system
        return replace(system, network=replace(system.network, masked=self.masked))


RECIPES: Mapping[str, Recipe] = {
    "paper": Recipe(),
    "quick": Recipe(  # for a first look: an order of magnitude fewer steps than the paper's
        "quick",
        TrainConfig(
            batch_size=16, learning_rate=2e-3, max_epochs=14, patience=14, schedule="one-cycle", bucketed=True
        ),
        masked=True,
    ),
    "robust": Recipe(
        "robust",
        TrainConfig(
            learning_rate=2e-3,
            weight_decay=1e-2,
            max_epochs=60,
            patience=60,
            monitor="ua",
            schedule="one-cycle",
            averaging=0.98,
            gradient_clip=5.0,
            bucketed=True,
            augment=AugmentConfig(
                gain_db=10.0,
                channel_db=4.0,
                noise_probability=0.3,
                warp=0.1,
                tempo=0.15,
                time_masks=2,
                mel_masks=2,
            ),
        ),
        masked=True,
    ),
}
