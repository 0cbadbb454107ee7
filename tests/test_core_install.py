"""`pip install affekt` alone: small, without torch and pandas, and enough to recognize."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import soundfile

REPOSITORY = Path(__file__).parents[1]
LARGEST_MB = 150

pytestmark = pytest.mark.slow  # builds an environment


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that holds the core alone."""
    folder = tmp_path_factory.mktemp("core")
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    install = [programs / "python", "-m", "pip", "install", "--quiet", "--constraint", REPOSITORY / "constraints.txt"]
    done = subprocess.run([*install, REPOSITORY], capture_output=True, text=True, check=False, timeout=600)
    if "No matching distribution" in done.stderr or "Connection" in done.stderr:
        pytest.skip("no package registry can be reached")
    assert done.returncode == 0, done.stderr
    return programs


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=inherited, timeout=120)


def test_it_recognizes_without_torch_and_pandas(core: Path, tmp_path: Path) -> None:
    assert sys.executable != str(core / "python")
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.normal(size=32_000), 16_000)
    answer = run(core / "affekt", "predict", "--format", "json", tmp_path / "a.wav")
    assert answer.returncode == 0, answer.stderr
    (prediction,) = json.loads(answer.stdout)
    assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    for absent in ("torch", "pandas", "scipy", "sympy", "rich", "pygments", "cyclopts"):
        assert f"No module named '{absent}'" in run(core / "python", "-c", f"import {absent}").stderr


def test_other_verbs_say_what_they_miss(core: Path, tmp_path: Path) -> None:
    answer = run(core / "affekt", "experiment", tmp_path / "m.csv", "-o", tmp_path / "run")
    assert answer.returncode == 2
    assert "pip install 'affekt[train]'" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_it_is_small(core: Path) -> None:
    """All that the install adds to an empty environment, with the bytecode that pip compiles from it."""
    program = (
        "import importlib.metadata as m, json\n"
        "own = [d for d in m.distributions() if d.name not in ('pip', 'setuptools')]\n"
        "files = {d.locate_file(f).resolve() for d in own for f in d.files or ()}\n"
        "sizes = {str(f): f.stat().st_size for f in files if f.is_file()}\n"
        "print(json.dumps([sizes, sorted(d.name for d in own)]))\n"
    )
    sizes, names = json.loads(run(core / "python", "-c", program).stdout)
    compiled = sum(size for path, size in sizes.items() if path.endswith(".pyc"))
    assert compiled > 10e6, "pip compiled nothing"
    assert 50e6 < sum(sizes.values()) < LARGEST_MB * 1e6
    assert {"affekt", "numpy", "onnxruntime", "soundfile", "soxr"} <= set(names)
    assert {"cyclopts", "rich", "Pygments", "attrs", "pygments"} & set(names) == set()


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["predict", "--help"], ["stream", "--help"], ["info"]])
def test_its_verbs_run(core: Path, words: list[str]) -> None:
    answer = run(core / "affekt", *words)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout
