"""Summaries against scikit-learn, against exchanging predictions one by one, and against what must not change them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics

from affekt.errors import ConfigError
from affekt.measures import metrics, statistics
from affekt.results import Results, summarize, write_summary
from affekt.results.run_directory import file_sha256


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., Path]) -> Path:
    return make_run(tmp_path_factory.mktemp("summary") / "run")


@pytest.fixture(scope="module")
def results(run: Path) -> Results:
    return Results.read(run)


@pytest.fixture(scope="module")
def summary(results: Results) -> dict[str, Any]:
    return summarize(results)


def mean_recall(labels: Any, predicted: Any) -> float:
    """UA by scikit-learn, over the classes that have an utterance."""
    return float(sklearn.metrics.recall_score(labels, predicted, labels=np.unique(labels), average="macro"))


def rows_of(results: Results, system: str) -> pd.DataFrame:
    table = results.predictions
    return table[table["system"] == system]


def test_facts(summary: dict[str, Any]) -> None:
    assert (summary["corpus"], summary["folds"], summary["seeds"]) == ("emodb", 3, [0, 1])
    assert summary["jobs"] == {"finished": 24, "expected": 24, "missing": []}
    assert summary["bootstrap"]["unit"] == "speakers"
    assert summary["bootstrap"]["clusters"] == 6
    assert summary["baseline"] == "baseline"
    assert summary["systems"]["combined"]["parameters"] == 380_548


@pytest.mark.parametrize("measure", ["wa", "ua", "macro_f1"])
def test_means_and_spreads_oracle(results: Results, summary: dict[str, Any], measure: str) -> None:
    for name, figures in summary["systems"].items():
        table = results.jobs[results.jobs["system"] == name].pivot_table(index="fold", columns="seed", values=measure)
        expected = {
            "mean": table.to_numpy().mean(),
            "sd_jobs": table.to_numpy().std(ddof=1),
            "sd_folds": table.mean(axis=1).std(),
            "sd_seeds": table.mean(axis=0).std(),
        }
        assert figures[measure] == pytest.approx(expected, rel=1e-6)


def test_pooled_measures_oracle_sklearn(results: Results, summary: dict[str, Any]) -> None:
    for name, figures in summary["systems"].items():
        labels, predicted = (rows_of(results, name)[column].to_list() for column in ("label", "predicted"))
        assert figures["confusion"] == sklearn.metrics.confusion_matrix(labels, predicted).tolist()
        recall = sklearn.metrics.recall_score(labels, predicted, average=None)
        assert list(figures["recall"].values()) == pytest.approx(recall, rel=1e-6)
        assert figures["pooled"]["ua"]["value"] == pytest.approx(recall.mean(), rel=1e-6)
        assert figures["pooled"]["wa"]["value"] == pytest.approx(
            sklearn.metrics.accuracy_score(labels, predicted), rel=1e-6
        )


def resampled_ua(tables: dict[str, pd.DataFrame], seed: int, replicates: int) -> dict[str, np.ndarray]:
    """UA of each table in each replicate, drawing the rows of whole speakers one replicate after the other."""
    speakers = sorted(set().union(*(table["speaker"] for table in tables.values())))
    draws = np.random.default_rng(seed).integers(len(speakers), size=(replicates, len(speakers)))
    values = {}
    for name, table in tables.items():
        rows = dict(list(table.groupby("speaker")))
        drawn = [pd.concat([rows[speakers[index]] for index in draw]) for draw in draws]
        values[name] = np.array([mean_recall(t["label"].tolist(), t["predicted"].tolist()) for t in drawn])
    return values


def test_intervals_oracle(results: Results) -> None:
    systems = summarize(results, seed=5, replicates=60)["systems"]
    ua = resampled_ua({name: rows_of(results, name) for name in ("baseline", "focal")}, seed=5, replicates=60)
    own = systems["focal"]["pooled"]["ua"]
    assert (own["low"], own["high"]) == pytest.approx(np.quantile(ua["focal"], [0.025, 0.975]), rel=1e-6)
    gain = systems["focal"]["comparison"]["ua"]
    expected = np.quantile(ua["focal"] - ua["baseline"], [0.025, 0.975])
    assert (gain["low"], gain["high"]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("measure", "score"), [("ua", mean_recall), ("wa", sklearn.metrics.accuracy_score)])
@pytest.mark.parametrize("system", ["am-softmax", "focal", "combined"])
def test_permutation_oracle(
    results: Results, summary: dict[str, Any], system: str, measure: str, score: Callable[..., float]
) -> None:
    """Exchanging the two systems' predictions for every set of speakers, and scoring what comes out."""
    key = ["fold", "seed", "id"]
    one, other = (rows_of(results, name).sort_values(key) for name in (system, "baseline"))
    labels, speaker = one["label"].to_numpy(str), one["speaker"].to_numpy(str)
    first, second = one["predicted"].to_numpy(str), other["predicted"].to_numpy(str)
    gaps = []
    for exchanged in itertools.product([False, True], repeat=6):
        swap = np.isin(speaker, np.unique(speaker)[list(exchanged)])
        gaps.append(score(labels, np.where(swap, second, first)) - score(labels, np.where(swap, first, second)))
    p_value = np.mean(np.abs(gaps) >= abs(gaps[0]) - 1e-9)
    assert summary["systems"][system]["comparison"][measure]["permutation_p"] == pytest.approx(p_value)


