"""The search for settings: what it may look at, what it finds, and that it goes on where it was stopped."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from affekt import cli
from affekt.config import load
from affekt.data.manifest import Manifest
from affekt.data.protocols import FoldPlan, make_folds
from affekt.errors import AudioError, ConfigError
from affekt.experiments import tuning
from affekt.experiments.search_space import Point, SearchChoice, SearchRange, default_space, load_space
from affekt.experiments.tuning import Search, plan_search, tune
from affekt.training.recipes import Recipe
from affekt.training.systems import SYSTEMS, System, resolve

SPACE = {
    "train.learning_rate": SearchRange(1e-4, 1e-2, log=True),
    "system.loss_options.gamma": SearchRange(1, 4),
    "system.network.dropout": SearchChoice((0.0, 0.25)),
}


@pytest.fixture
def plan(bursts: Path, tmp_path: Path) -> Callable[..., Search]:
    """Plan a search on a copy of the small corpus; arguments change it."""
    root = Path(shutil.copytree(bursts, tmp_path / "bursts"))

    def make(**changes: Any) -> Search:
        focal = resolve(str(root / "systems.toml"))[1]
        recipe = load(Recipe, root / "recipe.toml")
        options = {"folds": 3, "recipe": replace(recipe, train=replace(recipe.train, max_epochs=2)), "space": SPACE}
        options |= {"device": "cpu", "cache": tmp_path / "cache"}
        return plan_search(Manifest.read(root / "manifest.csv"), focal, **(options | changes))

    return make


def trials(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "trials.csv")


# --------------------------------------------------------------------------------------------- what it may look at


def test_the_test_part_is_not_even_opened(plan: Any, tmp_path: Path) -> None:
    """Its recordings are deleted first, and every trial comes out as it does with them."""
    tune(plan(fold=1), tmp_path / "with", trials=3)
    manifest = Manifest.read(tmp_path / "bursts" / "manifest.csv")
    (fold,) = FoldPlan.read(tmp_path / "with" / "folds.json").folds
    assert fold.test == make_folds(manifest, "random", 3).folds[1].test
    assert len(fold.test) == 16
    shutil.rmtree(tmp_path / "cache")
    for id in fold.test:
        (tmp_path / "bursts" / f"{id}.wav").unlink()
    search = plan(fold=1)
    assert set(search.data.manifest.ids) == {*fold.train, *fold.validation}
    tune(search, tmp_path / "without", trials=3)
    assert (tmp_path / "without" / "trials.csv").read_bytes() == (tmp_path / "with" / "trials.csv").read_bytes()
    (tmp_path / "bursts" / f"{fold.validation[0]}.wav").unlink()  # whereas these are needed
    with pytest.raises(AudioError, match=fold.validation[0]):
        plan(fold=1)


def test_a_trial_is_worth_the_validation_part_alone(plan: Any) -> None:
    """Labels of the validation part turn the value around; those of other utterances are not there to turn."""
    search = plan(seeds=2)
    point = {"train.learning_rate": 5e-3, "system.loss_options.gamma": 2, "system.network.dropout": 0.0}
    value = search.value(point)
    assert 0 <= value <= 1
    assert value == search.value(point)
    fold = search.plan.folds[0]
    rows = search.data.part(fold.validation).rows
    labels = search.data.labels.copy()
    labels[rows] = (labels[rows] + 1) % 4
    assert replace(search, data=replace(search.data, labels=labels)).value(point) != value


# ---------------------------------------------------------------------------------------------------- what it finds


def test_what_is_found_is_an_experiment_on_the_same_fold(
    plan: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    search = plan()
    found = tune(search, tmp_path / "search", trials=3)
    table = trials(tmp_path / "search")
    assert len(table) == found.trials == 3
    best = table.loc[table["validation_ua"].idxmax()]
    assert found.value == best["validation_ua"]
    assert {key: best[key] for key in SPACE} == dict(found.point)
    options = tomllib.loads(found.config.read_text())
    assert options["train"]["learning_rate"] == found.point["train.learning_rate"]
    assert options["train"]["max_epochs"] == 2
    (tuned,) = resolve(options["systems"])
    assert tuned.name == "focal-tuned"
    assert tuned.loss_options["gamma"] == found.point["system.loss_options.gamma"]
    assert tuned.network.dropout == found.point["system.network.dropout"]
    words = ["experiment", str(tmp_path / "bursts" / "manifest.csv"), "-o", str(tmp_path / "run")]
    code = cli.main([*words, "--config", str(found.config), "--device", "cpu", "--cache", str(tmp_path / "cache")])
    assert code == 0, capfd.readouterr().err
    (tested,) = FoldPlan.read(tmp_path / "run" / "folds.json").folds
    assert tested.parts() == search.plan.folds[0].parts()


def test_the_command(bursts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "space.toml").write_text("[train]\nlearning_rate = { low = 1e-3, high = 1.0, log = true }\n")
    (tmp_path / "one.toml").write_text("[one]\nfeatures = { mels = 12, clip_seconds = 0.4 }\n")
    words = ["tune", str(bursts / "manifest.csv"), "-o", str(tmp_path / "out"), "--system", str(tmp_path / "one.toml")]
    words += ["--space", str(tmp_path / "space.toml"), "--trials", "2", "--folds", "3", "--train.max-epochs", "1"]
    words += ["--device", "cpu", "--jobs", "1", "--cache", str(bursts / "cache")]
    code = cli.main(words)
    printed = capfd.readouterr()
    assert code in (0, 1), printed.err  # 1 if a trial diverged
    assert [line[:4] for line in printed.out.splitlines() if line.startswith("[")] == ["[1] ", "[2] "]
    assert printed.out.splitlines()[-1].endswith(f"--config {tmp_path / 'out' / 'best.toml'}")
    assert cli.main([*words, "--seed", "1"]) == 2
    assert "search.json: got another search, expected the one that was started here" in capfd.readouterr().err
    words[words.index("--system") + 1] = "table2"
    assert cli.main(words) == 2
    assert "system: got 14 systems, expected one" in capfd.readouterr().err


def test_a_trial_that_diverges_costs_no_more_than_itself(
    plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Search.value, []

    def value(search: Search, point: Point) -> float:
        calls.append(point)
        if len(calls) in (1, 3):
            raise ConfigError("training", got="a loss of nan")
        return real(search, point)

    monkeypatch.setattr(Search, "value", value)
    with pytest.raises(ConfigError, match="got 1 trials that diverged, expected one that did not"):
        tune(plan(), tmp_path / "search", trials=1)
    found = tune(plan(), tmp_path / "search", trials=3)
    assert (found.trials, found.failed) == (3, 2)
    assert trials(tmp_path / "search")["validation_ua"].isna().tolist() == [True, False, True]


# ------------------------------------------------------------------------------------------------------ stopped


def test_stopped_and_gone_on_with_is_the_same_search(
    plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of its third trial, it goes on with the third."""
    whole = tune(plan(), tmp_path / "whole", trials=4)
    real, calls = Search.value, []

    def value(search: Search, point: Point) -> float:
        calls.append(point)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(search, point)

    with monkeypatch.context() as patch:
        patch.setattr(Search, "value", value)
        with pytest.raises(KeyboardInterrupt):
            tune(plan(), tmp_path / "stopped", trials=4)
    seen: list[int] = []
    found = tune(plan(), tmp_path / "stopped", 4, on_trial=lambda number, value, point: seen.append(number))
    assert seen == [3, 4]
    assert (tmp_path / "stopped" / "trials.csv").read_bytes() == (tmp_path / "whole" / "trials.csv").read_bytes()
    assert replace(found, config=whole.config) == whole
    tune(plan(), tmp_path / "stopped", 4, on_trial=lambda number, value, point: seen.append(number))
    assert seen == [3, 4]  # nothing was left to do


