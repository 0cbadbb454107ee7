"""`affekt reproduce`: the paper's Table 2 on IEMOCAP, in one command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from affekt.cli.framework.arguments import Option
from affekt.cli.shared import (
    choose_engine,
    conclude,
    print_estimate,
    run_with_progress,
    say_left_out,
    side_by_side,
)
from affekt.data.labels import LABEL_SETS
from affekt.experiments.progress import ExperimentProgress


def reproduce(
    root: Path,
    /,
    *,
    out: Annotated[Path, Option("-o")] = Path("runs/iemocap"),
    systems: str = "table2",
    protocol: str = "random",
    seeds: int = 1,
    device: str = "auto",
    jobs: int | None = None,
    cache: Path | None = None,
) -> int:
    """Repeat the paper's experiment on IEMOCAP and report beside its figures; resumes.

    Args:
        root: folder of the release, which holds Session1 to Session5.
        out: folder for the manifest and the run.
        systems: by default the 14 rows of Table 2.
        protocol: random is the paper's; speaker and session share no speakers between training and test.
        seeds: number of trainings of each system on each fold.
        device: auto, cpu, cuda or mps.
        jobs: number of trainings at a time; by default one per core on a CPU, one on a GPU.
        cache: folder for decoded audio; by default ~/.cache/affekt.
    """
    from affekt.data.corpora import prepare
    from affekt.experiments.plan import plan_experiment
    from affekt.training.systems import resolve

    workers = side_by_side(jobs, device)
    manifest, notes = prepare("iemocap", root, LABEL_SETS["iemocap4"])
    for note in notes:
        print(f"affekt: {note}", file=sys.stderr)
    manifest.write(out / "iemocap4.csv")
    with ExperimentProgress() as progress:
        planned, failures = plan_experiment(
            manifest,
            resolve(systems),
            out,
            protocol=protocol,
            seeds=seeds,
            labels=LABEL_SETS["iemocap4"],
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
