"""Recognize a synthetic recording with the installed core: `python scripts/check_core.py`.

Run by `make dist` in a clean environment with the wheel, by the tests on each Python of the machine, and by CI. It
needs the core alone and fails if torch or pandas were imported.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

RECORDING = Path(__file__).parents[1] / "examples" / "b.wav"


def main() -> int:
    """Predict from Python and from the command line, and compare the two."""
    import affekt

    answer = affekt.Recognizer.load().predict(RECORDING)
    heavy = {"torch", "pandas"} & set(sys.modules)
    assert not heavy, f"the core imported {heavy}"
    assert abs(sum(answer.probabilities.values()) - 1) < 1e-3, f"probabilities {answer.probabilities}"
    program = Path(sysconfig.get_path("scripts")) / "affekt"
    command = [str(program), "predict", "--format", "json", str(RECORDING)]
    (said,) = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert said["label"] == answer.label, f"{said['label']} from the command line, {answer.label} from Python"
    print(f"affekt {affekt.__version__} on Python {sys.version.split()[0]}: {answer.label} {answer.confidence:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
