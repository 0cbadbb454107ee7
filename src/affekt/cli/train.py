"""`affekt train`: one model for use, from a manifest to a checkpoint and an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from affekt.cli.framework.arguments import Option
from affekt.cli.shared import TrainChanges, changed_recipe, make_model_progress, one_system
from affekt.data.labels import label_set
from affekt.recognition.models import BUNDLED_CHECKPOINT
from affekt.runtime.logs import LogFormat, log_as

if TYPE_CHECKING:
    from affekt.training.checkpoint import Checkpoint


def train(
    manifest: Path,
    /,
    *,
    out: Annotated[Path, Option("-o")],
    system: str = "compact",
    recipe: str = "robust",
    labels: str | None = None,
    init: str | None = None,
    seed: int = 0,
    license: str = "",
    device: str = "auto",
    cache: Path | None = None,
    train: TrainChanges | None = None,
    log_format: LogFormat = "text",
    config: Path | None = None,
) -> int:
    """Train one model for use, calibrate it, and export it to ONNX.

    Args:
        manifest: utterances, as `affekt prepare` writes them; a table of own recordings needs id, path and label.
        out: folder for model.safetensors, model.onnx, history and validation measures.
        system: name of a system, or a TOML file with one.
        recipe: robust or paper.
        labels: label set; by default every label of the manifest is a class.
        init: model to start from: bundled, or a checkpoint. The classes may be others.
        seed: of every random choice.
        license: of the weights, for the model card.
        device: auto, cpu, cuda or mps.
        cache: where decoded audio is kept.
        train: changes to the recipe's training, e.g. --train.max-epochs 20.
        log_format: json: a line for every event on standard error, for programs, and no progress bars.
        config: TOML file with values for these options.
    """
    from affekt.data.manifest import Manifest
    from affekt.experiments.train_model import train_model
    from affekt.export.onnx_file import export_checkpoint

    log_as(log_format)
    chosen = changed_recipe(recipe, train)
    with make_model_progress(chosen.train.max_epochs) as progress:
        made, measures = train_model(
            Manifest.read(manifest),
            one_system(system),
            out,
            recipe=chosen,
            labels=label_set(labels) if labels else None,
            start=_start(init),
            seed=seed,
            device=device,
            cache=cache,
            license=license,
            on_progress=progress.on_progress,
            on_epoch=progress.on_model_epoch,
        )
    export_checkpoint(made, out / "model.onnx", measures={"validation": measures})
    print(f"validation on {made.provenance['validation']}")
    print(f"UA {measures['ua']:.3f}, WA {measures['wa']:.3f} (it chose the epoch and the temperature: it flatters)")
    print(f"affekt predict --model {out / 'model.onnx'} RECORDING...")
    return 1 if made.provenance["left_out"] else 0


def _start(init: str | None) -> Checkpoint | None:
    from affekt.training.checkpoint import Checkpoint

    if init is None:
        return None
    return Checkpoint.load(BUNDLED_CHECKPOINT if init == "bundled" else init)
