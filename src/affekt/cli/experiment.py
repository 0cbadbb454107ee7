"""`affekt experiment`: train and compare systems over folds and seeds; resumable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from affekt.cli.framework.arguments import Option
from affekt.cli.shared import (
    TrainChanges,
    changed_recipe,
    choose_engine,
    conclude,
    print_estimate,
    run_with_progress,
    say_left_out,
    side_by_side,
    use_encoder,
)
from affekt.data.labels import label_set
from affekt.experiments.progress import make_progress
from affekt.runtime.logs import LogFormat, log_as
from affekt.runtime.ray_cluster import RayJobs

if TYPE_CHECKING:
    from affekt.experiments.plan import Experiment


def experiment(
    manifest: Path,
    /,
    *,
    out: Annotated[Path, Option("-o")],
    systems: str = "headline",
    protocol: str = "random",
    folds: int = 5,
    fold_seed: int = 0,
    seeds: int = 1,
    labels: str | None = None,
    recipe: str = "paper",
    train: TrainChanges | None = None,
    clip_seconds: float | None = None,
    initialization: Literal["pytorch", "keras"] | None = None,
    device: str = "auto",
    jobs: int | None = None,
    threads: int | None = None,
    plan: bool = False,
    cache: Path | None = None,
    encoder: Path | None = None,
    engine: Literal["local", "ray"] = "local",
    ray: RayJobs | None = None,
    log_format: LogFormat = "text",
    config: Path | None = None,
) -> int:
    """Train and compare systems over folds and seeds; resumes where it was interrupted.

    Args:
        manifest: utterances, as `affekt prepare` writes them (CSV or Parquet).
        out: run directory. An existing run is resumed; finished jobs are not repeated.
        systems: names, groups (headline, table1, table2, integration, study, poolings,
            encoder-headline, encoder-study) or TOML files, separated by commas.
        protocol: random (the paper's), speaker, session, loso, corpus or text; or a file of folds, such as another
            run's folds.json; or a folder of EmoBox lists.
        folds: number of folds, for the protocols random and speaker.
        fold_seed: seed of the folds.
        seeds: number of trainings of each system on each fold.
        labels: label set: a name (iemocap4, ...) or a TOML file; by default every label is a class.
        recipe: paper, paper-steps, robust or quick; or a TOML file.
        train: changes to the recipe's training, e.g. --train.max-epochs 50.
        clip_seconds: only the first seconds of each recording are used; by default 7.5 for the paper's systems.
        initialization: initial weights of the paper's network, as in PyTorch or as in Keras.
        device: auto, cpu, cuda or mps.
        jobs: number of jobs at a time; by default one per core on a CPU, one on a GPU.
        threads: CPU threads per job; results are bit-identical only with the same number.
        plan: do not train; print the remaining jobs with their estimated hours on this device, and write the measured
            step times to `costs.json`.
        cache: folder for decoded audio; by default ~/.cache/affekt.
        encoder: folder with the weights of Whisper's encoder (config.json, model.safetensors), for the systems on it;
            by default the one that AFFEKT_ENCODER names.
        engine: local: processes on this machine; ray: the nodes of a Ray cluster. Results are the same.
        ray: with `--engine ray`: the cluster and the resources of each job.
        log_format: text, or json for one JSON record per event on standard error instead of progress bars.
        config: TOML file with values for these options, or another run's config.toml to repeat that run.
    """
    from affekt.data.manifest import Manifest
    from affekt.experiments.plan import plan_experiment
    from affekt.training.systems import resolve

    log_as(log_format)
    use_encoder(encoder)
    chosen = changed_recipe(recipe, train, clip_seconds=clip_seconds, initialization=initialization)
    workers = side_by_side(jobs, device)
    runs = choose_engine(engine, workers, ray, jobs)
    with make_progress(chosen.train.max_epochs) as progress:
        planned, failures = plan_experiment(
            Manifest.read(manifest),
            resolve(systems),
            out,
            protocol=protocol,
            folds=folds,
            fold_seed=fold_seed,
            seeds=seeds,
            labels=label_set(labels) if labels else None,
            recipe=chosen,
            device=device,
            threads=threads,
            cache=cache,
            on_progress=progress.on_progress,
        )
        say_left_out(failures)
        if not plan:
            failures += run_with_progress(planned, runs, progress)
    if plan:
        print_plan(planned, workers)
    else:
        conclude(planned)
    return 1 if failures else 0


def print_plan(planned: Experiment, workers: int) -> None:
    """Print the remaining jobs with their estimated time; write the measured step times to `costs.json`."""
    from affekt.experiments.costs import measure, write_costs

    costs = measure(planned, planned.systems)
    print_estimate(planned, workers, costs)
    print(write_costs(planned, costs))
