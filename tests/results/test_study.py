"""Several runs together: every answer against one computed by hand, and honest about what was not run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn.metrics

from affekt.errors import AffektError, CheckpointError
from affekt.measures import statistics
from affekt.results import RunDirectory, fuse, study, study_questions
from affekt.results.run_directory import result_digest
from affekt.results.study import Run, Study
from affekt.training.systems import GROUPS, resolve

SYSTEMS = ("baseline", "am-softmax", "focal", "combined", "focal-g2-a1", "focal-g2-a4", "lstm", "functionals-svm")
COST = {"training": 0.01, "scoring": 0.005, "front_end": 0.001, "recognition": 0.002, "parameters": 10, "epochs": 100}
COST |= {"job_hours": 0.5, "longest_job_hours": 1.0}


def as_part(path: Path, protocol: str = "random", recipe: str = "paper") -> Path:
    """The run under another protocol's or recipe's name."""
    config = (path / "config.toml").read_text()
    config = config.replace('protocol = "random"', f'protocol = "{protocol}"')
    (path / "config.toml").write_text(config.replace('recipe = "paper"', f'recipe = "{recipe}"'))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., Path]) -> Path:
    """Runs: a random split, speakers held out, and that by the robust recipe with one more system."""
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "emodb-random", systems=SYSTEMS)
    as_part(make_run(folder / "emodb-speaker", systems=("baseline", "focal", "lstm"), gain=0.2), "speaker")
    robust = make_run(folder / "emodb-speaker-robust", systems=("lstm", "compact"), gain=0.3)
    as_part(robust, "speaker", "robust")
    (folder / "emodb-random" / "costs.json").write_text(json.dumps({"Z80": {"baseline": COST, "focal": COST}}))
    return folder


@pytest.fixture(scope="module")
def both(folder: Path) -> Study:
    return Study.read(sorted(folder.iterdir()))


@pytest.fixture(scope="module")
def run(both: Study) -> Run:
    found = both.run("emodb", "random")
    assert found is not None
    return found


def ua_by_fold(run: Run, system: str) -> np.ndarray:
    table = run.results.jobs
    return table[table["system"] == system].groupby("fold")["ua"].mean().to_numpy()


def test_runs_are_found_by_corpus_protocol_and_recipe(both: Study) -> None:
    assert [each.name for each in both.runs] == ["emodb-random", "emodb-speaker", "emodb-speaker-robust"]
    assert both.run("emodb", "speaker", "robust") is both.runs[2]
    assert both.run("nemo", "random") is None


def test_claims_are_gains_over_folds_with_holm(run: Run) -> None:
    rows = study_questions.claims(run)
    assert [(row["proposal"], row["system"]) for row in rows] == [
        ("AM-softmax", "am-softmax"),
        ("focal loss", "focal"),
        ("combined pooling", "combined"),
    ]
    for row in rows:
        gains = ua_by_fold(run, row["system"]) - ua_by_fold(run, "baseline")
        expected = statistics.corrected_resampled_interval(gains, 32, 44)
        assert (row["difference"], row["low"], row["high"]) == pytest.approx(expected)
        assert row["p"] == pytest.approx(statistics.corrected_resampled_t_test(gains, 32, 44).p_value)
        assert row["error"] == pytest.approx((row["high"] - row["difference"]) / scipy.stats.t.ppf(0.975, 2))
    assert [row["p_holm"] for row in rows] == pytest.approx(statistics.holm([row["p"] for row in rows]))


def test_alphas_compare_what_was_run(run: Run) -> None:
    rows = study_questions.alphas(run)  # focal, one of the paper's four systems, is the setting of alpha = 2
    assert [(row["gamma"], row["system"], row["other"]) for row in rows] == [
        (2, "focal", "focal-g2-a1"),
        (2, "focal-g2-a4", "focal-g2-a1"),
        (2, "focal-g2-a4", "focal"),
    ]
    expected = (ua_by_fold(run, "focal-g2-a4") - ua_by_fold(run, "focal-g2-a1")).mean()
    assert rows[1]["difference"] == pytest.approx(expected)
    assert [row["p_holm"] for row in rows] == pytest.approx(statistics.holm([row["p"] for row in rows]))


def test_spreads_are_components_of_the_jobs_ua(run: Run) -> None:
    row = next(row for row in study_questions.spreads(run) if row["system"] == "focal")
    table = run.results.jobs[run.results.jobs["system"] == "focal"].pivot(index="fold", columns="seed", values="ua")
    parts = statistics.variance_components(table.to_numpy().tolist())
    assert row["seeds"]["value"] == pytest.approx(np.sqrt(parts.within.value))
    assert row["folds"]["high"] == pytest.approx(np.sqrt(parts.between.high))
    assert row["jobs"] == pytest.approx(table.to_numpy().std(ddof=1))


def test_sampling_is_what_drawing_the_utterances_anew_does(run: Run) -> None:
    """Against drawing each job's utterances with replacement, class by class."""
    rng, variances = np.random.default_rng(0), []
    for job in run.results.finished("baseline"):
        table = run.results.of(*job)
        recalls = []
        for _, said in table.groupby("label", observed=True):
            hits = (said["label"].astype(str) == said["predicted"].astype(str)).to_numpy()
            recalls.append(hits[rng.integers(len(hits), size=(4_000, len(hits)))].mean(1))
        variances.append(np.mean(recalls, axis=0).var())
    assert study_questions.sampling_deviation(run, "baseline") == pytest.approx(np.sqrt(np.mean(variances)), rel=0.03)


