"""Configurations: what is written comes back, and every fault is named with its file and key."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affekt import config
from affekt.errors import ConfigError, Fault


@dataclass(frozen=True)
class Optimizer:
    rate: float = 1e-4
    beta: float | None = 0.9
    note: str | None = None

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise ConfigError("rate", got=str(self.rate), expected="more than 0")


@dataclass(frozen=True)
class Recipe:
    name: str
    epochs: int = 100
    exact: bool = False
    schedule: Literal["flat", "cosine", 1] = "flat"
    filters: tuple[int, ...] = (128, 64)
    window: tuple[int, float] = (1, 0.5)
    cache: Path = Path("cache")
    patience: Annotated[int | None, "epochs"] = 10
    size: int | str = "all"
    alpha: Mapping[str, float] = field(default_factory=dict)
    optimizer: Optimizer = Optimizer()
    teacher: Optimizer | None = None
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Grid:
    points: Sequence[float] = ()

    def __post_init__(self) -> None:
        if len(set(self.points)) < len(self.points):
            raise ValueError("points twice")


texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.floats(allow_nan=False)
optimizers = st.builds(
    Optimizer,
    rate=st.floats(min_value=1e-300),
    beta=st.none() | numbers,
    note=st.none() | texts.filter(lambda text: text != "none"),
)
recipes = st.builds(
    Recipe,
    name=texts,
    epochs=st.integers(),
    exact=st.booleans(),
    schedule=st.sampled_from(["flat", "cosine", 1]),
    filters=st.lists(st.integers()).map(tuple),
    window=st.tuples(st.integers(), numbers),
    cache=st.lists(st.text("abc é'\"", min_size=1), min_size=1).map(lambda parts: Path(*parts)),
    patience=st.none() | st.integers(),
    size=st.integers() | texts,
    alpha=st.dictionaries(texts, numbers),
    optimizer=optimizers,
    teacher=st.none() | optimizers,
    tags=st.lists(texts),
)


@given(recipes)
def test_a_dumped_configuration_loads_as_an_equal_one(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.toml"
    config.dump(recipe, path)
    assert config.load(Recipe, path) == recipe


def test_not_a_number_and_infinity_come_back(tmp_path: Path) -> None:
    config.dump(Grid((math.inf, math.nan)), tmp_path / "grid.toml")
    first, second = config.load(Grid, tmp_path / "grid.toml").points
    assert first == math.inf
    assert math.isnan(second)


def test_the_file_is_complete_and_readable(tmp_path: Path) -> None:
    config.dump(Recipe("paper"), tmp_path / "deep" / "recipe.toml")
    text = (tmp_path / "deep" / "recipe.toml").read_text()
    assert "epochs = 100\n" in text
    assert 'teacher = "none"\n' in text
    assert "[optimizer]\nrate = 0.0001\nbeta = 0.9\n" in text
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["recipe.toml"]


def test_a_failed_dump_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    config.dump(Recipe("old"), path)
    with pytest.raises(ConfigError, match="stands for no value"):
        config.dump(Recipe("new", optimizer=Optimizer(note="none")), path)
    assert config.load(Recipe, path) == Recipe("old")


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("""
        epoch = 5
        epochs = 5.0
        exact = "yes"
        schedule = "cosinus"
        filters = [1, 2.5, "x"]
        window = [1]
        patience = true
        size = 1.5
        cache = 3
        zebra = 1
        optimizer.rate = "fast"
        optimizer.betas = 0.9
        teacher = 7
        [alpha]
        angry = "much"
        """)
    with pytest.raises(ConfigError) as caught:
        config.load(Recipe, path)
    keys = Recipe.__dataclass_fields__
    assert [str(fault).removeprefix(f"{path}: ") for fault in caught.value.faults] == [
        "epoch: got an unknown key; did you mean epochs?",
        "epochs: got 5.0, expected a whole number",
        "exact: got 'yes', expected true or false",
        "schedule: got 'cosinus', expected one of flat, cosine, 1",
        "filters[1]: got 2.5, expected a whole number",
        "filters[2]: got 'x', expected a whole number",
        "window: got [1], expected a list of 2 (a whole number, a number)",
        "patience: got true, expected a whole number",
        "size: got 1.5, expected a whole number or text",
        "cache: got 3, expected a path",
        f"zebra: got an unknown key, expected one of {', '.join(keys)}",
        "optimizer.rate: got 'fast', expected a number",
        "optimizer.betas: got an unknown key; did you mean beta?",
        "teacher: got 7, expected a table",
        "alpha.angry: got 'much', expected a number",
        "name: got nothing, expected text",
    ]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ({"name": "x", "optimizer": {"rate": 0}}, Fault("f: optimizer.rate", "0.0", "more than 0")),
        ({"name": "x", "alpha": 3}, Fault("f: alpha", "3", "a table (each a number)")),
        ({"name": "x", "tags": "ab"}, Fault("f: tags", "'ab'", "a list (each text)")),
        ({"name": 3}, Fault("f: name", "3", "text")),
        ({"name": "x", "schedule": True}, Fault("f: schedule", "true", "one of flat, cosine, 1")),
        ({"name": "x", "patience": [1]}, Fault("f: patience", "[1]", "a whole number")),
    ],
)
def test_faults_of_values(data: dict[str, Any], fault: Fault) -> None:
    with pytest.raises(ConfigError) as caught:
        config.build(Recipe, data, where="f")
    assert caught.value.faults == (fault,)


def test_a_dataclass_that_refuses_its_values_by_a_value_error() -> None:
    with pytest.raises(ConfigError, match=r"^f: got points twice$"):
        config.build(Grid, {"points": [1, 1]}, where="f")


def test_whole_numbers_become_numbers_and_lists_become_tuples() -> None:
    recipe = config.build(Recipe, {"name": "x", "window": [3, 4], "optimizer": {"beta": 1}}, where="f")
    assert isinstance(recipe.window[1], float)
    assert isinstance(recipe.optimizer.beta, float)
    assert recipe.window == (3, 4.0)


def test_reading_wants_no_completeness_and_describes_what_toml_cannot_hold() -> None:
    hints = {"train": Recipe, "out": Path | None, "loss": Annotated[str, "name"] | Callable[[], int]}
    read = config.read(hints, {"train": {"name": "x"}, "out": "none", "loss": "focal"}, "f")
    assert read == ({"train": Recipe("x"), "out": None, "loss": "focal"}, [])
    for where, named in (("f", ["f: outt", "f: loss"]), ("", ["outt", "loss"])):
        assert [fault.what for fault in config.read(hints, {"outt": 1, "loss": 1}, where)[1]] == named


def test_merge_changes_nested_values_alone() -> None:
    recipe = Recipe("x", optimizer=Optimizer(beta=None, note="kept"))
    merged = config.merge(recipe, {"epochs": 7, "optimizer": {"rate": 0.5}, "teacher": Optimizer(0.1)})
    assert merged == replace(recipe, epochs=7, optimizer=Optimizer(0.5, beta=None, note="kept"), teacher=Optimizer(0.1))


def test_merge_names_every_unknown_key() -> None:
    with pytest.raises(ConfigError, match=r"(?s)optimizer\.beat: .*did you mean beta.*epoch: .*did you mean epochs"):
        config.merge(Recipe("x"), {"epoch": 7, "optimizer": {"beat": 0.5}}, where="flags")


def test_a_function_cannot_be_written() -> None:
    with pytest.raises(ConfigError, match="expected a value that TOML can hold"):
        config.as_table(Recipe("x", tags=[print]))  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"a = \nb = 1", "line 1"), (b"a = '\xff'", "utf-8"), (None, "No such file")],
)
def test_unreadable_files(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "bad.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        config.read_toml(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "windows.toml").write_bytes(b'\xef\xbb\xbfname = "x"\r\n')
    assert config.load(Recipe, tmp_path / "windows.toml") == Recipe("x")
