"""Write docs/study.md from all runs in results/, and nothing else.

python scripts/study.py [RESULTS] [FOLDER]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from affekt.errors import AffektError
from affekt.report import write_study
from affekt.results.ablation import Ablation
from affekt.results.study import Study

REPOSITORY = Path(__file__).parents[1]


def read(results: Path) -> tuple[Study, list[Ablation]]:
    """Every run directory below `results`, and the ablation of every corpus."""
    runs = sorted(path.parent for path in results.glob("*/folds.json"))
    return Study.read(runs), [Ablation.read(path) for path in sorted((results / "ablation").glob("*.json"))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=REPOSITORY / "results")
    parser.add_argument("folder", type=Path, nargs="?", default=REPOSITORY / "docs")
    arguments = parser.parse_args()
    try:
        study, ablations = read(arguments.results)
        for path in write_study(study, arguments.folder, ("markdown",), ablations):
            print(path)
    except AffektError as error:
        sys.exit("\n".join(f"error: {fault}" for fault in error.faults))