@pytest.mark.slow
def test_side_by_side_every_trial_is_worth_what_it_is_worth_alone(plan: Any, tmp_path: Path) -> None:
    search = plan()
    found = tune(search, tmp_path / "search", trials=3, workers=2)
    table = trials(tmp_path / "search")
    assert len(table) == found.trials == 3
    assert table["train.learning_rate"].nunique() == 3
    for row in table.to_dict("records"):
        assert search.value({key: row[key] for key in SPACE}) == row["validation_ua"]


# ------------------------------------------------------------------------------------------------------- the space


def test_a_space_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text("""
        [train]
        learning_rate = { low = 1e-4, high = 1e-2, log = true }
        batch_size = { choices = [16, 32] }
        [train.augment]
        warp = { low = 0.0, high = 0.1 }
        [system.loss_options]
        gamma = { low = 1, high = 4 }
    """)
    assert load_space(tmp_path / "space.toml") == {
        "train.learning_rate": SearchRange(1e-4, 1e-2, log=True),
        "train.batch_size": SearchChoice((16, 32)),
        "train.augment.warp": SearchRange(0.0, 0.1),
        "system.loss_options.gamma": SearchRange(1, 4),
    }


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", ["space.toml: got nothing to search"]),
        ("train = 3", ["space.toml: train: got 3, expected { low"]),
        ("[train]\na = {low = 2, high = 1}", ["train.a: got low 2, high 1, expected low < high"]),
        ("[train]\nb = {low = 0, high = 1, log = true}", ["train.b: got low 0, high 1, expected low < high, both"]),
        ("[train]\na = {low = 1, high = 2, step = 3}\nb = {choices = []}", ["train.a: got {", "train.b: got []"]),
        ("[train]\na = {low = true, high = 2}\nb = {choices = [[1]]}", ["train.a: got {", "train.b: got [[1]]"]),
        ("[train]\na = {low = 1, high = 2, log = 1}", ["train.a: got {"]),
    ],
)
def test_faults_of_a_space(text: str, faults: list[str], tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_space(tmp_path / "space.toml")
    lines = str(raised.value).splitlines()
    assert len(lines) == len(faults)
    for line, fault in zip(lines, faults, strict=True):
        assert fault in line


def test_settings_that_cannot_be_are_refused_before_the_first_trial(plan: Any, tmp_path: Path) -> None:
    space = {
        "train.learning_rate": SearchRange(1e-4, 2.0),
        "train.batchsize": SearchChoice((16,)),
        "system.loss_options.gamma": SearchRange(-1.0, 2.0),
        "recipe.level": SearchRange(0.0, 1.0),
        "system.features.mels": SearchRange(12, 40),
    }
    with pytest.raises(ConfigError) as raised:
        plan(space=space)
    lines = str(raised.value).splitlines()
    for word in ("learning_rate: got 2.0", "batchsize: got an unknown key", "gamma", "setting recipe", "features.mels"):
        assert sum(word in line for line in lines) == 1, lines
    for changes in ({"fold": 3}, {"seeds": 0}):
        with pytest.raises(ConfigError, match="expected a fold from 0 to 2, at least 1 seed"):
            plan(**changes)
    with pytest.raises(ConfigError, match="expected at least 1 each"):
        tune(plan(), tmp_path / "nowhere", trials=0)


@pytest.mark.parametrize("name", ["baseline", "am-softmax", "focal", "am-focal", "functionals-svm"])
def test_what_is_searched_by_default_can_be(name: str) -> None:
    system: System = SYSTEMS[name]
    space = default_space(system)
    search = Search(None, None, system, Recipe(), space, 1, 0, "cpu")  # type: ignore[arg-type]
    tuning._check_space(search)
    losses = {key.rpartition(".")[2] for key in space if ".loss_options." in key}
    assert losses == {"am-softmax": {"scale", "margin"}, "focal": {"gamma", "alpha"}}.get(
        name, {"scale", "margin", "gamma"} if name == "am-focal" else set()
    )


def test_a_folder_in_use(plan: Any, tmp_path: Path) -> None:
    from filelock import FileLock

    search = plan()
    (tmp_path / "search").mkdir()
    with FileLock(tmp_path / "search" / ".lock"), pytest.raises(ConfigError, match="got in use"):
        tune(search, tmp_path / "search", trials=1)
