"""results/reliability.md says what was measured, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scripts import reliability

REPOSITORY = Path(__file__).parents[1]
FOLDER = REPOSITORY / "results" / "reliability"


def test_the_page_is_what_the_command_writes() -> None:
    assert (REPOSITORY / "results" / "reliability.md").read_text(encoding="utf-8") == reliability.page(FOLDER)


MACHINE = {"cpu": "a CPU", "cores": "2", "platform": "Linux", "python": "3.11", "affekt": "0.1"}
MEASURED: dict[str, dict[str, Any]] = {
    "faults": {
        "machine": MACHINE,
        "seed": 7,
        "seconds": 99.4,
        "full_disk": "a small tmpfs",
        "faults": {
            "killed": {"recovered": 25, "refused": 0, "lost": 0},
            "changed": {"recovered": 3, "refused": 2, "lost": 1},
        },
    },
    "fuzz": {
        "machine": MACHINE,
        "guided_by": "chance",
        "targets": [
            {"target": "audio", "inputs": 12_345, "refused": 99, "slowest_seconds": 0.5, "seconds": 300.2}
            | {"findings": {"a": "b"}, "mended": ["KeyError at x.py:1"]}
        ],
    },
    "load": {
        "machine": MACHINE,
        "rows": {
            "good": {
                "clients": 64,
                "seconds": 60.0,
                "good_per_second": 41.25,
                "answers": {"good 200": 2_475},
                "errors": [],
                "different": 0,
                "recovery_seconds": 0.25,
                "memory_mib": {"second_third": 200.0, "last_third": 201.0, "peak": 230.0},
            }
            | {"p50_seconds": 0.1, "p95_seconds": 0.2, "p99_seconds": 0.3}
        },
    },
}


def test_every_figure_comes_from_the_measurements(tmp_path: Path) -> None:
    assert reliability.page(tmp_path).count("Not measured yet.") == 3
    for name, facts in MEASURED.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(facts))
    page = reliability.page(tmp_path)
    assert "| killed | 25 | 25 | 0 | 0 |\n| changed | 6 | 3 | 2 | 1 |" in page
    assert "In all 31 faults: 28 recovered identically, 2 refused, 1 lost. A full disk was a small tmpfs." in page
    assert "| audio | 12,345 | 99 | 0.50 s | 300 s | 1 | 1 |" in page
    assert "* audio: KeyError at x.py:1" in page
    assert "| p95 | 200 ms |" in page
    assert "| good answers a second | 41.2 |" in page
    assert "Answers, good: good 200 2,475." in page
    assert "| p99 of refusals | - |" in page  # a measurement from before it was measured
    assert page.count("a CPU, 2 cores, Linux, Python 3.11") == 3


def test_what_was_measured_of_refusals_and_of_the_clients_is_said() -> None:
    facts = json.loads(json.dumps(MEASURED["load"]))
    facts["rows"]["good"] |= {"refused_p99_seconds": None, "clients_late_p99_seconds": 0.016, "processes": 1}
    page = "\n".join(reliability.load(facts))
    assert "| p99 of refusals | - |" in page  # none was refused
    assert "| p99 of the clients' own lateness | 16 ms |" in page
    assert "| processes that served, in all | 1 |" in page
