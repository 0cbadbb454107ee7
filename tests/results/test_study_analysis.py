"""Analyses over corpora: oracle statsmodels on gains computed by hand, verdicts at their limits, incomplete runs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from affekt.measures import statistics
from affekt.measures.statistics import Interval
from affekt.results import study_analysis as analysis
from affekt.results import study_questions as asked
from affekt.results.study import Run, Study
from affekt.results.study_analysis import Analysis

CORPORA = ("emodb", "emovo", "nemo", "ravdess")
SYSTEMS = ("encoder", "encoder-am-softmax-s10-m0.4", "encoder-focal-g2-a2", "encoder-focal-g2-a1", "encoder-combined")


def encoder_run(
    path: Path, make_run: Callable[..., Path], corpus: str, protocol: str = "random", **options: object
) -> Path:
    """A run on the encoder; every corpus has other draws, since the corpus gains something else."""
    run = make_run(path, corpus=corpus, **{"systems": SYSTEMS, **options})
    config = (run / "config.toml").read_text().replace('recipe = "paper"', 'recipe = "encoder"')
    (run / "config.toml").write_text(config.replace('protocol = "random"', f'protocol = "{protocol}"'))
    return run


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., Path]) -> Study:
    folder = tmp_path_factory.mktemp("encoder")
    for number, corpus in enumerate(CORPORA):
        encoder_run(folder / corpus, make_run, corpus, gain=0.05 + 0.1 * number, utterances=96 + 12 * number)
    for corpus in CORPORA[:2]:
        encoder_run(folder / f"{corpus}-speaker", make_run, corpus, "speaker", gain=-0.2)
    make_run(folder / "paper", systems=("baseline", "focal", "combined"))
    return Study.read(sorted(folder.iterdir()))


@pytest.fixture(scope="module")
def random(study: Study) -> Analysis:
    return Analysis.of(study, "encoder", "random")


def gains_by_hand(run: Run, system: str) -> tuple[float, float]:
    """Mean and squared standard error of the corrected test, from the measures in result.json."""
    table = run.results.jobs.pivot_table(index=["fold", "seed"], columns="system", values="ua", observed=True)
    by_fold = (table[system] - table["encoder"]).groupby("fold").mean()
    test, train = (np.mean([getattr(fold, part) for fold in run.results.folds]) for part in ("test", "train"))
    return float(by_fold.mean()), float((1 / len(by_fold) + test / train) * by_fold.var(ddof=1))


@pytest.mark.filterwarnings("ignore:`use_t=True` requires")
def test_the_combined_gain_is_statsmodels_on_gains_by_hand(random: Analysis) -> None:
    for estimate, system in zip(random.proposals(), (SYSTEMS[1], SYSTEMS[2], SYSTEMS[4]), strict=True):
        by_hand = [gains_by_hand(run, system) for run in random.runs]
        effects, variances = zip(*by_hand, strict=True)
        assert [effect.value for effect in estimate.corpora] == pytest.approx(effects)
        assert [effect.error**2 for effect in estimate.corpora] == pytest.approx(variances)
        assert [effect.corpus for effect in estimate.corpora] == list(CORPORA)
        theirs = combine_effects(np.array(effects), np.array(variances), method_re="iterated", use_t=True)
        assert estimate.combined is not None
        if theirs.tau2 > 0:  # at 0 the interval is not narrower than that of equal effects, which theirs may be
            assert estimate.combined.effect == pytest.approx((theirs.mean_effect_re, *theirs.conf_int()[3]), rel=1e-3)
        assert estimate.combined.effect.value == pytest.approx(theirs.mean_effect_re, rel=1e-3)


def test_p_values_are_corrected_over_the_three_proposals(random: Analysis) -> None:
    rows = random.proposals()
    assert [row.name for row in rows] == list(asked.PROPOSALS)
    assert [row.p_holm for row in rows] == pytest.approx(statistics.holm([row.p or 0.0 for row in rows]))
    assert [row.p for row in rows] == [row.combined.p_value for row in rows if row.combined]


def test_fewer_than_three_corpora_are_not_combined(study: Study) -> None:
    speaker = Analysis.of(study, "encoder", "speaker")
    (row, *_) = speaker.proposals()
    assert [effect.corpus for effect in row.corpora] == ["emodb", "emovo"]
    assert row.combined is row.p is row.p_holm is row.interval is None
    one = Analysis.of(study, "paper", "random").proposals()
    assert [len(row.corpora) for row in one] == [0, 1, 1]
    assert one[1].interval == one[1].corpora[0][1:4]


@pytest.mark.parametrize(
    ("interval", "effect", "size"),
    [
        ((0.02, 0.001, 0.039), "helps", "smaller than reported"),
        ((0.05, 0.001, 0.099), "helps", "as large as reported"),
        ((0.06, 0.05, 0.07), "helps", "as large as reported"),
        ((0.0, -0.01, 0.01), "no difference shown", "smaller than reported"),
        ((0.01, -0.05, 0.07), "no difference shown", "as large as reported"),
        ((-0.02, -0.03, -0.01), "hurts", "smaller than reported"),
    ],
)
def test_verdicts_follow_from_the_interval(interval: tuple[float, float, float], effect: str, size: str) -> None:
    assert analysis.effect_verdict(Interval(*interval)) == effect
    assert analysis.size_verdict(Interval(*interval)) == size


def test_a_run_with_missing_trainings_uses_what_both_systems_have(
    tmp_path: Path, make_run: Callable[..., Path]
) -> None:
    left_out = [f"{SYSTEMS[2]}/fold-0/seed-0", f"{SYSTEMS[2]}/fold-1/seed-0", f"{SYSTEMS[2]}/fold-1/seed-1"]
    run = Run.read(encoder_run(tmp_path / "run", make_run, "emodb", folds=4, left_out=left_out))
    row = Analysis("encoder", "random", (run,)).gains(["focal-g2-a2"]).corpora[0]
    jobs = run.results.jobs.pivot_table(index=["fold", "seed"], columns="system", values="ua", observed=True)
    both = (jobs[SYSTEMS[2]] - jobs["encoder"]).dropna()
    assert sorted(set(both.index.get_level_values("fold"))) == [0, 2, 3]
    assert row.value == pytest.approx(both.groupby("fold").mean().mean())


def test_one_run_of_a_corpus_counts_and_part_b_before_part_c(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    runs = []
    for recipe in ("paper", "paper-steps", "robust"):
        path = make_run(tmp_path / recipe, systems=("baseline", "focal"))
        (path / "config.toml").write_text((path / "config.toml").read_text().replace('"paper"', f'"{recipe}"'))
        runs.append(path)
    chosen = Analysis.of(Study.read(runs), "paper", "random").runs
    assert [run.recipe for run in chosen] == ["paper-steps"]
    assert [run.recipe for run in Analysis.of(Study.read(runs[:1]), "paper", "random").runs] == ["paper"]


def test_happy_is_the_recall_of_that_class(random: Analysis) -> None:
    run, row = random.runs[0], random.happy().corpora[0]
    recalls = []
    for system in ("encoder", "encoder-focal-g2-a2"):
        by_fold = []
        for fold in range(3):
            tables = [run.results.of(system, fold, seed) for seed in range(2)]
            happy = [table[table["label"] == "happy"] for table in tables]
            by_fold.append(np.mean([np.mean(each["predicted"] == "happy") for each in happy]))
        recalls.append(by_fold)
    assert row.value == pytest.approx(np.mean(np.subtract(recalls[1], recalls[0])))


def test_alpha_finds_the_paper_s_setting_under_both_names(random: Analysis) -> None:
    row = random.alpha(2, 2, 1)
    expected = gains_by_hand(random.runs[0], SYSTEMS[2])[0] - gains_by_hand(random.runs[0], SYSTEMS[3])[0]
    assert row.corpora[0].value == pytest.approx(expected)
    assert random.alpha(5, 4, 1).corpora == ()


def test_the_best_of_the_others_is_the_largest(random: Analysis) -> None:
    best = random.best_of_the_others()
    assert best is not None
    assert best.name == "focal-g2-a1"  # the only other setting that was run
    assert best.interval == random.gains(["focal-g2-a1"]).interval


def test_correlations_are_combined_on_the_z_scale(random: Analysis) -> None:
    found = random.association()
    rows = [asked.association(run) for run in random.runs]
    z = [math.atanh(row["value"]) for row in rows if row]
    errors = [math.sqrt((1 + row["value"] ** 2 / 2) / (row["pairs"] - 3)) for row in rows if row]
    assert found.combined is not None
    low, high = (math.atanh(end) for end in found.combined.effect[1:])
    assert min(z) < math.atanh(found.combined.effect.value) < max(z)
    assert (low + high) / 2 == pytest.approx(math.atanh(found.combined.effect.value))
    assert [effect.error for effect in found.corpora] == pytest.approx(errors)
    within = asked.association(random.runs[0], within=("fold", "system"))
    assert within is not None
    assert within["pairs"] == within["jobs"] - 3 * len(SYSTEMS)


def test_deviations_are_means_over_corpora_with_student_s_interval(random: Analysis) -> None:
    found = random.spread("seeds")
    values = []
    for run in random.runs:
        jobs, variances = run.results.jobs, []
        for _, own in jobs.groupby("system", observed=True):
            variances.append(own.groupby("fold")["ua"].var(ddof=1).mean())
        values.append(math.sqrt(np.mean(variances)))
    assert [effect.value for effect in found.corpora] == pytest.approx(values)
    reach = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    assert found.combined is not None
    assert found.combined.effect == pytest.approx((np.mean(values), np.mean(values) - reach, np.mean(values) + reach))
    assert found.p is None
    epochs = random.stopping("epochs").corpora[0]
    own = random.runs[0].results.jobs.query("system == 'encoder'")["epochs"]
    assert epochs.value == pytest.approx(own.mean())


def test_flattery_pairs_the_protocols_of_a_corpus(study: Study) -> None:
    gap = analysis.flattery(study, "encoder")
    assert [effect.corpus for effect in gap.corpora] == ["emodb", "emovo"]
    random, speaker = (study.run("emodb", protocol, "encoder") for protocol in ("random", "speaker"))
    assert random is not None
    assert speaker is not None
    (row,) = asked.flattery(random, speaker, ["encoder"])
    assert gap.corpora[0][1:4] == (row["gap"], row["low"], row["high"])
    assert analysis.flattery(study, "paper").corpora == ()


def test_secondary_rows_are_corrected_together_and_levels_are_not_tested(study: Study) -> None:
    rows = analysis.secondary(study)
    tested = [row.estimate for row in rows if row.estimate.p is not None]
    assert [each.p_holm for each in tested] == pytest.approx(statistics.holm([each.p or 0.0 for each in tested]))
    units = {row.unit for row in rows if row.estimate.p is not None}
    assert units == {"signed points", "correlation"}
    assert {(row.network, row.protocol) for row in rows} >= {
        ("encoder", "random"),
        ("paper", "random"),
        ("encoder", ""),
    }
    assert json.dumps([row.quantity for row in rows]).count("{") == 0
