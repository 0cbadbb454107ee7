"""docs/systems.md: its rows are the code's, with their classes, sizes and front ends."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from affekt.features.frontends import FRONT_ENDS
from affekt.nn.zoo import ZOO
from affekt.training.systems import EGEMAPS, PRIOR, YARDSTICKS

PAGE = (Path(__file__).parents[3] / "docs" / "systems.md").read_text(encoding="utf-8")
ROWS = {
    name: [cell.strip() for cell in cells.split("|")]
    for name, cells in re.findall(r"^\| `([\w-]+)` \| (.*) \|$", PAGE, re.MULTILINE)
}


@pytest.mark.parametrize("system", [*PRIOR, *YARDSTICKS, EGEMAPS], ids=lambda system: system.name)
def test_rows_of_systems(system) -> None:
    row = ROWS[system.name]
    assert row[0] == f"`{ZOO[system.network].__name__}`"
    with torch.device("meta"):
        network, _ = system.build(4)
    assert row[-1] == f"{sum(parameter.numel() for parameter in network.parameters()):,}"
    if system.segments is not None:
        assert f"{system.segments.seconds:g} s" in row[3]
        assert system.segments.combine in row[3]


@pytest.mark.parametrize("kind", FRONT_ENDS)
def test_rows_of_front_ends(kind: str) -> None:
    row = ROWS[kind]
    assert row[0] == f"`{FRONT_ENDS[kind].__name__}`"
    assert row[-1].split()[0] == str(FRONT_ENDS[kind]().dims)
