"""`pip install affekt` alone: small, without torch and pandas, and enough to recognize."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
LARGEST_MB = 150

pytestmark = pytest.mark.slow  # builds an environment


def interpreters() -> dict[str, Path]:
    """The Pythons of this machine that affekt supports, by version, except the one that runs the tests."""
    found = {}
    for version in ("3.11", "3.12", "3.13"):
        managed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python")
        for program in (shutil.which(f"python{version}"), *sorted(managed)):
            if program and subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0:
                found[version] = Path(program)
                break
    return {version: path for version, path in found.items() if not sys.version.startswith(version)}


def install(folder: Path, python: Path) -> Path:
    """Make an environment that holds the core alone; return the folder of its programs."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    command = [programs / "python", "-m", "pip", "install", "--quiet", "--constraint", REPOSITORY / "constraints.txt"]
    done = subprocess.run([*command, REPOSITORY], capture_output=True, text=True, check=False, timeout=600)
    if "No matching distribution" in done.stderr or "Connection" in done.stderr:
        pytest.skip("no package registry can be reached")
    assert done.returncode == 0, done.stderr
    return programs


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that holds the core alone."""
    return install(tmp_path_factory.mktemp("core"), Path(sys.executable))


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_it_recognizes_on_every_supported_python(version: str, tmp_path: Path) -> None:
    if version not in interpreters():
        pytest.skip(f"no other Python {version} on this machine")
    programs = install(tmp_path / "core", interpreters()[version])
    done = run(programs / "python", REPOSITORY / "scripts" / "check_core.py")
    assert done.returncode == 0, done.stderr
    assert f"on Python {version}." in done.stdout


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=inherited, timeout=120)


def test_it_recognizes_without_torch_and_pandas(core: Path) -> None:
    assert sys.executable != str(core / "python")
    recording = REPOSITORY / "examples" / "a.wav"  # synthetic speech
    answer = run(core / "affekt", "predict", "--format", "json", recording)
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


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["predict", "--help"], ["help", "tune"], ["info"]])
def test_its_verbs_run(core: Path, words: list[str]) -> None:
    answer = run(core / "affekt", *words)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout
