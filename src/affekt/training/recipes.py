"""Recipes: how systems are trained. `paper` follows the paper to the letter; `robust` gives the best models.

`paper-steps` is `paper` with epochs of 95 steps, IEMOCAP's, whatever the size of the corpus: a patience of 10 epochs is
950 steps on IEMOCAP, but 60 on EmoDB, where training then often stops near chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from affekt.config import build, is_run_config, read_toml
from affekt.errors import ConfigError
from affekt.features.log_mel import FeatureConfig, FrontEnd
from affekt.nn import NetworkConfig
from affekt.nn.initialization import Initialization
from affekt.training.systems import System
from affekt.training.train_config import AugmentConfig, TrainConfig


@dataclass(frozen=True)
class Recipe:
    """Training configuration, and what it changes in a system.

    Attributes:
        name: for tables.
        train: optimizer, schedule, stopping, precision, augmentation.
        masked: whether the paper's network hides padding; None leaves the system as it is.
        level: root mean square that all clips are scaled to before log-mel; 0 leaves the system as it is.
        balance_corpora: whether training repeats the utterances of smaller corpora, each about
            sqrt(largest / own) times, so that the largest corpus does not dominate.
        clip_seconds: length that all systems' recordings are cut to; 0 leaves each system's own (7.5 s in the paper).
        initialization: initial weights of the paper's network (:mod:`affekt.nn.initialization`); None leaves the
            system as it is.

    Raises:
        ConfigError: a negative clip length.
    """

    name: str = "paper"
    train: TrainConfig = field(default_factory=TrainConfig)
    masked: bool | None = None
    level: float = 0.0
    balance_corpora: bool = False
    clip_seconds: float = 0.0
    initialization: Initialization | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.clip_seconds < math.inf:
            raise ConfigError("recipe.clip_seconds", got=str(self.clip_seconds), expected="seconds, or 0 for no change")

    def apply(self, system: System) -> System:
        """Apply the recipe's changes to a system.

        Args:
            system: any system.

        Returns:
            The system as this recipe trains it.
        """
        if self.level and isinstance(system.features, FeatureConfig):
            system = replace(system, features=replace(system.features, level=self.level))
        if self.masked is not None and isinstance(system.network, NetworkConfig):
            system = replace(system, network=replace(system.network, masked=self.masked))
        if self.initialization is not None and isinstance(system.network, NetworkConfig):
            system = replace(system, network=replace(system.network, initialization=self.initialization))
        if self.clip_seconds:
            system = replace(system, features=_clipped(system.features, self.clip_seconds))
        return system


def _clipped(front_end: FrontEnd, seconds: float) -> FrontEnd:
    """A front end, or the one that it is computed from, with another clip length."""
    for part in fields(front_end):  # type: ignore[arg-type]
        value = getattr(front_end, part.name)
        if part.name == "clip_seconds":
            return replace(front_end, clip_seconds=seconds)  # type: ignore[type-var]
        if isinstance(value, FeatureConfig):
            return replace(front_end, **{part.name: replace(value, clip_seconds=seconds)})  # type: ignore[type-var]
    return front_end


IEMOCAP_STEPS = 95
"""Steps of an epoch on IEMOCAP: 55 % of 5,531 utterances are 3,042, in batches of 32."""

RECIPES: Mapping[str, Recipe] = {
    "paper": Recipe(),
    "paper-steps": Recipe("paper-steps", TrainConfig(steps_per_epoch=IEMOCAP_STEPS)),
    "encoder": Recipe(  # the rate: by validation parts of EmoDB and CREMA-D (docs/study-plan.md)
        "encoder", TrainConfig(learning_rate=1e-3, max_epochs=60, bucketed=True)
    ),
    "quick": Recipe(  # for a first look: an order of magnitude fewer steps than the paper's
        "quick",
        TrainConfig(batch_size=16, learning_rate=2e-3, max_epochs=14, patience=14, schedule="one-cycle", bucketed=True),
        masked=True,
    ),
    "robust": Recipe(
        "robust",
        TrainConfig(
            batch_size=16,
            learning_rate=2e-3,
            weight_decay=1e-2,
            max_epochs=24,
            min_steps=2_000,
            patience=24,
            monitor="ua",
            schedule="one-cycle",
            averaging=0.99,
            gradient_clip=5.0,
            bucketed=True,
            augment=AugmentConfig(channel_db=3.0, noise_probability=0.2, noise_snr_db=(5.0, 30.0), warp=0.1),
        ),
        masked=True,
        level=0.05,
        balance_corpora=True,
    ),
}


def find_recipe(recipe: str | Recipe) -> Recipe:
    """Find a recipe.

    Args:
        recipe: a name in :data:`RECIPES`, a TOML file with the fields of a recipe, the `config.toml` of a run, or a
            recipe, which is returned.

    Raises:
        ConfigError: an unknown name, or faults of the file.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe.endswith(".toml"):
        data = read_toml(recipe)
        return build(Recipe, data["recipe"] if is_run_config(data) else data, where=recipe)
    if recipe not in RECIPES:
        expected = f"one of {', '.join(RECIPES)}, or a .toml file"
        raise ConfigError("recipe", got=repr(recipe), expected=expected)
    return RECIPES[recipe]
