"""The scripts of this repository: what they write is what they say, and docs/study.md is what one of them writes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from affekt import cli
from affekt.config import load
from affekt.data.manifest import Manifest
from affekt.errors import AffektError, ConfigError
from affekt.features.clips import Clips
from affekt.results import Results, recipe_choice, summarize
from affekt.results.ablation import REFERENCE, Ablation
from affekt.results.run_directory import file_sha256, result_digest
from affekt.results.study import Study
from affekt.training.recipes import RECIPES, Recipe
from affekt.training.systems import SYSTEMS
from affekt.training.train_config import TrainConfig
from scripts import ablation, collect_results, encoder_recipe, page_examples
from scripts import study as study_script

REPOSITORY = Path(__file__).parents[1]


# -------------------------------------------------------------------------------------------------------------- study


def test_the_study_is_what_the_script_writes(tmp_path: Path) -> None:
    """docs/study.md and its pages, from results/ alone: nobody typed a figure. If it fails: python scripts/study.py."""
    written = study_script.write(REPOSITORY / "results", tmp_path)
    docs = REPOSITORY / "docs"
    for path in written:
        assert (docs / path.relative_to(tmp_path)).read_text(encoding="utf-8") == path.read_text(encoding="utf-8"), path
    for pattern in ("study/*.md", "study/figures/*.svg", "figures/study-*.svg"):
        assert {path.name for path in docs.glob(pattern)} == {path.name for path in tmp_path.glob(pattern)}


def test_the_study_takes_in_every_run(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    for name in ("b", "a"):
        make_run(tmp_path / "results" / name, systems=("baseline",), folds=2, seeds=1)
    (tmp_path / "results" / "bundled").mkdir()
    (tmp_path / "results" / "bundled" / "config.toml").write_text("")
    study, ablations, choice = study_script.read(tmp_path / "results")
    assert [run.results.path.name for run in study.runs] == ["a", "b"]
    assert ablations == []
    assert choice.chosen is None


def test_pages_of_runs_that_are_gone_are_deleted(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    make_run(tmp_path / "results" / "emodb-random", systems=("baseline", "focal"), seeds=1)
    gone = [
        tmp_path / "docs" / name for name in ("study/old.md", "study/figures/old-intervals.svg", "figures/study-x.svg")
    ]
    kept = tmp_path / "docs" / "figures" / "other.svg"
    for path in (*gone, kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    study_script.write(tmp_path / "results", tmp_path / "docs")
    assert not any(path.exists() for path in gone)
    assert kept.exists()
    assert (tmp_path / "docs" / "study" / "emodb-random.md").exists()


# ------------------------------------------------------------------------------------------------------ encoder recipe


@pytest.fixture
def choice(tmp_path: Path, make_run: Callable[..., Path]) -> Path:
    """Runs at three rates on both corpora, of which 1e-3 has the best validation UA at the kept epoch."""
    for corpus in recipe_choice.CORPORA:
        for rate in recipe_choice.RATES:
            path = make_run(tmp_path / "choice" / f"{corpus}-{rate:g}", systems=("encoder",), corpus=corpus, seeds=1)
            config = (path / "config.toml").read_text()
            (path / "config.toml").write_text(f"{config}[recipe.train]\nlearning_rate = {rate}\n")
            for result in path.rglob("result.json"):
                _set_validation_ua(result, 0.9 if rate == 1e-3 else 0.8)
    return tmp_path / "choice"


def _set_validation_ua(result: Path, value: float) -> None:
    facts = json.loads(result.read_text())
    history = pd.read_csv(result.parent / "history.csv")
    history["validation_ua"] = np.where(history["epoch"] == facts["best_epoch"], value, 0.99)
    history.to_csv(result.parent / "history.csv", index=False)
    facts["sha256"]["history.csv"] = file_sha256(result.parent / "history.csv")
    facts["digest"] = result_digest(facts)
    result.write_text(json.dumps(facts))


def test_the_rate_of_the_best_validation_ua_is_chosen(choice: Path, tmp_path: Path) -> None:
    found = encoder_recipe.read(choice)
    assert (found.chosen, found.mean(1e-3), found.mean(3e-3, "emodb")) == (1e-3, pytest.approx(0.9), pytest.approx(0.8))
    assert encoder_recipe.table(found).splitlines()[-1] == "chosen: 0.001"
    assert "90.0 ± 0.0" in encoder_recipe.table(found)
    for run in choice.iterdir():
        collect_results.collect(run, tmp_path / "published" / run.name)
    assert encoder_recipe.read(tmp_path / "published") == found  # the histories of published copies are packed


def test_without_all_rates_nothing_is_chosen(choice: Path) -> None:
    shutil.rmtree(choice / "crema-d-0.003")
    found = encoder_recipe.read(choice)
    assert (found.chosen, found.rates) == (None, [3e-4, 1e-3])
    *_, last, conclusion = encoder_recipe.table(found).splitlines()
    assert last.split() == ["0.003", "80.0", "±", "0.0", "-", "-"]
    assert conclusion == "not all rates were tried on both corpora"
    shutil.copytree(choice / "emodb-0.001", choice / "twice")
    with pytest.raises(AffektError, match=r"another run of emodb at 0\.001, expected one of each"):
        encoder_recipe.read(choice)


# ------------------------------------------------------------------------------------------------------------ collected


def test_a_collected_run_is_small_and_says_the_same(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run", systems=("baseline", "focal"), folds=2, seeds=1)
    (run / "focal/fold-0/seed-0/state.pt").write_bytes(b"half")
    collect_results.collect(run, tmp_path / "kept")
    kept = tmp_path / "kept"
    assert not [path for path in kept.rglob("*") if path.suffix in (".npy", ".safetensors", ".pt")]
    assert summarize(Results.read(kept)) == summarize(Results.read(run))
    assert json.loads((kept / "summary.json").read_text()) == summarize(Results.read(run))
    assert not list(kept.glob("*/fold-*"))
    collect_results.collect(kept, tmp_path / "again")
    assert (tmp_path / "again" / "summary.json").read_bytes() == (kept / "summary.json").read_bytes()


def test_a_copy_s_drawings_outlive_the_features_that_they_show(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run, kept = make_run(tmp_path / "run", systems=("baseline", "focal"), folds=2, seeds=1), tmp_path / "kept"
    (kept / "figures").mkdir(parents=True)
    for name in ("projection-baseline.svg", "curves-baseline.svg"):
        (kept / "figures" / name).write_text(name)
    collect_results.collect(run, kept)
    assert [path.name for path in kept.glob("figures/*")] == ["projection-baseline.svg"]


def test_a_published_copy_is_reported(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run", systems=("encoder", "encoder-focal-g2-a2"), folds=3, seeds=1)
    collect_results.collect(run, tmp_path / "kept")
    assert cli.main(["report", str(tmp_path / "kept"), "-o", str(tmp_path / "report"), "--formats", "markdown"]) == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "dashed line: encoder" in text
    assert "confusion-encoder-focal-g2-a2.svg" in text


def test_a_plan_is_collected_with_its_costs(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run", systems=("baseline",), folds=2, seeds=1)
    shutil.rmtree(run / "baseline")
    (run / "costs.json").write_text("{}")
    (run / "config.toml").write_text((run / "config.toml").read_text() + "[recipe]\n[systems]\n")
    collect_results.collect(run, tmp_path / "kept")
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"config.toml", "folds.json", "costs.json"}
    assert Study.read([tmp_path / "kept"]).runs == ()


# ------------------------------------------------------------------------------------------------------------- ablation


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, bursts: Path) -> ModuleType:
    """The ablation's script, its recipe made tiny."""
    monkeypatch.setattr(ablation, "RECIPES", {"robust": replace(load(Recipe, bursts / "recipe.toml"), level=0.05)})
    return ablation


