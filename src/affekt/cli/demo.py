"""`affekt demo`: the paper's systems on the embedded synthetic corpus, end to end, in a few minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from affekt.cli.framework.arguments import Option
from affekt.cli.shared import choose_engine, conclude, run_with_progress, side_by_side
from affekt.data.labels import LABEL_SETS
from affekt.experiments.progress import ExperimentProgress

SPEAKERS, SENTENCES = 10, 6
NEXT = """
This was synthetic audio: it shows how affekt works and says nothing about real speech. With a corpus of your own:

  affekt corpora                                   the corpora that affekt reads, with license and source
  affekt prepare emodb PATH -o emodb.csv --labels iemocap4
  affekt experiment emodb.csv -o runs/emodb --systems table2 --protocol speaker --seeds 3
  affekt prepare table my.csv -o own.csv           any table with a path and a label column
"""


def demo(*, out: Annotated[Path, Option("-o")] = Path("runs/demo"), folds: int = 3, jobs: int | None = None) -> int:
    """Train and compare the paper's four systems on a synthetic corpus; a few minutes.

    Args:
        out: folder for the corpus and the run.
        folds: number of folds of the random protocol.
        jobs: number of trainings at a time; by default one per core.
    """
    from affekt.data.corpora import prepare, synthetic
    from affekt.experiments.plan import plan_experiment
    from affekt.training.recipes import RECIPES
    from affekt.training.systems import resolve

    workers = side_by_side(jobs, "cpu")
    print("The embedded corpus is SYNTHETIC: a voice synthesizer, no human speakers.")
    corpus = out / "corpus"
    if not corpus.exists():
        synthetic.write(corpus, speakers=SPEAKERS, sentences=SENTENCES)
    manifest, _ = prepare("synthetic", corpus, LABEL_SETS["basic4"], check_audio=False)
    recipe = RECIPES["quick"]
    with ExperimentProgress(recipe.train.max_epochs) as progress:
        planned, _ = plan_experiment(
            manifest,
            resolve("headline"),
            out / "run",
            folds=folds,
            recipe=recipe,
            labels=LABEL_SETS["basic4"],
            device="cpu",
            cache=out / "cache",
            on_progress=progress.on_progress,
        )
        failed = run_with_progress(planned, choose_engine("local", workers), progress)
    conclude(planned)
    print(NEXT)
    return 1 if failed else 0
