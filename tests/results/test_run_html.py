"""A run in a notebook: one row per system, at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from affekt.results import Results


def test_a_row_per_system_with_its_jobs(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run", systems=("baseline", "focal"), left_out=("focal/fold-2/seed-1",))
    results = Results.read(run)
    text = results._repr_html_()
    ua = 100 * results.jobs.loc[results.jobs["system"] == "focal", "ua"].to_numpy()
    assert re.search(rf">focal</th><td[^>]*>{ua.mean():.1f} ± {np.std(ua, ddof=1):.1f}</td>", text)
    assert "6 of 6" in text
    assert "5 of 6" in text
    assert results.protocol_line.replace("|", "|") in text
    assert "SYNTHETIC" not in text


def test_synthetic_audio_is_called_so_and_names_are_text(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    results = Results.read(make_run(tmp_path / "run", systems=("baseline",), corpus="synthetic", seeds=1))
    assert "SYNTHETIC AUDIO" in results._repr_html_()


def test_the_repr_fits_a_line(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    results = Results.read(make_run(tmp_path / "run", systems=("baseline",), folds=2, seeds=1))
    assert repr(results) == f"<Results '{tmp_path / 'run'}': 2 of 2 jobs, {results.protocol_line}>"
