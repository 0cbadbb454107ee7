"""Measures of a model against scikit-learn and against sums by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn import metrics as sklearn_metrics

from affekt.cli import main
from affekt.data.manifest import Manifest
from affekt.data.training_audio import KEY, describe
from affekt.data.waveform_store import WaveformStore
from affekt.measures import metrics
from affekt.measures.statistics import Clusters
from affekt.recognition.evaluation import Evaluation, _macro_f1_of_classes, as_text, evaluate
from affekt.recognition.recognizer import Recognizer

CLASSES = ("angry", "happy", "neutral", "sad")


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
    bars = [line for line in text.splitlines() if line.lstrip().startswith("confidence ")]
    assert len(bars) == int((evaluation.reliability.count > 0).sum())


def test_every_prediction_belongs_to_its_row(make_evaluated: Callable[..., Any]) -> None:
    """Rows with and without times, broken ones among them, keep their labels."""
    evaluation, singles = make_evaluated()
    np.testing.assert_allclose(evaluation.probabilities, singles, atol=1e-5)


@pytest.fixture
def make_evaluated(tmp_path: Any, small_model: Any, babble: Callable[..., Any]) -> Callable[..., Any]:
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


class TestAbsentClassesAndNoSpeech:
    """Three classes; utterances of two of them; one of six without speech."""

    @pytest.fixture
    def small(self) -> Evaluation:
        labels = np.array([0, 0, 0, 1, 1, 1])
        predicted = np.array([0, 0, 1, 1, 1, 0])
        probabilities = np.full((6, 3), 0.1)
        probabilities[np.arange(6), predicted] = 0.8
        probabilities[5] = 0.0  # no speech
        clusters = Clusters.of([""] * 6, list("123456"))
        unsure = np.array([False, False, False, True, False, True])
        return Evaluation("made", ("a", "b", "c"), labels, probabilities, clusters, 0.5, (), 0, unsure=unsure)

    def test_no_speech_is_an_error_of_its_class(self, small: Evaluation) -> None:
        values = {name: value for name, (value, _, _) in small.measures().items()}
        assert values["wa"] == pytest.approx(4 / 6)
        assert values["recall.a"] == pytest.approx(2 / 3)
        assert values["recall.b"] == pytest.approx(2 / 3)
        assert values["ua"] == pytest.approx(2 / 3)
        assert values["macro_f1"] == pytest.approx(np.mean([4 / (2 * 2 + 0 + 1), 4 / (2 * 2 + 1 + 1)]))
        assert values["sure"] == pytest.approx(4 / 6)
        assert values["accuracy of sure"] == pytest.approx(3 / 4)
        assert values["ece"] == pytest.approx(abs(4 / 5 - 0.8)), "of the five that were answered"
        assert small.confusion.tolist() == [[2, 1, 0], [0, 2, 0], [0, 0, 0]]
        assert small.no_speech.tolist() == [0, 1, 0]

    def test_macro_f1_equals_the_library_s_where_all_is_answered(self, evaluation: Evaluation) -> None:
        confusion = evaluation.confusion.astype(float)
        padded = np.pad(confusion, (0, 1))[None]
        assert _macro_f1_of_classes(padded)[0] == pytest.approx(float(metrics.macro_f1(confusion)))

    def test_a_class_without_utterances_shows_a_dash(self, small: Evaluation) -> None:
        text = as_text(small)
        assert re.search(r"^  recall\.c +-$", text, re.MULTILINE)
        assert "UA is over 2 of 3 classes; no utterance is c" in text
        assert "no speech heard in 1 utterance, counted as errors" in text
        assert "no speech" in text.split("confusion")[1].splitlines()[1]
        told = json.loads(json.dumps(small.to_dict(), allow_nan=False))
        assert told["measures"]["recall.c"] == {"value": None, "low": None, "high": None}
        assert told["classes_with_utterances"] == ["a", "b"]
        assert told["no_speech"] == 1


class TestOfAManifest:
    """A small model on recordings, through the command."""

    @pytest.fixture
    def write(self, tmp_path: Path, babble: Callable[..., Any]) -> Callable[..., Path]:
        def make(*labels: str, corpus: str = "mine", name: str = "m.csv") -> Path:
            rows = []
            for index, label in enumerate(labels):
                soundfile.write(tmp_path / f"{index}.wav", babble(0.5, index), 16_000, subtype="FLOAT")
                rows.append({"id": f"u{index}", "path": f"{index}.wav", "label": label, "corpus": corpus})
            Manifest.from_rows(rows, tmp_path).write(tmp_path / name)
            return tmp_path / name

        return make

    @pytest.fixture
    def trained(self, tmp_path: Path, make_pipeline: Callable[..., Any]) -> Callable[..., Path]:
        """`trained(provenance)`: a model with this in its card."""
        from affekt.export.onnx_file import Description, export

        def make(**provenance: Any) -> Path:
            export(make_pipeline(), Description(CLASSES, license="CC0-1.0", provenance=provenance), tmp_path / "t.onnx")
            return tmp_path / "t.onnx"

        return make

    def test_labels_are_matched_by_the_vocabulary(
        self, write: Callable[..., Path], small_model: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        manifest = write("anger", "Angry", "JOY", "sadness", "neutral", "fear", "fear", "bored")
        assert main(["evaluate", str(small_model), str(manifest)]) == 0
        out, error = capsys.readouterr()
        assert "mine: 5 utterances" in out
        assert "3 utterances have labels that are no classes of the model (fear 2, bored 1)" in error
        evaluation = evaluate(Recognizer.load(small_model), Manifest.read(manifest))
        assert [CLASSES[number] for number in evaluation.labels] == ["angry", "angry", "happy", "sad", "neutral"]

    def test_columns_of_numbers_are_refused_with_the_reason(
        self, write: Callable[..., Path], small_model: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["evaluate", str(small_model), str(write("0.31", "0.72", "0.55"))]) == 2
        assert "got numbers (0.31, 0.72, 0.55), expected classes" in capsys.readouterr().err

    def test_every_utterance_has_a_row(
        self, write: Callable[..., Path], small_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        manifest = write(*["sad"] * 6)
        for gone in (1, 2, 3, 4):
            (tmp_path / f"{gone}.wav").unlink()
        for output in ("x.csv", "x.json"):
            assert main(["evaluate", str(small_model), str(manifest), "-o", str(tmp_path / output)]) == 1
            failed = [line for line in capsys.readouterr().err.splitlines() if "failed" in line]
            assert len(failed) == 1, "four recordings with one fault are one line"
            assert "failed: No such file: " in failed[0]
        table = pd.read_csv(tmp_path / "x.csv")
        assert table["id"].tolist() == [f"u{n}" for n in range(6)]
        assert table["error"].notna().tolist() == [False, True, True, True, True, False]
        told = json.loads((tmp_path / "x.json").read_text())
        assert [row["id"] for row in told["answers"]] == table["id"].tolist()
        single = Recognizer.load(small_model).predict(tmp_path / "5.wav")
        assert table["predicted"][5] == single.label
        assert table["confidence"][5] == pytest.approx(single.confidence, abs=1e-5)
        assert bool(table["correct"][5]) == (single.label == "sad")
        columns = [f"prob.{name}" for name in CLASSES]
        np.testing.assert_allclose(table[columns].iloc[5], list(single.probabilities.values()), atol=1e-5)

    @pytest.mark.parametrize("name", ["m.csv", "x.txt", "0.wav"])
    def test_outputs_that_are_inputs_or_no_tables_are_refused(
        self, write: Callable[..., Path], small_model: Path, tmp_path: Path, name: str
    ) -> None:
        manifest = write("sad", "angry")
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert main(["evaluate", str(small_model), str(manifest), "-o", str(tmp_path / name)]) == 2
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_a_model_trained_on_the_corpus_is_called_so_by_name(
        self, write: Callable[..., Path], trained: Callable[..., Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        model = trained(corpora="emodb+nemo")
        assert main(["evaluate", str(model), str(write("sad", "angry", corpus="emodb"))]) == 0
        out, error = capsys.readouterr()
        assert out.startswith("WARNING: the model was trained on emodb, by the name in its card.")
        assert "warning: the model was trained on emodb" in error
        assert main(["evaluate", str(model), str(write("sad", "angry", corpus="other"))]) == 0
        out, error = capsys.readouterr()
        assert "trained on" not in out + error

    def test_recordings_are_known_by_content_whatever_they_are_called(
        self, write: Callable[..., Path], trained: Callable[..., Path], tmp_path: Path
    ) -> None:
        """Three of five recordings, under another name, another corpus and another container."""
        manifest = Manifest.read(write(*["sad"] * 5))
        hashes = list(WaveformStore.open(manifest, tmp_path / "cache").hashes)
        model = trained(**{KEY: describe(["secret"] * 3, [hashes[row] for row in (0, 2, 3)])})
        samples, rate = soundfile.read(tmp_path / "2.wav", dtype="float32")
        soundfile.write(tmp_path / "2.aiff", samples, rate, subtype="FLOAT")
        table = manifest.table.assign(path=manifest.table["path"].replace("2.wav", "2.aiff"))
        Manifest(table, tmp_path).write(tmp_path / "again.csv")
        output = tmp_path / "x.csv"
        assert main(["evaluate", str(model), str(tmp_path / "again.csv"), "-o", str(output)]) == 0
        assert pd.read_csv(output)["in_training"].tolist() == [True, False, True, True, False]
        evaluation = evaluate(Recognizer.load(model), Manifest.read(tmp_path / "again.csv"))
        [seen] = evaluation.seen
        assert (seen.corpus, seen.utterances, seen.matched, seen.named) == ("mine", 5, 3, False)
        assert "3 of these 5 recordings, by content hash" in as_text(evaluation)
        assert evaluation.to_dict()["seen_in_training"] == [seen.to_dict()]
