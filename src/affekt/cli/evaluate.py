"""`affekt evaluate`: a model on a manifest."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from affekt.cli.framework.arguments import Option
from affekt.errors import ConfigError
from affekt.runtime.atomic_files import write_bytes, writing

if TYPE_CHECKING:
    from affekt.recognition.evaluation import Evaluation
    from affekt.recognition.recognizer import Recognizer

DIAGRAMS = (".png", ".svg", ".pdf")


def evaluate(
    model: str,
    manifest: Path,
    *,
    output: Annotated[Path | None, Option("-o")] = None,
    diagram: Path | None = None,
    min_confidence: float | None = None,
    jobs: int | None = None,
    seed: int = 0,
) -> int:
    """Measure a model on a manifest: WA, UA, per class, calibration, with intervals over speakers.

    Utterances whose label is no class of the model are left out, and counted.

    Args:
        model: a file written by `affekt export`, a checkpoint, or `bundled`.
        manifest: .csv or .parquet, as `affekt prepare` writes it.
        output: write all numbers here as JSON.
        diagram: draw the reliability diagram here: .png, .svg or .pdf.
        min_confidence: predictions below this count as unsure; by default the model's own threshold.
        jobs: recordings to work on at a time; by default one per core.
        seed: of the bootstrap.
    """
    from affekt.data.manifest import Manifest
    from affekt.recognition.evaluation import as_text
    from affekt.recognition.evaluation import evaluate as evaluate_model

    if diagram is not None and diagram.suffix not in DIAGRAMS:
        raise ConfigError("diagram", got=repr(str(diagram)), expected=f"a name ending in {', '.join(DIAGRAMS)}")
    evaluation = evaluate_model(_recognizer(model, jobs), Manifest.read(manifest), min_confidence)
    for failure in evaluation.failures:
        print(f"affekt: failed: {failure}", file=sys.stderr)
    if evaluation.left_out:
        print(f"affekt: note: {evaluation.left_out:,} utterances have labels that the model lacks", file=sys.stderr)
    print(as_text(evaluation, seed))
    if output is not None:
        write_bytes(output, (json.dumps(evaluation.to_dict(seed), indent=1) + "\n").encode())
    if diagram is not None:
        _draw(evaluation, diagram)
    return int(bool(evaluation.failures))


def _recognizer(model: str, jobs: int | None) -> Recognizer:
    """The model; a checkpoint is exported first, so that it is measured as it will be used."""
    from affekt.recognition.recognizer import Recognizer

    if model == "bundled":
        return Recognizer.load(threads=jobs)
    path = Path(model)
    if path.is_dir() or path.suffix == ".safetensors":
        from affekt.cli.export import find_checkpoint
        from affekt.export.onnx_file import export_checkpoint
        from affekt.training.checkpoint import Checkpoint

        with tempfile.TemporaryDirectory() as folder:
            exported = Path(folder) / "model.onnx"
            export_checkpoint(Checkpoint.load(find_checkpoint(path)), exported)
            return Recognizer.load(exported, threads=jobs)
    return Recognizer.load(path, threads=jobs)


def _draw(evaluation: Evaluation, path: Path) -> None:
    from affekt.report.plots import reliability

    bins = evaluation.to_dict()["reliability"]
    with writing(path) as file:
        reliability(bins, evaluation.corpus).savefig(file, format=path.suffix[1:])
