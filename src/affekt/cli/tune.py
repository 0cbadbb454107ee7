"""`affekt tune`: a search for settings on one fold's validation part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from affekt.cli.framework.arguments import Option
from affekt.cli.shared import TrainChanges, changed_recipe, one_system, side_by_side
from affekt.data.labels import label_set
from affekt.experiments.progress import ExperimentProgress

if TYPE_CHECKING:
    from affekt.experiments.search_space import Point
    from affekt.experiments.tuning import SearchResult


def tune(
    manifest: Path,
    /,
    *,
    out: Annotated[Path, Option("-o")],
    system: str = "baseline",
    space: Path | None = None,
    trials: int = 30,
    protocol: str = "random",
    folds: int = 5,
    fold_seed: int = 0,
    fold: int = 0,
    seeds: int = 1,
    seed: int = 0,
    labels: str | None = None,
    recipe: str = "quick",
    train: TrainChanges | None = None,
    device: str = "auto",
    jobs: int | None = None,
    cache: Path | None = None,
    config: Path | None = None,
) -> int:
    """Search the settings of a system on the validation part of one fold; resumes.

    The test part is not used. Test the result on the same fold with
    `affekt experiment MANIFEST -o RUN --config OUT/best.toml`.

    Args:
        manifest: utterances, as `affekt prepare` writes them.
        out: folder of the search. An existing search is resumed.
        system: name of a system, or a TOML file with one.
        space: TOML file with the search space, e.g. learning_rate = { low = 1e-4, high = 1e-2, log = true } under
            [train], or margin = { low = 0.1, high = 0.5 } under [system.loss_options]; by default the learning rate,
            dropout, the loss's options and light augmentation.
        trials: total number of trials, including those of earlier calls.
        protocol: random, speaker, session, loso, corpus or text; or a file of folds.
        folds: number of folds, for the protocols random and speaker.
        fold_seed: seed of the folds.
        fold: index of the fold whose validation part is used.
        seeds: number of trainings per trial; their mean is the objective.
        seed: seed of the search and of the trainings.
        labels: label set: a name (iemocap4, ...) or a TOML file; by default every label is a class.
        recipe: paper, quick or robust.
        train: changes to the recipe's training, e.g. --train.max-epochs 10.
        device: auto, cpu, cuda or mps.
        jobs: number of trials at a time; by default one per core on a CPU, one on a GPU. Only 1 is reproducible.
        cache: folder for decoded audio; by default ~/.cache/affekt.
        config: TOML file with values for these options.
    """
    from affekt.data.manifest import Manifest
    from affekt.experiments.search_space import load_space
    from affekt.experiments.tuning import plan_search
    from affekt.experiments.tuning import tune as search_settings

    workers = side_by_side(jobs, device)
    with ExperimentProgress() as progress:
        search = plan_search(
            Manifest.read(manifest),
            one_system(system),
            protocol=protocol,
            folds=folds,
            fold_seed=fold_seed,
            fold=fold,
            recipe=changed_recipe(recipe, train),
            space=load_space(space) if space else None,
            seeds=seeds,
            seed=seed,
            labels=label_set(labels) if labels else None,
            device=device,
            cache=cache,
            on_progress=progress.on_progress,
        )
    options = {"labels": labels} if labels else {}
    found = search_settings(search, out, trials, workers, _print_trial, **options)
    _print_found(found)
    print(f"affekt experiment {manifest} -o RUN --config {found.config}")
    return 1 if found.failed else 0


def _print_found(found: SearchResult) -> None:
    print(f"best of {found.trials} trials: validation UA {found.value:.3f} (optimistic: the largest of many)")
    for key, value in found.point.items():
        print(f"  {key} = {_shown(value)}")


def _print_trial(number: int, value: float | None, point: Point) -> None:
    result = "diverged" if value is None else f"validation UA {value:.3f}"
    print(f"[{number}] {result}  " + "  ".join(f"{key} {_shown(item)}" for key, item in point.items()), flush=True)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
