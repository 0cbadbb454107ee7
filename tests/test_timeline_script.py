"""scripts/timelines.py: sentences are joined as it says, and a model that hears loudness gets them right."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affekt.recognition.recognizer import Recognizer
from scripts import timelines

RATE = 16_000


def test_neighbors_differ_and_all_are_drawn_once() -> None:
    pools = {label: [Path(f"{label}{index}") for index in range(4)] for label in "ab"}
    chosen = timelines._drawn(pools, 8, np.random.default_rng(0))
    labels = [label for _, label in chosen]
    assert all(one != other for one, other in pairwise(labels))
    assert len({path for path, _ in chosen}) == len(chosen) == 8
    assert timelines._drawn({"a": [Path("1"), Path("2")]}, 2, np.random.default_rng(0)) == [(Path("2"), "a")]


def test_sentences_with_pauses(small_model: Path, babble: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sentence's label is the model's own answer, so alone all is right, and joined most of it."""
    recognizer = Recognizer.load(small_model, threads=1)
    monkeypatch.setattr(timelines, "PAUSES_SECONDS", (0.4,))
    waveforms = [babble(2.0, seed) for seed in range(6)]
    own = [(waveform, recognizer.predict(waveform, RATE).label) for waveform in waveforms]
    result = timelines.measure(recognizer, [own])
    assert result["alone"] == 100.0
    assert result["0.4 s"]["accuracy"] > 80
    assert result["0.4 s"]["EDER"] < 30
    wrong = [(waveform, "none") for waveform, _ in own]
    assert timelines.measure(recognizer, [wrong])["0.4 s"]["accuracy"] == 0
