"""Write docs/study.md and docs/study/*.md from all runs in results/, and nothing else.

python scripts/study.py [RESULTS] [FOLDER]

Pages and figures of runs that are no longer there are deleted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from affekt.errors import AffektError
from affekt.report import write_study
from affekt.results.ablation import Ablation
from affekt.results.recipe_choice import RecipeChoice
from affekt.results.study import Study

REPOSITORY = Path(__file__).parents[1]
CHOICE = "encoder-recipe"
"""Folder of the runs by which the recipe of the encoder was chosen."""


def read(results: Path) -> tuple[Study, list[Ablation], RecipeChoice]:
    """Every run directory below `results`, the ablation of every corpus, and the choice of the encoder's recipe."""
    runs = sorted(path.parent for path in results.glob("*/folds.json"))
    ablations = [Ablation.read(path) for path in sorted((results / "ablation").glob("*.json"))]
    choice = RecipeChoice.read(sorted(path.parent for path in (results / CHOICE).glob("*/folds.json")))
    return Study.read(runs), ablations, choice


def write(results: Path, folder: Path) -> list[Path]:
    """Write all pages; returns their paths."""
    study, ablations, choice = read(results)
    old = {*folder.glob("study/*.md"), *folder.glob("study/figures/*.svg"), *folder.glob("figures/study-*.svg")}
    for path in old:
        path.unlink()
    return write_study(study, folder, ("markdown",), ablations, choice)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=REPOSITORY / "results")
    parser.add_argument("folder", type=Path, nargs="?", default=REPOSITORY / "docs")
    arguments = parser.parse_args()
    try:
        for path in write(arguments.results, arguments.folder):
            print(path)
    except AffektError as error:
        sys.exit("\n".join(f"error: {fault}" for fault in error.faults))
