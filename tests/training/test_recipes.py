"""Recipes: how any system is trained."""

from __future__ import annotations

from dataclasses import replace

import pytest

from affekt.config import as_table, build
from affekt.errors import ConfigError
from affekt.nn import NetworkConfig
from affekt.training.recipes import RECIPES, Recipe, find_recipe
from affekt.training.systems import SYSTEMS, System
from affekt.training.train_config import TrainConfig


def test_the_paper_s_recipe_changes_nothing() -> None:
    """Section 4.1: Adam at 1e-4, momentum 0.9, at most 100 epochs, patience 10 on the validation accuracy."""
    recipe = RECIPES["paper"]
    assert recipe.train == TrainConfig()
    assert recipe.train == TrainConfig(learning_rate=1e-4, beta1=0.9, max_epochs=100, patience=10, monitor="accuracy")
    assert all(recipe.apply(system) == system for system in SYSTEMS.values())


@pytest.mark.parametrize("name", ["quick", "robust"])
def test_other_recipes_hide_padding_and_keep_what_a_system_is(name: str) -> None:
    for system in SYSTEMS.values():
        applied = RECIPES[name].apply(system)
        if isinstance(system.network, NetworkConfig):
            assert applied.network == replace(system.network, masked=True)
        assert (applied.name, applied.loss, applied.loss_options) == (system.name, system.loss, system.loss_options)


def test_a_level_is_set_where_the_recipe_has_one() -> None:
    assert Recipe(level=0.05).apply(System("x")).features.level == 0.05
    assert Recipe().apply(System("x")).features.level == 0


def test_clip_length_and_initialization_are_the_recipe_s_where_it_has_them() -> None:
    recipe = Recipe(clip_seconds=3.0, initialization="keras")
    changed = recipe.apply(System("x"))
    assert changed.features.clip_seconds == 3.0
    assert changed.network == NetworkConfig(initialization="keras")
    rivals = [recipe.apply(SYSTEMS[name]) for name in ("descriptors-svm", "functionals-svm", "lstm")]
    assert {system.features.clip_seconds for system in rivals} == {3.0}
    assert build(Recipe, as_table(recipe), where="config.toml") == recipe
    with pytest.raises(ConfigError, match=r"recipe\.clip_seconds: got -1"):
        Recipe(clip_seconds=-1)


def test_paper_steps_differs_from_paper_in_the_length_of_an_epoch_alone() -> None:
    assert replace(RECIPES["paper-steps"].train, steps_per_epoch=0) == RECIPES["paper"].train
    assert RECIPES["paper-steps"].train.steps_per_epoch == 3_042 // 32


def test_own_networks_are_left_alone() -> None:
    system = System("own", network=lambda mels, classes, head: None)  # type: ignore[arg-type,return-value]
    assert Recipe(masked=True).apply(system) == system


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_named_as_they_are_listed_and_survive_a_file(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.name == name
    assert find_recipe(name) is recipe
    assert build(Recipe, as_table(recipe), where="config.toml") == recipe


def test_own_and_unknown_recipes() -> None:
    own = Recipe("own", TrainConfig(max_epochs=3))
    assert find_recipe(own) is own
    with pytest.raises(ConfigError, match="recipe: got 'papers', expected one of paper, paper-steps, encoder, "):
        find_recipe("papers")
