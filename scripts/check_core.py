"""Recognize a synthetic recording with the installed core: `python scripts/check_core.py`.

Run by `make dist` in a clean environment with the wheel, by the tests on each Python of the machine, and by CI. It
needs the core alone and fails if torch or pandas were imported.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 16_000


def tone(seconds: float = 2.0) -> np.ndarray:
    """A voice-like buzz: ten harmonics of 150 Hz with a syllabic rhythm, float32 in [-1, 1]."""
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    buzz = sum(np.sin(2 * np.pi * 150 * n * time) / n for n in range(1, 11))
    return (0.2 * buzz * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time))).astype(np.float32)


def main() -> int:
    """Predict from Python and from the command line, and compare the two."""
    import affekt

    answer = affekt.Recognizer.load().predict(tone(), RATE_HZ)
    heavy = {"torch", "pandas"} & set(sys.modules)
    assert not heavy, f"the core imported {heavy}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tone.wav"
        soundfile.write(path, tone(), RATE_HZ, subtype="FLOAT")
        program = Path(sysconfig.get_path("scripts")) / "affekt"
        command = [str(program), "predict", "--format", "json", str(path)]
        (said,) = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert said["label"] == answer.label, f"{said['label']} from the command line, {answer.label} from Python"
    print(f"affekt {affekt.__version__} on Python {sys.version.split()[0]}: {answer.label} {answer.confidence:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