def test_stopping_sees_the_epochs_around_the_kept_one() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        ua = 0.5 + 0.01 * np.arange(30) + rng.normal(0, 0.05, size=30)
        values = study_questions.stopping(pd.DataFrame({"epoch": np.arange(1, 31), "validation_ua": ua}), 12)
        assert values is not None
        found.append(values[0] ** 2)
        assert values[1] == pytest.approx(ua[11] - ua[29])
    assert np.mean(found) == pytest.approx(0.05**2, rel=0.1)  # the slope is taken out
    assert study_questions.stopping(pd.DataFrame({"epoch": [1, 2, 3], "validation_ua": [0.1, 0.2, 0.3]}), 2) is None
    assert study_questions.stopping(pd.DataFrame({"epoch": [1, 2, 3, 4]}), 2) is None


def test_a_random_split_flatters_by_the_difference_of_pooled_ua(both: Study) -> None:
    random, speaker = both.runs[:2]
    rows = {row["system"]: row for row in study_questions.flattery(random, speaker)}
    assert list(rows) == ["baseline", "focal", "lstm"]
    pooled = []
    for each in (random, speaker):
        table = each.results.predictions[each.results.predictions["system"] == "focal"]
        labels, predicted = (table[name].astype(str) for name in ("label", "predicted"))
        pooled.append(sklearn.metrics.recall_score(labels, predicted, average="macro"))
    row = rows["focal"]
    assert (row["random"], row["speaker"]) == pytest.approx(pooled)
    assert row["gap"] == pytest.approx(pooled[0] - pooled[1])
    assert row["low"] < row["gap"] < row["high"]
    assert study_questions.flattery(random, speaker, ["focal", "combined"]) == [row]  # the other run has no combined
    same = study_questions.flattery(random, random)
    assert {(row["gap"], row["low"], row["high"]) for row in same} == {(0.0, 0.0, 0.0)}  # speakers are drawn together


def test_compactness_ranks_jobs_within_their_folds(run: Run) -> None:
    association = study_questions.association(run)
    jobs = run.measures
    centered = jobs[["ua", "fisher_ratio"]] - jobs.groupby("fold")[["ua", "fisher_ratio"]].transform("mean")
    expected = scipy.stats.spearmanr(centered["ua"], centered["fisher_ratio"]).statistic
    assert association is not None
    assert association["value"] == pytest.approx(expected)
    assert (association["jobs"], association["pairs"]) == (48, 45)
    changes = study_questions.compactness(run)
    change = next(row for row in changes if (row["proposal"], row["measure"]) == ("focal loss", "fisher_ratio"))
    means = jobs.groupby("system")["fisher_ratio"].mean()
    assert change["difference"] == pytest.approx(means["focal"] - means["baseline"])
    assert change["low"] < change["difference"] < change["high"]