def test_t_test_is_over_folds_with_seeds_averaged(results: Results, summary: dict[str, Any]) -> None:
    table = results.jobs.pivot_table(index="fold", columns="system", values="ua")
    expected = statistics.corrected_resampled_t_test(table["focal"] - table["baseline"], 32, 44).p_value
    compared = summary["systems"]["focal"]["comparison"]["ua"]
    assert compared["t_p"] == pytest.approx(expected, rel=1e-6)
    assert compared["difference"] == pytest.approx((table["focal"] - table["baseline"]).mean(), rel=1e-6)
    ends = statistics.corrected_resampled_interval(table["focal"] - table["baseline"], 32, 44)
    assert (compared["t_low"], compared["t_high"]) == pytest.approx(ends[1:], rel=1e-6)
    assert (compared["t_low"] <= 0) == (compared["t_p"] >= 0.05)  # the interval and the p of one test


def test_two_folds_have_no_t_test(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    summary = summarize(Results.read(make_run(tmp_path / "run", systems=("baseline", "focal"), folds=2)), replicates=9)
    compared = summary["systems"]["focal"]["comparison"]["ua"]
    assert [compared[name] for name in ("t_p", "t_low", "t_high", "verdict")] == [None, None, None, "not tested"]
    assert compared["permutation_p_holm"] is not None


def test_relative_change_of_each_recall(summary: dict[str, Any]) -> None:
    recall = {name: np.array(list(figures["recall"].values())) for name, figures in summary["systems"].items()}
    got = summary["systems"]["focal"]["comparison"]["relative_recall"]
    assert list(got) == summary["classes"]
    assert (got["neutral"], got["sad"]) == (None, None)  # fewer than 20 test utterances
    expected = recall["focal"] / recall["baseline"] - 1
    np.testing.assert_allclose([got["angry"], got["happy"]], expected[:2], rtol=1e-6)


def test_holm_is_over_all_systems(summary: dict[str, Any]) -> None:
    compared = [figures["comparison"]["ua"] for figures in summary["systems"].values() if figures["comparison"]]
    assert len(compared) == 3
    for test in ("t_p", "permutation_p"):
        adjusted = statistics.holm([figures[test] for figures in compared])
        assert [figures[f"{test}_holm"] for figures in compared] == pytest.approx(adjusted, rel=1e-6)


def test_calibration_is_that_of_the_pooled_posteriors(results: Results, summary: dict[str, Any]) -> None:
    table = rows_of(results, "focal")
    got = summary["systems"]["focal"]["calibration"]
    probabilities, labels = results.probabilities(table), table["label"].cat.codes.to_numpy()
    assert got["nll"] == pytest.approx(sklearn.metrics.log_loss(labels, probabilities), rel=1e-6)
    assert got["ece"] == pytest.approx(metrics.expected_calibration_error(probabilities, labels), rel=1e-6)
    assert sum(got["bins"]["count"]) == len(table)


def test_geometry_is_the_mean_over_jobs(results: Results, summary: dict[str, Any]) -> None:
    ratios = [
        metrics.fisher_ratio(results.embeddings(*job), results.of(*job)["label"].cat.codes.to_numpy())
        for job in results.finished("focal")
    ]
    got = summary["systems"]["focal"]["geometry"]["fisher_ratio"]
    assert got == pytest.approx({"mean": np.mean(ratios), "sd": np.std(ratios, ddof=1)}, rel=1e-6)
    assert summary["systems"]["focal"]["comparison"]["fisher_ratio"]["difference"] > 0  # as the fixture was made


def test_the_same_run_gives_the_same_bytes_and_times_are_not_in_them(
    tmp_path: Path, make_run: Callable[..., Path]
) -> None:
    """Twice written, the second time with other times and an interruption; summary.json is bit for bit the same."""
    first = make_run(tmp_path / "first", systems=("baseline", "focal"))
    second = make_run(tmp_path / "second", systems=("baseline", "focal"), left_out=("focal/fold-0/seed-0",))
    assert summarize(Results.read(second)) != summarize(Results.read(first))
    (first / "focal/fold-0/seed-0").rename(second / "focal/fold-0/seed-0")
    make_run(tmp_path / "third", systems=("baseline", "focal"))
    for path in (tmp_path / "third").glob("*/*/*/result.json"):
        result = json.loads(path.read_text())
        path.write_text(json.dumps(result | {"seconds": 99.0}))
    texts = []
    for run in (second, tmp_path / "third"):
        write_summary(summarize(Results.read(run)), run / "summary.json")
        texts.append((run / "summary.json").read_bytes())
    assert texts[0] == texts[1]
    assert b"seconds" not in texts[0]


def test_a_summary_on_disk_is_the_summary(tmp_path: Path, summary: dict[str, Any]) -> None:
    path = tmp_path / "new" / "summary.json"
    write_summary(summary, path)
    assert json.loads(path.read_text()) == summary
    assert list(path.parent.iterdir()) == [path]
    write_summary(summary, path)
    assert path.read_text() == json.dumps(summary, sort_keys=True, indent=1) + "\n"


def test_a_comparison_uses_the_jobs_that_both_have(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    left_out = ("baseline/fold-0/seed-0", "focal/fold-2/seed-1", "focal/fold-1/seed-0", "focal/fold-1/seed-1")
    results = Results.read(make_run(tmp_path / "run", systems=("baseline", "focal"), left_out=left_out))
    summary = summarize(results, seed=5, replicates=60)
    assert summary["jobs"] == {"finished": 8, "expected": 12, "missing": sorted(left_out)}
    table = results.jobs.pivot_table(index=["fold", "seed"], columns="system", values="ua").dropna()
    assert table.index.tolist() == [(0, 1), (2, 0)]
    compared = summary["systems"]["focal"]["comparison"]
    assert compared["jobs"] == 2
    assert compared["ua"]["difference"] == pytest.approx((table["focal"] - table["baseline"]).mean(), rel=1e-6)
    shared = results.predictions.set_index(["fold", "seed"]).loc[table.index]
    ua = resampled_ua({name: shared[shared["system"] == name] for name in ("focal", "baseline")}, 5, 60)
    expected = np.quantile(ua["focal"] - ua["baseline"], [0.025, 0.975])
    assert (compared["ua"]["low"], compared["ua"]["high"]) == pytest.approx(expected, rel=1e-6)


def test_systems_that_share_no_job_are_not_compared(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    left_out = ("baseline/fold-0/seed-0", "focal/fold-1/seed-0")
    run = make_run(tmp_path / "run", systems=("baseline", "focal", "combined"), folds=2, seeds=1, left_out=left_out)
    summary = summarize(Results.read(run))
    assert summary["systems"]["focal"]["comparison"] is None
    assert summary["systems"]["combined"]["comparison"]["ua"]["t_p"] is None  # one fold in common


def test_a_system_without_a_finished_job_is_only_missing(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    left_out = ("baseline/fold-0/seed-0", "baseline/fold-1/seed-0")
    run = make_run(tmp_path / "run", systems=("baseline", "focal"), folds=2, seeds=1, left_out=left_out)
    summary = summarize(Results.read(run))
    assert list(summary["systems"]) == ["focal"]
    assert summary["baseline"] == "focal"
    assert summary["systems"]["focal"]["ua"]["sd_seeds"] is None


def test_without_speakers_utterances_are_drawn_and_it_says_so(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run", systems=("baseline", "focal"), speakers=("",))
    bootstrap = summarize(Results.read(run))["bootstrap"]
    assert (bootstrap["unit"], bootstrap["clusters"]) == ("utterances, since no speaker is known", 96)


def test_without_features_there_is_no_geometry(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run")
    for path in run.glob("*/*/*/embeddings.npy"):
        path.unlink()
    summary = summarize(Results.read(run))
    assert summary["systems"]["focal"]["geometry"] is None
    assert summary["systems"]["focal"]["comparison"]["fisher_ratio"] is None
    assert set(summary["association"].values()) == {None}


def test_features_that_are_points_have_no_finite_ratio(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run", systems=("baseline", "focal"))
    for folder in run.glob("focal/*/*"):
        labels = pd.read_csv(folder / "predictions.csv")["label"]
        np.save(folder / "embeddings.npy", pd.get_dummies(labels).to_numpy(np.float32))
        result = json.loads((folder / "result.json").read_text())
        result["sha256"]["embeddings.npy"] = file_sha256(folder / "embeddings.npy")
        (folder / "result.json").write_text(json.dumps(result))
    figures = summarize(Results.read(run))["systems"]["focal"]
    assert figures["geometry"]["silhouette"]["mean"] > 0.95  # 0 for the only utterance of a class
    assert figures["geometry"]["fisher_ratio"] is None


def test_another_baseline(results: Results, summary: dict[str, Any]) -> None:
    turned = summarize(results, baseline="focal")
    there = turned["systems"]["baseline"]["comparison"]["ua"]
    back = summary["systems"]["focal"]["comparison"]["ua"]
    assert there["difference"] == -back["difference"]
    assert there["permutation_p"] == back["permutation_p"]
    assert turned["systems"]["focal"]["comparison"] is None
    with pytest.raises(ConfigError, match="baseline: got 'nobody', expected a system with a finished job: baseline"):
        summarize(results, baseline="nobody")
