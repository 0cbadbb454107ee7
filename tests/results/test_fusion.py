"""Late fusion: the mean of posteriors, by hand; refusals; and a run that is read and reported as before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics

from affekt.errors import ConfigError
from affekt.report import write_report
from affekt.results import JobKey, Results, fuse, summarize, write_geometry
from affekt.results.fusion import _voted

CLASSES = ["angry", "happy", "neutral", "sad"]
MakeRun = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path, make_run: MakeRun) -> Path:
    return make_run(tmp_path / "run", systems=("a", "b", "c"), left_out=("b/fold-2/seed-1",))


def posteriors(table: pd.DataFrame) -> np.ndarray:
    return table[[name for name in table if str(name).startswith("prob.")]].to_numpy()


def test_the_fused_posterior_is_the_mean_of_its_members(run: Path) -> None:
    fused = fuse(run, ["a", "b"], "ab").of("ab", 1, 0)
    members = [pd.read_csv(run / f"{name}/fold-1/seed-0/predictions.csv") for name in ("a", "b")]
    assert fused["id"].tolist() == members[0]["id"].tolist()
    expected = (posteriors(members[0]) + posteriors(members[1])) / 2
    np.testing.assert_allclose(posteriors(fused), expected, atol=1e-6)
    names = [str(name)[5:] for name in fused if str(name).startswith("prob.")]
    assert fused["predicted"].tolist() == [names[best] for best in expected.argmax(1)]
    assert fused["label"].tolist() == members[0]["label"].tolist()


def test_rows_are_paired_by_utterance_and_not_by_place(run: Path) -> None:
    straight = fuse(run, ["a", "b"], "ab").of("ab", 0, 0)
    turned = Results.read(run)
    rows = (turned.predictions["system"] == "b") & (turned.predictions["fold"] == 0)
    turned.predictions.loc[rows] = turned.predictions.loc[rows][::-1].to_numpy()
    voted = _voted(turned, [JobKey("a", 0, 0), JobKey("b", 0, 0)])
    np.testing.assert_allclose(posteriors(voted).astype(float), posteriors(straight), atol=1e-6)


def test_a_fused_job_counts_like_any_other(run: Path) -> None:
    results = fuse(run, ["a", "b"], "ab")
    assert results.fusions == {"ab": ("a", "b")}
    assert len(results.finished("ab")) == 5  # b has not finished one of the six
    result = json.loads((run / "ab/fold-0/seed-0/result.json").read_text())
    table = results.of("ab", 0, 0)
    labels, predicted = (table[name].astype(str) for name in ("label", "predicted"))
    assert result["wa"] == pytest.approx(sklearn.metrics.accuracy_score(labels, predicted))
    assert result["ua"] == pytest.approx(
        sklearn.metrics.recall_score(labels, predicted, labels=sorted(set(labels)), average="macro", zero_division=0)
    )
    assert (result["parameters"], result["members"], result["epochs"]) == (2 * 380_292, ["a", "b"], 0)
    summary = summarize(results)
    assert summary["systems"]["ab"]["jobs"] == 5
    assert summary["systems"]["ab"]["geometry"] is None
    assert write_report(results, run, ("markdown",), summary=summary)


def test_doing_it_again_changes_nothing_and_adds_what_has_become_possible(run: Path, make_run: MakeRun) -> None:
    fuse(run, ["a", "b"], "ab")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    whole = make_run(run.parent / "whole", systems=("a", "b", "c"))
    assert len(fuse(run, ["a", "b"], "ab").finished("ab")) == 5
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    shutil.copytree(whole / "b/fold-2/seed-1", run / "b/fold-2/seed-1")
    assert len(fuse(run, ["a", "b"], "ab").finished("ab")) == 6


def test_all_that_is_wrong_is_said_at_once(run: Path) -> None:
    fuse(run, ["a", "b"], "ab")
    with pytest.raises(ConfigError) as caught:
        fuse(run, ["ab", "x", "x"], "a/b")
    assert [fault.what for fault in caught.value.faults] == ["member ab", "member x", "member x", "name"]
    for members, name, word in ((["a"], "one", "members"), (["a", "b"], "c", "trained"), (["a", "c"], "ab", "another")):
        with pytest.raises(ConfigError, match=word):
            fuse(run, members, name)


def test_members_without_a_job_in_common_are_refused(tmp_path: Path, make_run: MakeRun) -> None:
    left_out = [f"{system}/fold-{fold}/seed-0" for system, folds in (("a", (0, 1)), ("b", (2,))) for fold in folds]
    run = make_run(tmp_path / "run", systems=("a", "b"), seeds=1, left_out=left_out)
    with pytest.raises(ConfigError, match="no fold and seed that all members have finished"):
        fuse(run, ["a", "b"])


def test_a_published_copy_can_be_fused_too(run: Path) -> None:
    """It has a table of geometry in place of the deep features, which fused systems have not."""
    fuse(run, ["a", "b"], "ab")
    results = Results.read(run)
    write_geometry(results, run / "geometry.csv")
    assert set(pd.read_csv(run / "geometry.csv")["system"]) == {"a", "b", "c"}
    for path in run.rglob("embeddings.npy"):
        path.unlink()
    assert summarize(Results.read(run)) == summarize(results)
    assert len(fuse(run, ["a", "c"], "ac").finished("ac")) == 6
