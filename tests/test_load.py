"""The load test, short: it runs, checks what it promises, and notices a server that does not keep to it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.load import CHECKS, Answer, Load, summary


def test_a_server_keeps_to_it_at_twice_its_capacity(small_model: Path, tmp_path: Path) -> None:
    words = ["-m", "benchmarks.load", "--model", str(small_model), "--clients", "16", "--seconds", "2"]
    command = [sys.executable, *words, "--minutes", "0.1", "-o", str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "load.json").read_text())["rows"]
    assert rows["good"]["good_per_second"] > 0
    assert rows["mixed"]["arrivals_per_second"] == pytest.approx(2 * rows["good"]["good_per_second"], rel=0.5)
    assert rows["mixed"]["replaced_seconds"] > 0
    kinds = {name.partition(" ")[0] for name in rows["mixed"]["answers"]}
    assert {"good", "bad", "huge", "slow"} <= kinds
    assert "BROKEN" not in done.stdout


def row(**changes: Any) -> dict[str, Any]:
    memory = {"first_third": 100.0, "second_third": 100.0, "last_third": 100.0, "peak": 100.0}
    usual = {
        "seconds": 600.0,
        "good_per_second": 1.0,
        "errors": [],
        "different": 0,
        "memory_mib": memory,
        "recovery_seconds": 0.1,
    }
    return usual | {"replaced_seconds": 3.0} | changes


@pytest.mark.parametrize(
    ("broken", "changes"),
    [
        ("good requests were answered", {"good_per_second": 0.0}),
        ("no 5xx, but 503 with Retry-After; no 429 without", {"errors": ["good: 500"]}),
        ("answers equal those alone, bit for bit", {"different": 1}),
        ("memory is flat", {"memory_mib": {"second_third": 100.0, "last_third": 150.0}}),
        ("ready again within 5 s", {"recovery_seconds": 5.1}),
        ("a killed worker was replaced", {"replaced_seconds": None}),
    ],
)
def test_what_a_server_does_not_keep_to_is_seen(broken: str, changes: dict[str, Any]) -> None:
    assert [check for check, holds in CHECKS.items() if not holds(row())] == []
    assert [check for check, holds in CHECKS.items() if not holds(row(**changes))] == [broken]


def test_what_counts_as_an_error() -> None:
    load = Load(0, [], [], b"", np.random.default_rng(0))
    load.tally.memory_mib = [1.0, 1.0, 1.0]
    for status, head in ((200, b""), (422, b""), (429, b"retry-after: 1"), (503, b"retry-after: 1")):
        load._count("good", Answer(status, head, b""))
    assert load.tally.errors == []
    for status, head in ((500, b""), (500, b"retry-after: 1"), (503, b""), (429, b""), (502, b"")):
        load._count("good", Answer(status, head, b""))
    assert len(load.tally.errors) == 5
    counts = {200: 1, 422: 1, 429: 2, 500: 2, 502: 1, 503: 2}
    assert summary(load.tally, 1.0)["answers"] == {f"good {status}": count for status, count in counts.items()}
