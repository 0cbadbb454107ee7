"""OpenVINO as a peer: the plain ONNX export of a network, compiled for this CPU, in float32 or in 8 bits by NNCF.

Its 8 bits are NNCF's own post-training quantization with its defaults, calibrated on noise as our files are.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.setting import noise

Floats = NDArray[np.float32]
CALIBRATION = 8
"""Recordings that NNCF chooses its steps on."""


def missing() -> str:
    """The libraries that are not installed: openvino, nncf, or nothing."""
    return ", ".join(name for name in ("openvino", "nncf") if importlib.util.find_spec(name) is None)


def compiled(model: Path, features: Callable[[Floats], Floats], threads: int, int8: bool) -> Callable[[], object]:
    """A function that recognizes one clip.

    Args:
        model: an ONNX file from `features` to scores.
        features: from a waveform to the file's input.
        threads: of OpenVINO.
        int8: quantize with NNCF; otherwise compute in float32.
    """
    import openvino

    core = openvino.Core()
    network: Any = core.read_model(model)
    if int8:
        import nncf

        draws = [features(noise(seed=seed)) for seed in range(CALIBRATION)]
        network = nncf.quantize(network, nncf.Dataset(draws), subset_size=CALIBRATION)
    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(network, "CPU", options).create_infer_request()
    waveform = noise()
    return lambda: request.infer([features(waveform)])
