"""The examples run as they stand and say what the recognizer says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from affekt.export.onnx_file import Description, export, noise
from affekt.recognition.recognizer import Recognizer

EXAMPLES = Path(__file__).parents[1] / "examples"
CLASSES = ("angry", "happy", "neutral", "sad")


@pytest.fixture(scope="module")
def int8_model(tmp_path_factory: pytest.TempPathFactory, make_pipeline: Callable[..., Any]) -> Path:
    """The form in which models are shipped: every kind of operator that they use is in it."""
    pipeline = make_pipeline(True)
    path = tmp_path_factory.mktemp("int8") / "model.onnx"
    export(pipeline, Description(CLASSES), path, "int8", noise(pipeline.features))
    return path


@pytest.fixture
def recording(tmp_path: Path, babble: Callable[..., Any]) -> Path:
    soundfile.write(tmp_path / "a.wav", babble(1.7), 16_000, subtype="PCM_16")
    return tmp_path / "a.wav"


def said(command: list[str], recording: Path) -> tuple[str, list[float]]:
    """Label and probabilities that a program prints."""
    done = subprocess.run([*command, str(recording)], capture_output=True, text=True, check=True)
    path, label, *probabilities = done.stdout.split()
    assert path == str(recording)
    return label, [float(value) for value in probabilities]


def expected(model: Path, recording: Path) -> tuple[str, Any]:
    prediction = Recognizer.load(model).predict(recording)
    return prediction.label, pytest.approx(list(prediction.probabilities.values()), abs=0.002)


def test_python_without_affekt(int8_model: Path, recording: Path) -> None:
    without = "import runpy, sys; sys.modules['affekt'] = None; sys.argv.pop(0); runpy.run_path(sys.argv[0])"
    command = [sys.executable, "-c", without, str(EXAMPLES / "recognize.py"), str(int8_model)]
    assert said(command, recording) == expected(int8_model, recording)


def test_python_refuses_other_rates(int8_model: Path, recording: Path, babble: Callable[..., Any]) -> None:
    soundfile.write(recording, babble(1.0), 8_000)
    command = [sys.executable, str(EXAMPLES / "recognize.py"), str(int8_model), str(recording)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "has 8000 Hz; the model hears 16000 Hz" in done.stderr


@pytest.mark.slow  # installs onnxruntime-web
def test_javascript(int8_model: Path, recording: Path, tmp_path: Path) -> None:
    """onnxruntime-web's WebAssembly, in Node."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("Node is not installed")
    script = shutil.copy(EXAMPLES / "recognize.mjs", tmp_path)
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "onnxruntime-web"]
    done = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        pytest.skip(f"onnxruntime-web cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    label, probabilities = said([node, str(script), str(int8_model)], recording)
    assert (label, probabilities) == expected(int8_model, recording)
