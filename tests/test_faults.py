"""The fault harness, short: some deaths, and every kind of damage once. `make faults` is the long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts" / "faults.py"


def test_nothing_is_lost(tmp_path: Path) -> None:
    words = ["--kills", "3", "--damages", "6", "--full", "1", "--pairs", "1", "-o", str(tmp_path)]
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads((tmp_path / "faults.json").read_text())
    injected = {fault: sum(counts.values()) for fault, counts in facts["faults"].items()}
    assert injected["killed at a random moment"] == 3
    assert {"disk full", "two on one run directory", "two on one run directory, one killed", "stale lock"} <= {
        *injected
    }
    assert sum(injected.values()) == 3 + 6 + 1 + 3
    assert facts["losses"] == []
    assert f"faults injected {sum(injected.values())}, recovered identically" in done.stdout
