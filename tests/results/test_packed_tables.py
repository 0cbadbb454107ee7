"""Packed tables of a published run: every CSV file comes back byte for byte, and damage is found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from affekt.errors import CheckpointError
from affekt.results import JobDirectory, Results, RunDirectory, fuse, summarize
from affekt.results.packed_tables import pack, packed_jobs, packed_path, unpack
from affekt.results.published_copy import copy_published


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., Path]) -> Path:
    path = make_run(tmp_path_factory.mktemp("packed") / "run", systems=("baseline", "focal"))
    fuse(path, ["baseline", "focal"])
    return path


@pytest.fixture
def published(run: Path, tmp_path: Path) -> Path:
    copy_published(run, tmp_path / "published")
    return tmp_path / "published"


def test_a_published_run_is_the_same_with_fewer_files(run: Path, published: Path) -> None:
    ours, theirs = Results.read(published), Results.read(run)
    pd.testing.assert_frame_equal(ours.predictions, theirs.predictions)
    pd.testing.assert_frame_equal(ours.jobs, theirs.jobs)
    pd.testing.assert_frame_equal(ours.history("focal", 1, 0), theirs.history("focal", 1, 0))
    measures = summarize(ours)["systems"]["focal"]
    assert measures["pooled"] == summarize(theirs)["systems"]["focal"]["pooled"]
    assert list(published.glob("*/*/*/predictions.csv")) == []
    assert list(published.glob("*/*/*/result.json")) == []
    assert {path.parts[-4] for path in published.glob("*/*/*/history.csv")} == {"fused"}  # no rows, nothing to pack


def test_every_file_is_restored_byte_for_byte_and_checked(run: Path, published: Path) -> None:
    jobs = [job for system in ("baseline", "focal", "fused") for job in Results.read(run).finished(system)]
    for job in jobs:
        directory = RunDirectory(published).job(job)
        assert directory.finished
        for name in ("predictions.csv", "history.csv"):
            assert directory.read(name) == (run / str(job) / name).read_bytes()


def test_a_changed_number_and_a_damaged_file_are_found(published: Path) -> None:
    path = packed_path(published, "predictions.csv")
    table = pd.read_parquet(path)
    own = (table["system"] == "focal") & (table["fold"] == 1) & (table["seed"] == 0)
    table.loc[own.idxmax(), "prob.angry"] += 1e-6
    table.to_parquet(path, index=False)
    damaged = JobDirectory(published / "focal/fold-1/seed-0").damage()
    assert [Path(fault.what).name for fault in damaged] == ["predictions.csv"]
    assert JobDirectory(published / "focal/fold-0/seed-0").finished
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match=r"predictions\.parquet: got .* collect the run"):
        Results.read(published)


def test_a_job_that_runs_again_writes_its_own_files(run: Path, published: Path) -> None:
    job = published / "baseline/fold-0/seed-1"
    job.mkdir(parents=True)
    (job / "predictions.csv").write_text("changed")
    assert [Path(fault.what).name for fault in JobDirectory(job).damage()] == ["predictions.csv"]


def test_a_resumed_copy_is_published_again_with_all_jobs(run: Path, tmp_path: Path) -> None:
    """Jobs that were run after the copy was made are packed with those that it had."""
    begun = Path(shutil.copytree(run, tmp_path / "begun"))
    shutil.rmtree(begun / "focal" / "fold-1")
    copy_published(begun, tmp_path / "copy")
    assert len(Results.read(tmp_path / "copy").missing) == 2
    shutil.copytree(run / "focal" / "fold-1", tmp_path / "copy" / "focal" / "fold-1")  # resumed
    for path in (tmp_path / "copy").rglob("*.npy"):
        path.unlink()
    copy_published(tmp_path / "copy", tmp_path / "again")
    assert not list((tmp_path / "again").rglob("result.json"))
    assert not (tmp_path / "again" / "focal").exists()
    ours, theirs = Results.read(tmp_path / "again"), Results.read(run)
    pd.testing.assert_frame_equal(ours.predictions, theirs.predictions)
    for job in theirs.finished("focal"):
        assert (
            RunDirectory(tmp_path / "again").job(job).read("result.json")
            == (run / str(job) / "result.json").read_bytes()
        )


def test_a_changed_result_is_found(published: Path) -> None:
    path = packed_path(published, "result.json")
    table = pd.read_parquet(path)
    table["text"] = table["text"].str.replace('"fold": 1', '"fold": 2')
    table.to_parquet(path, index=False)
    damaged = JobDirectory(published / "fused/fold-1/seed-0").damage()
    assert [Path(fault.what).name for fault in damaged] == ["result.json"]
    assert JobDirectory(published / "fused/fold-0/seed-0").finished


def test_the_largest_probability_is_left_out_and_comes_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 6, size=(500, 4)).astype(np.float32)
    values = np.exp(scores - scores.max(1, keepdims=True)).astype(np.float32)
    values /= values.sum(1, keepdims=True)
    values[0] = [1, 0, 0, 0]
    values[1] = [0.25, 0.25, 0.25, 0.25]
    rows = [f"u{row},{','.join(str(value) for value in own)}" for row, own in enumerate(values)]
    contents = {("s", 0, 0): "\n".join(["id,prob.a,prob.b,prob.c,prob.d", *rows, ""]).encode()}
    assert pack(tmp_path, "x.csv", contents) == list(contents)
    assert "largest" in pd.read_parquet(tmp_path / "x.parquet")
    assert unpack(tmp_path, "x.csv", ("s", 0, 0)) == contents["s", 0, 0]


@pytest.mark.parametrize("row", ["0.5,0.2", "0.7,0.7", "1,0", "0.123456789,0.876543211"])
def test_columns_that_are_no_probabilities_are_packed_as_they_are(tmp_path: Path, row: str) -> None:
    contents = {("s", 0, 0): f"id,prob.a,prob.b\na,{row}\n".encode()}
    assert pack(tmp_path, "x.csv", contents) == list(contents)
    assert "largest" not in pd.read_parquet(tmp_path / "x.parquet")
    assert unpack(tmp_path, "x.csv", ("s", 0, 0)) == contents["s", 0, 0]


def test_a_text_with_a_line_break_is_restored(tmp_path: Path) -> None:
    contents = {("s", 0, seed): f'id,x\n"a\nb",{seed}\nc,0\n'.encode() for seed in range(3)}
    assert pack(tmp_path, "x.csv", contents) == list(contents)
    assert {job: unpack(tmp_path, "x.csv", job) for job in contents} == contents


@pytest.mark.parametrize(
    "text",
    [
        "id,x\na,0.1\nb,007\n",
        "id,x\na,0.1234567890123456\nb,1e-05\n",
        "id,x\nNA,\n,3\n",
        'id,x\n"a,b",1.5\nc,0.30000001192092896\n',
    ],
    ids=["leading zeros", "float64", "empty texts", "quotes"],
)
def test_unusual_tables_are_restored(tmp_path: Path, text: str) -> None:
    assert pack(tmp_path, "x.csv", {("s", 0, 1): text.encode()}) == [("s", 0, 1)]
    assert unpack(tmp_path, "x.csv", ("s", 0, 1)) == text.encode()
    assert unpack(tmp_path, "x.csv", ("s", 0, 2)) is None
    assert packed_jobs(tmp_path, "x.csv") == [("s", 0, 1)]


@pytest.mark.parametrize("text", ["id,x\n", "id,x\r\na,1\r\n", "system,x\na,1\n", 'id,x\na,"1\n'])
def test_what_cannot_be_restored_is_not_packed(tmp_path: Path, text: str) -> None:
    assert pack(tmp_path, "x.csv", {("s", 0, 1): text.encode()}) == []
