"""Ablation of the robust recipe, and candidate additions, on validation speakers.

    python scripts/ablation.py emodb.csv -o results/ablation [--with ravdess.csv] [--rows recipe,no-warp]
        [--system compact] [--epochs 16] [--folds 5] [--seeds 1]

Trains the system with the recipe and with variants on the training speakers of each fold, and scores the validation
speakers. Test speakers are not used. A file per corpus holds the jobs; the same command resumes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from affekt.config import as_table, merge
from affekt.data.manifest import Manifest, concatenate
from affekt.data.protocols import Fold, make_folds
from affekt.errors import AffektError, ConfigError
from affekt.experiments.loading import Data, load_data
from affekt.features.clips import Clips
from affekt.report.numbers import interval, percent, points, spread
from affekt.results.ablation import REFERENCE, Ablation
from affekt.runtime.atomic_files import write_bytes
from affekt.runtime.seeds import derive_seed
from affekt.training.fitting import fit
from affekt.training.recipes import RECIPES, Recipe
from affekt.training.systems import System, resolve

EVERY_FOLD = 5


@dataclass(frozen=True)
class Change:
    """A row of the ablation: the difference from the recipe.

    Attributes:
        words: description in the table.
        recipe, system: changed fields; of `recipe`, nested as TOML would have them.
        normalize: features by the mean and deviation of their "utterance" or their "speaker".
        corpora: whether the other corpora's utterances are trained on as well.
    """

    words: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    system: Mapping[str, Any] = field(default_factory=dict)
    normalize: str = ""
    corpora: bool = False


def _train(words: str, **changes: Any) -> Change:
    return Change(words, recipe={"train": changes})


def _augment(words: str, **changes: Any) -> Change:
    return _train(words, augment=changes)


def _loss(words: str, loss: str, **options: Any) -> Change:
    return Change(words, system={"loss": loss, "loss_options": options})


AMOUNTS = ("gain_db", "channel_db", "noise_probability", "band_probability", "warp", "tempo")
ROWS: Mapping[str, Change] = {
    REFERENCE: Change("as it is"),
    "no-augmentation": _augment(
        "no variation of the features", **dict.fromkeys(AMOUNTS, 0.0), time_masks=0, mel_masks=0
    ),
    "no-channel": _augment("no random frequency response", channel_db=0.0),
    "no-noise": _augment("no noise", noise_probability=0.0),
    "band": _augment("a quarter of the clips within a telephone's band", band_probability=0.25),
    "no-warp": _augment("vocal tract as it is", warp=0.0),
    "more-warp": _augment("vocal tract +- 20 %", warp=0.2),
    "tempo": _augment("speaking rate +- 15 %", tempo=0.15),
    "masks": _augment("SpecAugment: two masks in time, one in frequency", time_masks=2, mel_masks=1),
    "mixup": _augment("two clips at once, in shares of Beta(0.4, 0.4)", mixup=0.4),
    "more-gain": _augment("loudness +- 6 dB", gain_db=6.0),
    "no-level": Change("clips as loud as they were recorded", recipe={"level": 0.0}),
    "utterance-norm": Change("features normalized by utterance", normalize="utterance"),
    "speaker-norm": Change("features normalized by speaker: needs unlabeled audio of each", normalize="speaker"),
    "no-averaging": _train("no average of the weights", averaging=0.0),
    "no-decay": _train("no weight decay", weight_decay=0.0),
    "constant-rate": _train("constant learning rate of 5e-4", schedule="constant", learning_rate=5e-4),
    "adversary": _train("speakers unlearnt by an adversary, weight 0.3", adversary=0.3),
    "label-smoothing": _loss("labels smoothed by 0.1", "softmax", label_smoothing=0.1),
    "balanced": _loss("classes weighted by 1 / their utterances", "softmax", alpha="class-balanced", beta=0.9999),
    "am-softmax": _loss("AM-softmax", "am-softmax", scale=10, margin=0.2),
    "focal": _loss("focal loss", "focal", gamma=2, alpha=1),
    "contrastive": _loss("softmax and a supervised contrastive loss", "supervised-contrastive", weight=0.3),
    "more-corpora": Change("trained on the other corpora as well", corpora=True),
    "unbalanced-corpora": Change("likewise, small corpora not repeated", {"balance_corpora": False}, corpora=True),
}


def changed(base: Recipe, change: Change, epochs: int) -> Recipe:
    """The recipe of a row, with a fixed number of epochs."""
    recipe = merge(base, change.recipe, where="ablation")
    return replace(recipe, train=replace(recipe.train, max_epochs=epochs, min_steps=0, patience=epochs))


def normalized(clips: Clips, groups: Sequence[str]) -> Clips:
    """Every band's mean 0 and deviation 1 over the frames of all utterances of a group."""
    values, lengths = clips.values.clone(), clips.lengths
    names = sorted(set(groups))
    owner = torch.tensor([names.index(group) for group in groups]).repeat_interleave(lengths)
    for number in range(len(names)):
        mine = owner == number
        values[mine] = (values[mine] - values[mine].mean(0)) / values[mine].std(0).clamp_min(1e-3)
    return replace(clips, values=values)


