"""`affekt train`: one model for use, from a manifest to a checkpoint and an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from affekt.cli.framework.arguments import Option
from affekt.cli.shared import TrainChanges, changed_recipe, one_system, say_left_out, use_encoder
from affekt.data.labels import label_set
from affekt.experiments.progress import make_model_progress
from affekt.runtime.logs import LogFormat, log_as, say

if TYPE_CHECKING:
    from affekt.data.manifest import Manifest
    from affekt.training.checkpoint import Checkpoint
    from affekt.training.fitted import TrainingInterrupted

INTERRUPTED = 130  # as shells count: 128 + SIGINT


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
    force: bool = False,
    device: str = "auto",
    cache: Path | None = None,
    encoder: Path | None = None,
    train: TrainChanges | None = None,
    log_format: LogFormat = "text",
    config: Path | None = None,
) -> int:
    """Train one model for use, calibrate it, and export it to ONNX.

    Ctrl-C keeps the best epoch; the same command resumes.

    Args:
        manifest: utterances, as `affekt prepare` writes them; a table of your own needs the columns id, path and label.
        out: folder for model.safetensors, model.onnx, the history of epochs and the validation measures.
        system: name of a system, or a TOML file that defines one.
        recipe: robust or paper.
        labels: label set; by default every label of the manifest is a class.
        init: model to start from; its classes may differ. bundled, or an ONNX file: fine-tune its output layer, which
            takes seconds and 40 recordings. A checkpoint: train the whole network on.
        seed: seed of every random choice.
        license: license of the weights, for the model card.
        force: train again in the folder of a finished model, and replace it.
        device: auto, cpu, cuda or mps.
        cache: folder of the decoded audio.
        encoder: folder with the weights of Whisper's encoder, for the systems on it; by default AFFEKT_ENCODER's.
        train: changes to the recipe's training, e.g. --train.max-epochs 20.
        log_format: json: one line per event on standard error, for programs, and no progress bars.
        config: TOML file with values for these options.
    """
    from affekt.data.manifest import Manifest

    log_as(log_format)
    if init is not None and (init == "bundled" or init.endswith(".onnx")):
        return _fine_tune(Manifest.read(manifest), out, init, labels, license, cache, force, seed)
    from affekt.experiments.train_model import VALIDATION, WEIGHTS, train_model
    from affekt.export.onnx_file import export_checkpoint
    from affekt.training.fitted import TrainingInterrupted

    use_encoder(encoder)
    chosen = changed_recipe(recipe, train)
    try:
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
                force=force,
                on_progress=progress.on_progress,
                on_epoch=progress.on_model_epoch,
                on_left_out=say_left_out,
            )
    except TrainingInterrupted as stop:
        say(_interrupted(stop, out / WEIGHTS))
        return INTERRUPTED
    export_checkpoint(made, model := out / "model.onnx", measures={"validation": measures})
    print(f"validation on {made.provenance['validation']}")
    optimistic = "optimistic: this set also chose the epoch and temperature"
    print(f"UA {measures['ua']:.3f}, WA {measures['wa']:.3f} ({optimistic})")
    if left_out := made.provenance["left_out"]:
        print(f"left out: {left_out:,} recordings, named in {out / VALIDATION}")
    print(f"license of the weights: {license or 'not stated; state it with --license'}")
    print(f"affekt predict --model {model} RECORDING...")
    return 1 if made.provenance["left_out"] else 0


def _fine_tune(
    manifest: Manifest,
    out: Path,
    init: str,
    labels: str | None,
    license: str,
    cache: Path | None,
    force: bool,
    seed: int,
) -> int:
    """A new output layer on the embeddings of an exported model."""
    from affekt.experiments.fine_tuning import fine_tune

    tuned = fine_tune(
        manifest,
        out,
        model=None if init == "bundled" else init,
        labels=label_set(labels) if labels else None,
        license=license,
        cache=cache,
        force=force,
        seed=seed,
        on_left_out=say_left_out,
    )
    before = f"; {init} before: {tuned.measures['ua_before']:.3f}" if "ua_before" in tuned.measures else ""
    print(f"fine-tuned on {tuned.measures['utterances']:,} recordings; cross-validation: {tuned.line}")
    print(f"UA {tuned.measures['ua']:.3f}, WA {tuned.measures['wa']:.3f}{before}")
    if tuned.left_out:
        print(f"left out: {len(tuned.left_out):,} recordings, named in {tuned.path.with_name('validation.json')}")
    print(f"affekt predict --model {tuned.path} RECORDING...")
    return 1 if tuned.left_out else 0


def _interrupted(stop: TrainingInterrupted, weights: Path) -> str:
    best, epochs = stop.fitted.best_epoch, len(stop.fitted.history)
    ua = stop.fitted.history[best - 1].validation_ua
    return (
        f"interrupted after epoch {epochs}; the best epoch so far, {best} (validation UA {ua:.3f}), is kept in "
        f"{weights}; the same command resumes, and `affekt export {weights} -o model.onnx` exports it as it is"
    )


def _start(init: str | None) -> Checkpoint | None:
    from affekt.training.checkpoint import Checkpoint

    if init is None:
        return None
    return Checkpoint.load(init)