def call(bursts: Path, out: Path, *words: str) -> Ablation:
    usual = ["--rows", "recipe,no-averaging", "--folds", "2", "--epochs", "2", "--system", "tiny.toml"]
    small = bursts / "one.toml"
    small.write_text((bursts / "systems.toml").read_text().partition("[focal]")[0])
    usual[-1] = str(small)
    ablation.main([str(bursts / "manifest.csv"), "-o", str(out), "--cache", str(bursts / "cache"), *usual, *words])
    return Ablation.read(out / "bursts.json")


def test_rows_are_trained_on_the_same_folds_and_kept(
    tiny: ModuleType, bursts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    seen: list[tuple[Any, ...]] = []
    fit = ablation.fit

    def watched(system: Any, clips: Clips, train: Any, validation: Any, classes: int, config: Any, seed: int) -> Any:
        seen.append((tuple(train.rows), tuple(validation.rows), seed, config.max_epochs, config.patience))
        return fit(system, clips, train, validation, classes, config, seed)

    monkeypatch.setattr(ablation, "fit", watched)
    found = call(bursts, tmp_path)
    assert [(row.name, row.jobs) for row in found.rows()] == [(REFERENCE, 2), ("no-averaging", 2)]
    assert found.rows()[0].ua == found.rows()[1].ua  # this recipe averages nothing: the rows are one and the same
    assert seen[0] == seen[1]
    assert seen[2] == seen[3] != seen[0]
    assert {each[3:] for each in seen} == {(2, 2)}
    manifest = Manifest.read(bursts / "manifest.csv")
    folds = ablation.make_folds(manifest, "speaker", 5).folds
    for fold, (train, validation, *_) in zip(folds, seen[::2], strict=False):
        used = {manifest.ids[row] for row in (*train, *validation)}
        assert not used & set(fold.test)  # the test speakers take no part
    call(bursts, tmp_path)  # all is done
    assert len(seen) == 4
    call(bursts, tmp_path, "--rows", "recipe,no-warp", "--seeds", "2")
    assert len(seen) == 4 + 2 + 2 + 2  # the recipe's second seed; two folds of the new row with two seeds
    printed = capsys.readouterr().out
    assert "no-averaging/fold-1/seed-0" in printed
    assert "5 folds of speakers, scored on validation speakers" in printed


def test_another_ablation_s_file_is_refused(tiny: ModuleType, bursts: Path, tmp_path: Path) -> None:
    call(bursts, tmp_path, "--rows", "recipe", "--folds", "1")
    with pytest.raises(ConfigError, match=r"bursts\.json: got another epochs, expected .* choose another folder"):
        call(bursts, tmp_path, "--epochs", "3")


def test_rows_that_cannot_be_run(tiny: ModuleType, bursts: Path, tmp_path: Path, capsys: Any) -> None:
    for rows, said in (("recipe,nix", "no row nix; there are recipe, "), ("more-corpora", "--with OTHER.csv")):
        with pytest.raises(SystemExit):
            call(bursts, tmp_path, "--rows", rows)
        assert said in capsys.readouterr().err


def test_every_row_is_a_recipe_and_a_system_that_differ_as_it_says() -> None:
    robust = RECIPES["robust"]
    exactly = replace(robust.train, max_epochs=7, min_steps=0, patience=7)
    assert ablation.changed(robust, ablation.ROWS[REFERENCE], 7).train == exactly
    for name, change in ablation.ROWS.items():
        recipe = ablation.changed(robust, change, 3)
        system = recipe.apply(replace(SYSTEMS["compact"], **change.system))
        assert isinstance(recipe.train, TrainConfig)
        system.build(4, [1, 2, 3, 4])
        differs = recipe != ablation.changed(robust, ablation.ROWS[REFERENCE], 3) or change.system
        differs = differs or change.normalize or change.corpora
        assert bool(differs) is (name != REFERENCE), f"{name}: the recipe has this already"


def test_normalized_by_group(tiny: ModuleType) -> None:
    generator = torch.Generator().manual_seed(0)
    clips = Clips.of(
        [torch.randn(20 + row, 3, generator=generator) * (row + 1) + row for row in range(4)], silence=-9.0
    )
    spoken = ablation.normalized(clips, ["a", "b", "a", "b"])
    for rows in ((0, 2), (1, 3)):
        frames = np.concatenate([spoken[row].numpy() for row in rows])
        np.testing.assert_allclose(frames.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(frames.std(0, ddof=1), 1, atol=1e-4)
    assert torch.equal(spoken.offsets, clips.offsets)
    assert abs(float(spoken[0].mean())) > 0.05  # not by utterance


def test_other_corpora_are_trained_on_and_not_judged_by(
    tiny: ModuleType, bursts: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    other = Path(shutil.copytree(bursts, tmp_path / "other", ignore=shutil.ignore_patterns("cache")))
    table = Manifest.read(other / "manifest.csv").table
    table["corpus"], table["id"] = "others", "x-" + table["id"]
    Manifest(table, other).write(other / "manifest.csv")
    sizes: list[tuple[int, int]] = []
    fit = ablation.fit

    def watched(system: Any, clips: Clips, train: Any, validation: Any, *rest: Any) -> Any:
        sizes.append((len(train.rows), len(validation.rows)))
        return fit(system, clips, train, validation, *rest)

    monkeypatch.setattr(ablation, "fit", watched)
    words = ("--with", str(other / "manifest.csv"), "--rows", "recipe,more-corpora", "--folds", "1")
    call(bursts, tmp_path / "out", *words)
    (train, validation), (more, same) = sizes
    assert (more, same) == (train + 48, validation)
    assert file_sha256(tmp_path / "out" / "bursts.json")


# ------------------------------------------------------------------------------------------------------ page examples


def test_the_pages_examples_are_what_the_script_writes() -> None:
    """Computed voices, no recording of a person. If it fails: python scripts/page_examples.py."""
    names = {path.name for path in page_examples.FOLDER.glob("*.flac")}
    made = dict(page_examples.make())
    assert set(made) == names
    for name, samples in made.items():
        kept, rate = soundfile.read(page_examples.FOLDER / name, dtype="int16")
        assert rate == page_examples.RATE_HZ
        np.testing.assert_allclose(kept, samples, atol=1)  # another library may round the last digit
