"""A published run keeps no features; its table says what they were like, and cannot be another run's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from affekt.errors import CheckpointError
from affekt.results import Results, measure_jobs, summarize, write_geometry


@pytest.fixture
def published(tmp_path: Path, make_run: Callable[..., Path]) -> tuple[Path, Path]:
    """A run, and its copy with the table and without features."""
    run = make_run(tmp_path / "run", systems=("baseline", "focal"), folds=2, utterances=32)
    copy = Path(shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("*.npy", "*.safetensors")))
    write_geometry(Results.read(run), copy / "geometry.csv")
    return run, copy


def test_the_copy_says_what_the_run_says(published: tuple[Path, Path]) -> None:
    run, copy = map(Results.read, published)
    pd.testing.assert_frame_equal(measure_jobs(copy), measure_jobs(run), check_exact=True)
    assert summarize(copy) == summarize(run)


def test_the_copy_of_a_copy_keeps_the_table(published: tuple[Path, Path], tmp_path: Path) -> None:
    _, copy = published
    write_geometry(Results.read(copy), tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (copy / "geometry.csv").read_bytes()


def test_without_the_table_nothing_is_known(published: tuple[Path, Path]) -> None:
    _, copy = published
    (copy / "geometry.csv").unlink()
    assert measure_jobs(Results.read(copy))["fisher_ratio"].isna().all()


def test_a_job_that_the_table_lacks_is_not_known(published: tuple[Path, Path]) -> None:
    _, copy = published
    table = pd.read_csv(copy / "geometry.csv")
    table[table["system"] == "focal"].to_csv(copy / "geometry.csv", index=False)
    known = measure_jobs(Results.read(copy)).groupby("system")["silhouette"].count()
    assert known.to_dict() == {"baseline": 0, "focal": 4}


def test_a_table_of_other_features_is_refused(published: tuple[Path, Path]) -> None:
    _, copy = published
    text = (copy / "geometry.csv").read_text()
    digest = pd.read_csv(copy / "geometry.csv")["features_sha256"][0]
    (copy / "geometry.csv").write_text(text.replace(digest, "0" * 64))
    with pytest.raises(CheckpointError, match=r"geometry\.csv: baseline/fold-0/seed-0: got other features.*again"):
        measure_jobs(Results.read(copy))
    (copy / "geometry.csv").write_text("system,fold\nbaseline,0\n")
    with pytest.raises(CheckpointError, match="columns system, fold"):
        measure_jobs(Results.read(copy))
