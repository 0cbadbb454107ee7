"""Measures of a model against scikit-learn and against sums by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from affekt.measures import metrics
from affekt.measures.statistics import Clusters
from affekt.recognition.evaluation import Evaluation, as_text


@pytest.fixture
def evaluation() -> Evaluation:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    probabilities = rng.dirichlet(np.ones(3), 300) + np.eye(3)[labels] * rng.random((300, 1))
    probabilities /= probabilities.sum(1, keepdims=True)
    clusters = Clusters.of([f"s{index % 7}" for index in range(300)], list(map(str, range(300))))
    return Evaluation("made", ("a", "b", "c"), labels, probabilities, clusters, 0.6, (), 0)


def test_values_against_scikit_learn(evaluation: Evaluation) -> None:
    measures = {name: value for name, (value, _, _) in evaluation.measures().items()}
    predicted, labels = evaluation.probabilities.argmax(1), evaluation.labels
    assert measures["wa"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
    assert measures["ua"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(labels, predicted))
    assert measures["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(labels, predicted, average="macro"))
    recalls = sklearn_metrics.recall_score(labels, predicted, average=None)
    assert [measures[f"recall.{name}"] for name in "abc"] == pytest.approx(recalls.tolist())
    sure = evaluation.probabilities.max(1) >= 0.6
    assert measures["sure"] == pytest.approx(sure.mean())
    assert measures["accuracy of sure"] == pytest.approx((predicted == labels)[sure].mean())


def test_calibration_error_is_the_library_s(evaluation: Evaluation) -> None:
    """The bootstrap's form of the ECE, sums over bins, equals the definition."""
    value = evaluation.measures()["ece"][0]
    assert value == pytest.approx(metrics.expected_calibration_error(evaluation.probabilities, evaluation.labels, 15))


def test_intervals_hold_their_values_and_are_seeded(evaluation: Evaluation) -> None:
    first, second = evaluation.measures(seed=1), evaluation.measures(seed=1)
    assert first == second
    assert first != evaluation.measures(seed=2)
    for name, (value, low, high) in first.items():
        assert low <= high
        if name != "ece":  # a biased estimate: resampling makes it larger
            assert low <= value <= high, name


def test_perfect_and_silent_extremes(evaluation: Evaluation) -> None:
    """All right and all sure; and nothing sure at all."""
    right = np.eye(3)[evaluation.labels]
    perfect = Evaluation("made", ("a", "b", "c"), evaluation.labels, right, evaluation.clusters, 0.6, (), 0)
    values = {name: value for name, (value, _, _) in perfect.measures().items()}
    assert (values["wa"], values["ece"], values["accuracy of sure"]) == (1, 0, 1)
    unsure = Evaluation("made", ("a", "b", "c"), evaluation.labels, right, evaluation.clusters, 1.1, (), 0)
    assert unsure.measures()["sure"] == (0, 0, 0)


def test_text_shows_counts_and_bars(evaluation: Evaluation) -> None:
    text = as_text(evaluation)
    rows = [line.split()[1:] for line in text.splitlines() if line.split()[:1] in (["a"], ["b"], ["c"])]
    assert np.array(rows[-3:], int).tolist() == evaluation.confusion.tolist()
    bars = [line for line in text.splitlines() if line.lstrip().startswith("says")]
    assert len(bars) == int((evaluation.reliability.count > 0).sum())


def test_every_prediction_belongs_to_its_row(make_evaluated: Callable[..., Any]) -> None:
    """Rows with and without times, broken ones among them, keep their labels."""
    evaluation, singles = make_evaluated()
    np.testing.assert_allclose(evaluation.probabilities, singles, atol=1e-5)


@pytest.fixture
def make_evaluated(tmp_path: Any, small_model: Any, babble: Callable[..., Any]) -> Callable[..., Any]:
    import soundfile

    from affekt.data.manifest import Manifest
    from affekt.recognition.evaluation import evaluate
    from affekt.recognition.recognizer import Recognizer

    def make() -> Any:
        recognizer = Recognizer.load(small_model, threads=2)
        rows: list[dict[str, Any]] = []
        singles = []
        for index in range(40):
            samples = babble(0.4 + 0.05 * (index * 7 % 40), index)
            soundfile.write(tmp_path / f"{index}.wav", samples, 16_000, subtype="FLOAT")
            row: dict[str, Any] = {"id": f"u{index}", "path": f"{index}.wav", "label": "sad"}
            if index % 3 == 0:
                row |= {"start": 0.1, "end": 0.3}
                samples = samples[1_600:4_800]
            if index % 10 == 9:
                row |= {"start": 90.0, "end": 91.0}
            else:
                singles.append(list(recognizer.predict(samples, 16_000).probabilities.values()))
            rows.append(row)
        evaluation = evaluate(recognizer, Manifest.from_rows(rows, tmp_path))
        assert len(evaluation.failures) == 4
        return evaluation, singles

    return make
