"""The ONNX file of a model: read and verified, opened by onnxruntime, run on batches, its answers checked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from affekt.errors import CheckpointError, reason
from affekt.recognition.card import ModelCard
from affekt.recognition.prediction import Recognized

Floats = NDArray[np.float32]

NOWHERE = f"{os.devnull}/nowhere/"
"""Where onnxruntime looks for weights that a model file says are in other files: affekt writes no such file."""
SUM_TOLERANCE = 1e-3
"""How far the sum of a recording's probabilities may be from 1."""


OUTPUTS = {"probabilities": "probabilities", "embedding": "embeddings", "speech": "speech", "outlier": "outlier"}
"""Outputs of a model file and the answers that they are; the last two are optional."""


def run(session: onnxruntime.InferenceSession, waveforms: Sequence[Floats]) -> Recognized:
    """The model's answers for a batch of waveforms, each [samples] at the model's rate.

    Raises:
        CheckpointError: a model that cannot be run, or whose answers are none.
    """
    names = [port.name for port in session.get_outputs() if port.name in OUTPUTS]
    samples = np.array([len(waveform) for waveform in waveforms], np.int64)
    padded = np.zeros((len(waveforms), samples.max()), np.float32)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    try:
        values = session.run(names, {"waveform": padded, "samples": samples})
    except Exception as error:  # onnxruntime's errors share no base class
        raise _unusable_model("one that cannot be run") from error
    answer = Recognized(**{OUTPUTS[name]: value for name, value in zip(names, values, strict=True)})
    _check_answer(answer, len(waveforms))
    return answer


def _check_answer(answer: Recognized, recordings: int) -> None:
    """Check the types, shapes and ranges of the answers: the file may be damaged, or from another source."""
    probabilities = answer.probabilities
    if not (np.issubdtype(probabilities.dtype, np.floating) and probabilities.ndim == 2):
        raise _unusable_model(f"answers of type {probabilities.dtype}, shape {list(probabilities.shape)}")
    if len(probabilities) != recordings or not (np.abs(probabilities.sum(1) - 1) < SUM_TOLERANCE).all():
        raise _unusable_model("answers that are no probabilities")
    if (probabilities < 0).any():
        raise _unusable_model("negative probabilities")
    for name, scores in (("speech", answer.speech), ("outlier", answer.outlier)):
        if scores is not None and (scores.shape != (recordings,) or not np.isfinite(scores).all()):
            raise _unusable_model(f"{name} scores of shape {list(scores.shape)}, or not finite")


def _unusable_model(got: str) -> CheckpointError:
    return CheckpointError("model", got=got, expected="an ONNX file written by `affekt export`")


def read_model(path: Path, bundled: bool) -> bytes:
    """The content of a model file; the bundled one is compared with its checksum.

    Raises:
        CheckpointError: it is missing, cannot be read, or is not the file that was bundled.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        if bundled:
            got, remedy = "none in this installation", "pass an exported model: --model M.onnx"
            raise CheckpointError("bundled model", got=got, expected=str(path), remedy=remedy) from error
        expected, remedy = "a file written by `affekt export`", "`affekt export` writes models"
        raise CheckpointError(str(path), got=reason(error), expected=expected, remedy=remedy) from error
    if bundled:
        _verify(path, content)
    return content


def _verify(path: Path, content: bytes) -> None:
    """Compare a file with the SHA-256 in the file beside it."""
    listed = path.with_suffix(".sha256")
    words = listed.read_text(encoding="ascii", errors="replace").split() if listed.exists() else []
    expected = words[0] if words else "no file that says it"
    got = hashlib.sha256(content).hexdigest()
    if got != expected:
        raise CheckpointError(
            "bundled model", got=f"SHA-256 {got[:12]}...", expected=f"{expected[:20]}...", remedy="reinstall affekt"
        )


def open_session(model: bytes, name: str, threads: int, cores: Sequence[int] = ()) -> onnxruntime.InferenceSession:
    """A model ready to run on so many threads; with `cores`, all but the caller's each on one of these."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if cores:  # which onnxruntime counts from 1
        affinities = ";".join(str(core + 1) for core in cores)
        options.add_session_config_entry("session.intra_op_thread_affinities", affinities)
    options.log_severity_level = 4
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class
        remedy = "export the checkpoint first: affekt export" if name.endswith(".safetensors") else ""
        expected = "an ONNX file written by `affekt export`"
        raise CheckpointError(
            f"model {name}", got="no model that can be loaded", expected=expected, remedy=remedy
        ) from error


def check_ports(session: onnxruntime.InferenceSession, card: ModelCard, name: str) -> None:
    """Check that a model's inputs and outputs are those that its card promises.

    Raises:
        CheckpointError: they are not.
    """
    inputs = {port.name: port.type for port in session.get_inputs()}
    widths = {port.name: port.shape[-1] for port in session.get_outputs() if port.shape}
    if inputs != {"waveform": "tensor(float)", "samples": "tensor(int64)"} or "embedding" not in widths:
        got = f"inputs {', '.join(inputs)}; outputs {', '.join(widths)}"
        expected = "inputs waveform, samples; outputs probabilities, embedding"
        raise CheckpointError(f"model {name}", got=got, expected=expected)
    if widths.get("probabilities") != len(card.labels):
        got = f"{widths.get('probabilities')} probabilities"
        raise CheckpointError(f"model {name}", got=got, expected=f"one for each of the {len(card.labels)} labels")