class Bench:
    """Data, folds and the file of one corpus."""

    def __init__(
        self, manifests: Sequence[Manifest], out: Path, system: System, epochs: int, cache: Path | None
    ) -> None:
        self.base, self.system, self.epochs = RECIPES["robust"], system, epochs
        self.corpus = manifests[0].name
        self.joined = concatenate(manifests) if len(manifests) > 1 else manifests[0]
        self.cache, self.path = cache, out / f"{self.corpus}.json"
        self.own = self.joined.where(self.joined.table["corpus"].isin(set(manifests[0].table["corpus"])).to_numpy())
        self.folds = make_folds(self.own, "speaker", EVERY_FOLD).folds
        self.data: dict[float, Data] = {}
        self.kept = self._begin()

    def _begin(self) -> dict[str, Any]:
        """The content of the file, once it is sure that it is of the same ablation."""
        sizes = {
            part: float(np.mean([len(getattr(fold, part)) for fold in self.folds])) for part in ("train", "validation")
        }
        fresh = {
            "line": f"{self.corpus}, {EVERY_FOLD} folds of speakers, scored on validation speakers",
            "system": self.system.name,
            "epochs": self.epochs,
            **sizes,
            "recipe": as_table(self.base),
            "rows": {},
        }
        if not self.path.exists():
            return fresh
        Ablation.read(self.path)  # or it says what is wrong with it
        kept: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        other = [key for key in fresh if key != "rows" and kept.get(key) != fresh[key]]
        if other:
            got, expected = f"another {', '.join(other)}", "the ablation that it was begun with"
            raise ConfigError(str(self.path), got=got, expected=expected, remedy="choose another folder with -o")
        return kept

    def run(self, name: str, fold: Fold, seed: int) -> bool:
        """Train one job and store it; return False if it is there already."""
        change = ROWS[name]
        row = self.kept["rows"].setdefault(name, {"change": change.words, "jobs": {}})
        key = f"{fold.index}/{seed}"
        if key in row["jobs"]:
            return False
        row["jobs"][key] = self._measure(change, fold, seed)
        write_bytes(self.path, (json.dumps(self.kept, indent=1) + "\n").encode())
        return True

    def _measure(self, change: Change, fold: Fold, seed: int) -> dict[str, float]:
        recipe = changed(self.base, change, self.epochs)
        system = recipe.apply(replace(self.system, **change.system))
        data = self._data(recipe.level, system)
        clips = self._clips(data, system, change)
        learnt = [*fold.train, *(self._others() if change.corpora else ())]
        job = derive_seed("ablation", self.corpus, fold.index, seed)  # the same for every row: they are paired
        train, validation = data.part(learnt), data.part(fold.validation)
        if recipe.balance_corpora:
            train = data.balanced(train)
        fitted = fit(system, clips, train, validation, len(data.classes), recipe.train, job)
        history = fitted.history
        return {"ua": history[fitted.best_epoch - 1].validation_ua, "last": history[-1].validation_ua}

    def _data(self, level: float, system: System) -> Data:
        if level not in self.data:
            self.data[level], _, failures = load_data(self.joined, [system], cache=self.cache)
            if failures:
                raise AffektError.of(failures)
        return self.data[level]

    def _clips(self, data: Data, system: System, change: Change) -> Clips:
        clips = data.clips[system.features]
        if not change.normalize:
            return clips
        speakers = data.manifest.table["corpus"] + "/" + data.manifest.table["speaker"]
        return normalized(clips, data.manifest.ids if change.normalize == "utterance" else speakers.tolist())

    def _others(self) -> list[str]:
        return sorted(set(self.joined.ids) - set(self.own.ids))


def table(ablation: Ablation) -> str:
    """The rows as text."""
    lines = [ablation.line]
    for row in ablation.rows():
        ends = f" {interval(row.gain.low, row.gain.high, signed=True)}" if row.gain else ""
        gained = "" if row.difference is None else f"{points(row.difference)}{ends}"
        last = f"last {percent(row.last)}"
        lines.append(f"{row.name:16} {spread(row.ua.mean, row.ua.sd):12} {last:10} {gained:22} {row.change}")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Run the remaining jobs one by one and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--with", dest="others", type=Path, nargs="*", default=[], help="manifests of other corpora")
    parser.add_argument("--rows", help=f"of {', '.join(ROWS)}; by default all that can be run")
    parser.add_argument("--system", default="compact")
    parser.add_argument("--epochs", type=int, default=RECIPES["robust"].train.max_epochs)
    parser.add_argument("--folds", type=int, default=EVERY_FOLD, help="of the five, the first so many")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--cache", type=Path)
    given = parser.parse_args(words)
    names = given.rows.split(",") if given.rows else [row for row in ROWS if given.others or not ROWS[row].corpora]
    if unknown := sorted(set(names) - set(ROWS)):
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    if any(ROWS[name].corpora for name in names) and not given.others:
        parser.error("rows of more corpora need them: --with OTHER.csv")
    torch.set_num_threads(1)  # so that the numbers do not depend on the machine's cores
    (system,) = resolve(given.system)
    manifests = [Manifest.read(path) for path in (given.manifest, *given.others)]
    bench = Bench(manifests, given.out, system, given.epochs, given.cache)
    for seed in range(given.seeds):
        for fold in bench.folds[: given.folds]:
            for name in names:
                if bench.run(name, fold, seed):
                    print(f"{name}/fold-{fold.index}/seed-{seed}", flush=True)
    print(table(Ablation.read(bench.path)))


if __name__ == "__main__":
    try:
        main()
    except AffektError as error:
        sys.exit("\n".join(f"error: {fault}" for fault in error.faults))
