"""The steps of scripts/bundled_model.py, on numbers small enough to check."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import int8_agreement
from bundled import heads, measures, recordings, sounds, variations

from affekt.recognition.recognizer import Recognizer


def corpus(name: str, speakers: int = 4, each: int = 6, seed: int = 0) -> heads.Part:
    """A corpus of vectors in which class k is large in dimension k, and every speaker has an offset."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.tile(np.arange(5), each), speakers)
    names = np.array([f"{name}:{s}" for s in range(speakers)] * (5 * each))
    x = rng.normal(0, 0.3, (len(labels), 6)) + 2 * np.eye(6)[labels]
    ids = [f"{row}" for row in range(len(labels))]
    whole = recordings.Corpus(name, ids, [np.zeros(1, np.float32)] * len(ids), labels, names, ids)
    return heads.Part(whole, x, x + rng.normal(0, 0.1, x.shape))


PARTS = [corpus(name, seed=number) for number, name in enumerate(("a", "b", "c"))]


def test_what_is_learned_holds_on_the_corpus_left_out() -> None:
    left_out = heads.leave_one_out(PARTS)
    assert left_out.mean > 0.95
    assert set(left_out.accuracies) == {"a", "b", "c"}


def test_the_solution_is_a_minimum() -> None:
    """Oracle: the objective, written out, is larger everywhere around."""
    rng = np.random.default_rng(0)
    z, labels, weight = rng.normal(size=(40, 3)), rng.integers(0, 4, 40), rng.uniform(0.5, 1.5, 40)
    root = rng.normal(size=(3, 3))
    penalties = root @ root.T + np.eye(3)
    matrix, bias = heads._solve(z, labels, weight, 4, penalties)

    def objective(w: np.ndarray, b: np.ndarray) -> float:
        losses = -np.log(heads.softmax(z @ w.T + b)[np.arange(40), labels])
        return float(np.average(losses, weights=weight) + sum(row @ penalties @ row for row in w))

    least = objective(matrix, bias)
    for _ in range(20):
        assert objective(matrix + 0.01 * rng.normal(size=matrix.shape), bias) > least


def test_what_sets_corpora_apart_is_penalized() -> None:
    """The corpora's mean scores come closer together."""
    rng = np.random.default_rng(0)
    apart = [
        heads.Part(part.corpus, part.recorded + offset, part.varied + offset)
        for part, offset in zip(PARTS, rng.normal(0, 0.5, (3, 6)), strict=True)
    ]
    free, blind = (heads.fit_emotions(apart, corpus_penalty=value) for value in (0.0, 10.0))
    spread = [np.var([model.logits(part.recorded).mean(0) for part in apart], 0).sum() for model in (free, blind)]
    assert spread[1] < 0.5 * spread[0]


def test_the_outlier_score_is_about_one_on_its_own_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "COMPONENTS", 2)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 6)) * [3, 2, 1, 1, 1, 1]
    outlier = heads.Outlier.fit([x[:250], x[250:]])
    assert outlier.score(x).mean() == pytest.approx(1.0, abs=0.02)
    assert outlier.score(10 * x).mean() > 50


def test_enough_answers_stay_sure() -> None:
    """The threshold is the highest that leaves 52 % of the answers on corpora left out."""
    left_out = heads.leave_one_out(PARTS)
    threshold, curve = heads.unsure_below(left_out, 1.0)
    coverage = {row["threshold"]: row["coverage"] for row in curve}
    assert coverage[threshold] >= heads.COVERAGE
    assert all(value < heads.COVERAGE for key, value in coverage.items() if key > threshold)


@pytest.mark.parametrize("kind", sounds.KINDS)
def test_sounds_are_finite_and_the_same_in_every_run(kind: str) -> None:
    one, again, other = sounds.sound(kind, 0), sounds.sound(kind, 0), sounds.sound(kind, 0, "measure")
    assert np.isfinite(one).all()
    assert 1.2 * recordings.RATE_HZ <= len(one) <= 5 * recordings.RATE_HZ
    assert 0.5 < np.abs(one).max() <= 0.91
    assert np.array_equal(one, again)
    assert not np.array_equal(one[: len(other)], other[: len(one)])


def test_every_condition_leaves_a_recording() -> None:
    rng = np.random.default_rng(0)
    speech = (0.3 * rng.normal(size=24_000)).astype(np.float32)
    for name, change in measures.conditions().items():
        changed = change(speech, variations.generator(name), [speech])
        assert np.isfinite(changed).all(), name
        assert len(changed) >= 12_000, name
        assert np.abs(changed).max() > 0, name


def test_varied_copies_repeat() -> None:
    speech = (0.3 * np.random.default_rng(0).normal(size=24_000)).astype(np.float32)
    for number in range(12):
        one, again = (variations.varied(speech, variations.generator(number), [speech]) for _ in range(2))
        assert np.array_equal(one, again)
        assert len(one) >= 0.75 * recordings.RATE_HZ


def test_noise_has_the_level_asked_for() -> None:
    """10 dB: a tenth of the power."""
    rng = np.random.default_rng(0)
    speech, noise = (rng.normal(size=20_000).astype(np.float32) for _ in range(2))
    added = variations.with_noise(speech, 7 * noise, 10.0) - speech
    assert np.mean(added**2) / np.mean(speech**2) == pytest.approx(0.1, rel=1e-3)


class Float32:
    """The bundled model's own embeddings, not yet standardized, in place of those of float32 arithmetic."""

    def __init__(self, recognizer: Recognizer, shift: float = 0.0) -> None:
        self.recognizer, self.shift = recognizer, shift

    def embed(self, waveforms: list[np.ndarray]) -> np.ndarray:
        mean, factor = int8_agreement.standardization(self.recognizer.content)
        embeddings = measures.run(self.recognizer, waveforms).embeddings
        return (embeddings + self.shift * self.recognizer.output_layer.weight[0]) / factor + mean


def test_decisions_are_compared_under_the_file_s_own_output_layer() -> None:
    """A reference with the file's own embeddings decides alike; one that is pushed to the first class does not."""
    rng, recognizer = np.random.default_rng(0), Recognizer.load()
    waveforms = [rng.normal(0, 0.1, 8_000 + 1_000 * n).astype(np.float32) for n in range(4)]
    one = recordings.Corpus("a", list("abcd"), waveforms, np.zeros(4, np.int64), np.array(list("abcd")), list("abcd"))
    same = int8_agreement.agreement(recognizer, Float32(recognizer), one)  # type: ignore[arg-type]
    assert same["recordings"] == 4
    assert same["equal"] == 1.0
    assert same["largest_difference"] <= 1e-4
    pushed = int8_agreement.agreement(recognizer, Float32(recognizer, shift=1e4), one)  # type: ignore[arg-type]
    assert pushed["equal"] < 1.0