def test_the_best_for_their_price_are_those_that_nothing_dominates() -> None:
    prices = {"a": (0.5, 10), "b": (0.6, 20), "c": (0.55, 20), "d": (0.6, 30), "e": (0.7, None), "f": (0.5, 10)}
    rows: list[dict[str, Any]] = [{"system": name, "ua": ua, "price": price} for name, (ua, price) in prices.items()]
    found = {row["system"]: study_questions._undominated(row, rows, "price") for row in rows}
    assert found == {"a": True, "b": True, "c": False, "d": False, "e": None, "f": True}


def test_trade_offs_have_times_where_they_were_measured(run: Run) -> None:
    rows = {row["system"]: row for row in study_questions.trade_offs(run)}
    assert rows["focal"]["milliseconds"] == pytest.approx(3.0)
    assert rows["lstm"]["milliseconds"] is rows["lstm"]["best_for_milliseconds"] is None
    assert rows["combined"]["parameters"] == 380_548
    assert rows["focal"]["ua"] == run.summary["systems"]["focal"]["pooled"]["ua"]["value"]


def test_the_robust_recipe_meets_every_rival_on_the_same_folds(both: Study) -> None:
    _, speaker, robust = both.runs
    rows = study_questions.contest(robust, speaker)
    assert [(row["system"], row["other"]) for row in rows] == [("compact", "lstm"), ("compact", "baseline")]
    expected = (ua_by_fold(robust, "compact") - ua_by_fold(speaker, "lstm")).mean()
    assert rows[0]["difference"] == pytest.approx(expected)
    assert [row["other"] for row in study_questions.contest(robust, robust)] == ["lstm"]


def test_the_fused_system_is_judged_too_if_it_is_small(
    both: Study, tmp_path: Path, make_run: Callable[..., Path]
) -> None:
    speaker = both.runs[1]
    path = make_run(tmp_path / "robust", systems=("lstm", "compact"), gain=0.3)
    fuse(as_part(path, "speaker", "robust"), ["lstm", "compact"])
    assert {row["system"] for row in study_questions.contest(Run.read(path), speaker)} == {
        "compact"
    }  # 760,584 parameters
    for result in path.glob("fused/*/*/result.json"):
        small = json.loads(result.read_text()) | {"parameters": study_questions.MOST_PARAMETERS}
        result.write_text(json.dumps(small | {"digest": result_digest(small)}))
    rows = study_questions.contest(Run.read(path), speaker)
    assert [(row["system"], row["other"]) for row in rows] == [
        ("fused", "lstm"),
        ("fused", "baseline"),
        ("compact", "lstm"),
        ("compact", "baseline"),
    ]


def test_permutations_exchange_predictions_within_speakers(both: Study) -> None:
    """By hand, over all 2^6 ways of exchanging two systems' predictions for six speakers."""
    robust, speaker = both.runs[2], both.runs[1]
    tables = [
        run.results.predictions.query(f"system == '{name}'") for run, name in ((robust, "compact"), (speaker, "lstm"))
    ]
    speakers = sorted(set(tables[0]["speaker"]))

    def ua(table: pd.DataFrame) -> float:
        return float(sklearn.metrics.recall_score(table["label"], table["predicted"], average="macro"))

    gains = []
    for bits in range(1 << len(speakers)):
        own = [
            pd.concat([tables[(bits >> n & 1) ^ side].query(f"speaker == '{name}'") for n, name in enumerate(speakers)])
            for side in (0, 1)
        ]
        gains.append(ua(own[0]) - ua(own[1]))
    expected = np.mean(np.abs(gains) >= abs(gains[0]) - 1e-12)
    assert study_questions.permutation_p(robust, "compact", speaker, "lstm") == pytest.approx(expected)
    assert 0 < expected < 1


def test_runs_on_other_folds_are_not_paired(both: Study, tmp_path: Path, make_run: Callable[..., Path]) -> None:
    other = Run.read(make_run(tmp_path / "other", systems=("baseline",), utterances=90))
    assert study_questions.gain(both.runs[1], "focal", other, "baseline") is None


