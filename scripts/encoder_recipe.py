"""Print the validation UA by which the learning rate of the recipe `encoder` was chosen (docs/study-plan.md).

    python scripts/encoder_recipe.py [FOLDER]

FOLDER holds the run directories of the choice, published or not; by default results/encoder-recipe. Each is made by

    affekt experiment emodb.csv -o runs/choice/emodb-3e-4 --systems encoder --protocol speaker --folds 5 --seeds 1 \\
      --labels iemocap4 --recipe encoder --train.learning-rate 3e-4

and likewise for crema-d.csv and the rates 1e-3 and 3e-3.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from affekt.errors import AffektError
from affekt.results.recipe_choice import CORPORA, RecipeChoice

FOLDER = Path(__file__).parents[1] / "results" / "encoder-recipe"


def read(folder: Path) -> RecipeChoice:
    """The choice from all run directories in a folder."""
    return RecipeChoice.read(sorted(path.parent for path in folder.glob("*/folds.json")))


def table(choice: RecipeChoice) -> str:
    """One line per rate: mean and deviation over trainings by corpus, mean over corpora; a dash where none is."""
    lines = [f"{'learning rate':<14}{''.join(f'{corpus:>16}' for corpus in CORPORA)}{'mean':>10}"]
    for rate in sorted({rate for rate, _ in choice.ua}):
        cells = [_cell(choice, rate, corpus) for corpus in CORPORA]
        mean = f"{100 * choice.mean(rate):.1f}" if rate in choice.rates else "-"
        lines.append(f"{rate:<14g}{''.join(f'{cell:>16}' for cell in cells)}{mean:>10}")
    chosen = choice.chosen
    lines.append("not all rates were tried on both corpora" if chosen is None else f"chosen: {chosen:g}")
    return "\n".join(lines)


def _cell(choice: RecipeChoice, rate: float, corpus: str) -> str:
    if (rate, corpus) not in choice.ua:
        return "-"
    deviation = choice.deviation(rate, corpus)
    spread = "" if deviation is None else f" ± {100 * deviation:.1f}"
    return f"{100 * choice.mean(rate, corpus):.1f}{spread}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    try:
        print(table(read(parser.parse_args().folder)))
    except AffektError as error:
        sys.exit("\n".join(f"error: {fault}" for fault in error.faults))
