"""docs/losses.md: its examples run, and it names every loss with its class, head, options and defaults."""

from __future__ import annotations

import doctest
import inspect
import re
from pathlib import Path

import pytest

from affekt.losses import LOSSES

PAGE = Path(__file__).parents[2] / "docs" / "losses.md"


def test_examples_run() -> None:
    outcome = doctest.testfile(str(PAGE), module_relative=False)
    assert outcome.attempted >= 8
    assert outcome.failed == 0


@pytest.mark.parametrize("name", LOSSES)
def test_tables_agree_with_the_code(name: str) -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}` |")]
    assert len(rows) == 2
    assert f"`{LOSSES[name].__name__}`" in rows[0]
    assert rows[0].endswith(f"| {LOSSES[name].head} |")
    options = list(inspect.signature(LOSSES[name]).parameters.values())[2:]
    last_cell = rows[1].removesuffix(" |").rsplit(" | ", 1)[-1]
    stated = {option: float(default) for option, default in re.findall(r"`(\w+)`[^`]*? ([\d.]+)", last_cell)}
    assert stated == {option.name: option.default for option in options}
