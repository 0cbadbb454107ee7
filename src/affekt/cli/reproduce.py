"""`affekt reproduce`: the paper's Table 2 on IEMOCAP or on another corpus, in one command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from affekt.cli.framework.arguments import Option
from affekt.cli.shared import (
    changed_recipe,
    choose_engine,
    conclude,
    print_estimate,
    run_with_progress,
    say_left_out,
    side_by_side,
)
from affekt.data.labels import LABEL_SETS
from affekt.experiments.progress import ExperimentProgress

PAPER_CORPUS = "iemocap"


def reproduce(
    root: Path,
    /,
    *,
    out: Annotated[Path | None, Option("-o")] = None,
    corpus: str = PAPER_CORPUS,
    systems: str = "table2",
    protocol: str = "random",
    seeds: int = 1,
    clip_seconds: float | None = None,
    device: str = "auto",
    jobs: int | None = None,
    cache: Path | None = None,
) -> int:
    """Repeat the paper's experiment on IEMOCAP or another corpus and report beside its figures; resumes.

    Args:
        root: folder of the release; IEMOCAP's holds Session1 to Session5.
        out: folder for the manifest and the run; by default runs/CORPUS.
        corpus: the paper's, or another of `affekt corpora` that has angry, happy, neutral and sad.
        systems: by default the 14 rows of Table 2.
        protocol: random is the paper's; speaker and session share no speakers between training and test.
        seeds: number of trainings of each system on each fold.
        clip_seconds: only the first seconds of each recording are used; by default the paper's 7.5 on IEMOCAP, and on
            another corpus the length that leaves as many recordings whole.
        device: auto, cpu, cuda or mps.
        jobs: number of trainings at a time; by default one per core on a CPU, one on a GPU.
        cache: folder for decoded audio; by default ~/.cache/affekt.
    """
    from affekt.data.clip_length import clip_length_seconds
    from affekt.data.corpora import prepare
    from affekt.experiments.plan import plan_experiment
    from affekt.training.systems import resolve

    workers = side_by_side(jobs, device)
    manifest, notes = prepare(corpus, root, LABEL_SETS["iemocap4"])
    for note in notes:
        print(f"affekt: {note}", file=sys.stderr)
    if clip_seconds is None and corpus != PAPER_CORPUS:
        clip_seconds = clip_length_seconds(manifest)
    folder = out or Path("runs") / corpus
    manifest.write(folder / "iemocap4.csv")
    with ExperimentProgress() as progress:
        planned, failures = plan_experiment(
            manifest,
            resolve(systems),
            folder,
            protocol=protocol,
            seeds=seeds,
            labels=LABEL_SETS["iemocap4"],
            recipe=changed_recipe("paper", None, clip_seconds=clip_seconds),
            device=device,
            cache=cache,
            on_progress=progress.on_progress,
        )
    say_left_out(failures)
    print_estimate(planned, workers)
    with ExperimentProgress(planned.recipe.train.max_epochs) as progress:
        failures += run_with_progress(planned, choose_engine("local", workers), progress)
    conclude(planned)
    return 1 if failures else 0
