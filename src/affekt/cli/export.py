"""`affekt export`: a trained checkpoint -> one ONNX file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from affekt import audio
from affekt.cli.framework.arguments import Option
from affekt.data.manifest import Manifest
from affekt.errors import AudioError, ConfigError
from affekt.export.onnx_file import UNSURE_BELOW, export_checkpoint
from affekt.recognition.card import ModelCard, Precision
from affekt.training.checkpoint import Checkpoint


def export(
    checkpoint: Path,
    *,
    output: Annotated[Path, Option("-o")],
    int8: bool = False,
    calibrate: Path | None = None,
    recordings: int = 256,
    unsure_below: float = UNSURE_BELOW,
    license: str | None = None,
    seed: int = 0,
) -> int:
    """Write a trained model as one ONNX file: raw waveform in, calibrated probabilities out.

    The file is compared with PyTorch before it is written, and its card says how they agree.

    Args:
        checkpoint: a model.safetensors, or a run directory with one in it.
        output: the file to write, ending in .onnx.
        int8: convolutions in 8 bits: about twice as fast; what it costs is measured on the recordings.
        calibrate: manifest of training data, for `--int8` and for the comparison.
        recordings: how many of its recordings to use, drawn at random.
        unsure_below: confidence below which predictions will be marked unsure.
        license: of the weights; by default what the checkpoint says.
        seed: of the draw.
    """
    waveforms = [] if calibrate is None else _waveforms(calibrate, recordings, seed)
    chosen = Checkpoint.load(find_checkpoint(checkpoint))
    precision: Precision = "int8" if int8 else "float32"
    card = export_checkpoint(chosen, output, precision, waveforms, unsure_below, license)
    _report(card, output)
    return 0


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that a path means: itself, or the only one in a run directory.

    Raises:
        ConfigError: a directory with none or with several.
    """
    if not path.is_dir():
        return path
    found = sorted(path.rglob("model.safetensors"))
    if len(found) != 1:
        some = ", ".join(str(file.relative_to(path).parent) for file in found[:3])
        got = f"{len(found)} checkpoints ({some}, ...)" if found else "no model.safetensors in it"
        raise ConfigError(f"run {path}", got=got, expected="one", remedy="name the checkpoint itself")
    return found[0]


def _waveforms(path: Path, recordings: int, seed: int) -> list[NDArray[np.float32]]:
    """A random choice of a manifest's recordings; those that cannot be decoded are left out, each with a line."""
    manifest = Manifest.read(path)
    chosen = np.random.default_rng(seed).permutation(len(manifest))[:recordings]
    table, paths = manifest.table, manifest.audio_paths()
    waveforms = []
    for row in np.sort(chosen).tolist():
        start, end = (None if np.isnan(table[name][row]) else float(table[name][row]) for name in ("start", "end"))
        try:
            waveforms.append(audio.load(paths[row], start_seconds=start, end_seconds=end))
        except AudioError as error:
            print(f"affekt: left out: {error}", file=sys.stderr)
    return waveforms


def _report(card: ModelCard, output: Path) -> None:
    agreement = card.measures["export"]
    print(card)
    print(f"written: {output}, {output.stat().st_size / 1e6:.2f} MB")
    print(
        f"compared with PyTorch on {agreement['recordings']} recordings: {agreement['equal_decisions']:.1%} of the "
        f"decisions equal, probabilities differ by {agreement['mean_difference']:.2g} on average and "
        f"{agreement['largest_difference']:.2g} at most"
    )