def test_the_plan_is_that_of_the_page() -> None:
    """docs/study-plan.md names parts, corpora, protocols and seeds; the commands name what they train."""
    rows = {row.name: row for row in study.PLAN}
    assert len(rows) == len(study.PLAN) == 2 + 2 + 1 + 7 * 2
    assert [rows[name].part for name in ("crema-d-random", "emodb-speaker-paper-steps", "emodb-random")] == list("ABC")
    assert {name for name, row in rows.items() if row.part == "D"} == {
        f"{corpus}-{protocol}-encoder" for corpus in study.ENCODER_CORPORA for protocol in ("random", "speaker")
    }
    page = (Path(__file__).parents[2] / "docs" / "study-plan.md").read_text(encoding="utf-8")
    part = next(line for line in page.splitlines() if line.startswith("| D |")).lower()
    assert all(corpus in part for corpus in study.ENCODER_CORPORA)
    assert len(rows["nemo-random-encoder"].wanted) == 15
    paper = {system.name for group in ("table1", "table2", "integration") for system in GROUPS[group]}
    assert set(rows["emodb-random"].wanted) == paper - {"am-softmax-s10-m0.4", "focal-g2-a2"}  # under their other names
    for row in study.PLAN:
        assert {system.name for system in resolve(row.systems)} >= set(row.wanted)


def test_what_remains_of_a_part(both: Study) -> None:
    parts = {part.name: (part, run) for part, run in both.parts()}
    part, run = parts["emodb-random"]
    row = study.remaining(part, run)
    wanted = len(part.wanted)
    assert wanted == 25
    known = [name for name in SYSTEMS if name in part.wanted]
    assert (row["finished"], row["expected"]) == (3 * len(known), 5 * wanted)  # three folds, of two seeds one counts
    assert row["hours"] == {}  # of most systems no cost is known
    left = 5 * wanted - 3 * len(known)
    priced = replace(part, costs={"Z80": dict.fromkeys(part.wanted, COST)})
    assert study.remaining(priced, run)["hours"] == {"Z80": [pytest.approx(0.5 * left), pytest.approx(1.0 * left)]}
    assert study.remaining(*parts["nemo-random-encoder"])["finished"] == 0
    assert both.mean_hours(part) == pytest.approx(run.results.jobs["seconds"].mean() / 3600)
    assert both.mean_hours(parts["nemo-random-encoder"][0]) is None
    assert [run.name for run in both.others()] == ["emodb-speaker", "emodb-speaker-robust"]


def test_a_run_that_was_only_planned_brings_its_costs(folder: Path, tmp_path: Path) -> None:
    planned = tmp_path / "crema-d-speaker"
    planned.mkdir()
    config = (folder / "emodb-random" / "config.toml").read_text().replace('"emodb"', '"crema-d"')
    config = config.replace('recipe = "paper"', 'recipe = "paper, changed"')
    (planned / "config.toml").write_text(f"{config}\n[recipe]\n[systems]\n")
    with pytest.raises(AffektError, match=r"folds\.json"):
        Study.read([planned])  # neither finished jobs nor costs
    shutil.copy(folder / "emodb-random" / "folds.json", planned)
    with pytest.raises(AffektError, match="no finished job"):
        Study.read([planned])
    (planned / "costs.json").write_text(json.dumps({"Z80": {"baseline": COST}}))
    read = Study.read([planned])
    assert read.runs == ()
    costs = {part.name: part.costs for part, _ in read.parts()}
    assert costs["crema-d-random"] == costs["crema-d-speaker"] == {"Z80": {"baseline": COST}}  # folds of one size
    assert costs["emodb-random"] == {}


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path, folder: Path) -> None:
    broken = shutil.copytree(folder / "emodb-speaker", tmp_path / "broken")
    (broken / "costs.json").write_text("no")
    with pytest.raises(AffektError) as raised:
        Study.read([tmp_path / "nothing", broken])
    assert [("nothing" in str(fault), "costs.json" in str(fault)) for fault in raised.value.faults] == [
        (True, False),
        (False, True),
    ]
    for text in ("[]", "3", '{"Z80": 3}', '{"Z80": {"baseline": {"training": 1}}}', "[" * 100_000):
        (broken / "costs.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"costs\.json: got .* expected device -> system -> training"):
            RunDirectory(broken).read_costs()
    (broken / "costs.json").write_text("{}")
    shutil.rmtree(broken / "focal")
    shutil.rmtree(broken / "baseline")
    shutil.rmtree(broken / "lstm")
    (broken / "config.toml").write_text("x = 3\n")
    with pytest.raises(AffektError, match=r"config\.toml: got something else, expected the configuration"):
        Study.read([broken])
