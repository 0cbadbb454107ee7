"""An ablation's rows are paired by fold and seed with the recipe as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affekt.errors import CheckpointError
from affekt.measures.statistics import corrected_resampled_interval, corrected_resampled_t_test
from affekt.results.ablation import REFERENCE, Ablation

UA = {
    REFERENCE: {"0/0": 0.5, "0/1": 0.6, "1/0": 0.4, "2/0": 0.7},
    "no-warp": {"0/0": 0.6, "0/1": 0.8, "1/0": 0.45, "2/0": 0.8, "3/0": 0.9},
    "masks": {"0/0": 0.5},
    "tempo": {},
}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    rows = {
        name: {"change": f"{name} changed", "jobs": {key: {"ua": ua, "last": ua - 0.1} for key, ua in jobs.items()}}
        for name, jobs in UA.items()
    }
    data: dict[str, Any] = {"line": "emodb", "system": "compact", "epochs": 4, "train": 100.0, "validation": 50.0}
    (tmp_path / "emodb.json").write_text(json.dumps(data | {"recipe": {}, "rows": rows}))
    return tmp_path / "emodb.json"


def test_rows(written: Path) -> None:
    rows = {row.name: row for row in Ablation.read(written).rows()}
    assert list(rows) == [REFERENCE, "no-warp", "masks"]
    assert rows[REFERENCE].gain is rows[REFERENCE].p_value is None
    assert rows[REFERENCE].ua.mean == pytest.approx(0.55)
    assert rows["no-warp"].last == pytest.approx(np.mean([0.5, 0.7, 0.35, 0.7, 0.8]))
    differences = [np.mean([0.1, 0.2]), 0.05, 0.1]  # folds that both have, seeds averaged
    assert rows["no-warp"].gain == pytest.approx(corrected_resampled_interval(differences, 50, 100))
    assert rows["no-warp"].p_value == pytest.approx(corrected_resampled_t_test(differences, 50, 100).p_value)
    assert (rows["no-warp"].jobs, rows["no-warp"].change) == (5, "no-warp changed")
    assert rows["masks"].gain is None  # of one fold
    assert rows["masks"].difference == pytest.approx(0.0)


@pytest.mark.parametrize("text", ["", "[]", '{"line": "x"}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"x\.json: got .*expected an object with line"):
        Ablation.read(tmp_path / "x.json")
