"""`affekt export`: a trained checkpoint -> one ONNX file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from affekt.cli.framework.arguments import Option
from affekt.errors import AudioError, ConfigError
from affekt.recognition.card import UNSURE_BELOW, ModelCard, Precision
from affekt.runtime.outputs import refuse_overwriting, refuse_replacing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
    force: bool = False,
) -> int:
    """Write a trained model as one ONNX file: raw waveform in, calibrated probabilities out.

    The ONNX model is compared with PyTorch before the file is written; its card holds the result.

    Args:
        checkpoint: a model.safetensors, or a run directory that holds one.
        output: file to write, with the suffix .onnx.
        int8: quantize most layers to 8 bits, which is about twice as fast; the loss is measured on the recordings.
        calibrate: manifest of training data, for quantization and for the comparison.
        recordings: number of its recordings to use, drawn at random.
        unsure_below: predictions with a lower confidence are marked unsure.
        license: license of the weights; by default that of the checkpoint.
        seed: seed of the random draw.
        force: replace a file that exists already, instead of refusing to.
    """
    from affekt.export.onnx_file import export_checkpoint
    from affekt.training.checkpoint import Checkpoint

    refuse_overwriting([output], [checkpoint, calibrate])
    refuse_replacing([output], force)
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
    """Waveforms of randomly chosen rows of a manifest; each that cannot be decoded costs one line on standard error."""
    import numpy as np

    from affekt import audio
    from affekt.data.manifest import Manifest

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
