"""`affekt evaluate`: a model on a manifest."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from affekt.cli.framework.arguments import Option
from affekt.errors import ConfigError, gathered
from affekt.runtime.atomic_files import atomic_write, write_bytes
from affekt.runtime.logs import say
from affekt.runtime.outputs import refuse_overwriting, refuse_replacing

if TYPE_CHECKING:
    from affekt.recognition.evaluation import Evaluation
    from affekt.recognition.recognizer import Recognizer

DIAGRAMS = (".png", ".svg", ".pdf")
OUTPUTS = (".csv", ".json")
MOST_LABELS = 5
"""Labels without a class that are named."""


def evaluate(
    model: str,
    manifest: Path,
    *,
    output: Annotated[Path | None, Option("-o")] = None,
    diagram: Path | None = None,
    min_confidence: float | None = None,
    jobs: int | None = None,
    seed: int = 0,
    force: bool = False,
) -> int:
    """Measure a model on a manifest: WA, UA, per class, calibration, with intervals over speakers.

    Labels are matched by the vocabulary (`anger` is angry). Utterances whose labels are no classes of the model are
    left out and counted. A warning says which corpora and recordings the model was trained on.

    Args:
        model: a file written by `affekt export`, a checkpoint, or `bundled`.
        manifest: .csv or .parquet, as `affekt prepare` writes it.
        output: .csv: one row per utterance with its label, answer, probabilities and error; .json: all figures, and the
            same rows under `answers`.
        diagram: draw the reliability diagram here: .png, .svg or .pdf.
        min_confidence: predictions below this confidence count as unsure; by default the model's own threshold.
        jobs: number of recordings to work on at a time; by default one per core.
        seed: seed of the bootstrap.
        force: replace files that exist already, instead of refusing to.
    """
    from affekt.data.manifest import Manifest
    from affekt.recognition.evaluation import as_text
    from affekt.recognition.evaluation import evaluate as evaluate_model

    _check_outputs(output, diagram, [manifest, model], force)
    evaluation = evaluate_model(_recognizer(model, jobs), Manifest.read(manifest), min_confidence)
    for fault in gathered(fault for failure in evaluation.failures for fault in failure.error.faults):
        say(f"failed: {fault}")
    for seen in evaluation.seen:
        say(f"warning: {seen}")
    if evaluation.left_out:
        say(f"note: {_left_out(evaluation)}")
    print(as_text(evaluation, seed))
    if output is not None:
        _write(evaluation, output, seed)
    if diagram is not None:
        _draw(evaluation, diagram)
    return int(bool(evaluation.failures))


def _check_outputs(output: Path | None, diagram: Path | None, inputs: list[str | Path], force: bool) -> None:
    """Refuse other suffixes, outputs onto an input, and outputs that exist."""
    for name, path, suffixes in (("output", output, OUTPUTS), ("diagram", diagram, DIAGRAMS)):
        if path is not None and path.suffix not in suffixes:
            raise ConfigError(name, got=repr(str(path)), expected=f"a name ending in {', '.join(suffixes)}")
    refuse_overwriting([output, diagram], inputs)
    refuse_replacing([output, diagram], force)


def _left_out(evaluation: Evaluation) -> str:
    labels = ", ".join(f"{label} {count:,}" for label, count in list(evaluation.left_out_labels.items())[:MOST_LABELS])
    more = len(evaluation.left_out_labels) - MOST_LABELS
    others = f" and {more} other labels" if more > 0 else ""
    return f"{evaluation.left_out:,} utterances have labels that are no classes of the model ({labels}{others})"


def _write(evaluation: Evaluation, output: Path, seed: int) -> None:
    rows = evaluation.answers()
    if output.suffix == ".json":
        figures = evaluation.to_dict(seed) | {"answers": rows}
        write_bytes(output, (json.dumps(figures, indent=1) + "\n").encode())
        return
    columns = list(dict.fromkeys(name for row in rows for name in row if name != "error"))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*columns, "error"], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(output, text.getvalue().encode("utf-8", "backslashreplace"))


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
    with atomic_write(path) as file:
        reliability(bins, evaluation.corpus).savefig(file, format=path.suffix[1:])
