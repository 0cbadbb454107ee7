"""Evaluation of a model on a manifest: accuracy per class and overall, and the calibration of its probabilities.

Intervals come from drawing whole speakers with replacement, since the utterances of one speaker are not independent.
Recordings that the model was trained on are found by its card and reported: figures on them are no estimate of how it
does on other speech.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from affekt.data.labels import unusable_classes
from affekt.data.manifest import Manifest
from affekt.data.vocabulary import canonical
from affekt.errors import Fault, ManifestError
from affekt.measures import metrics
from affekt.measures.statistics import Clusters, cluster_bootstrap
from affekt.recognition.prediction import NO_SPEECH, Failure, Prediction
from affekt.recognition.recognizer import Recognizer
from affekt.recognition.seen import Seen, find_seen
from affekt.recognition.sources import Segment

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

BINS = 15


@dataclass(frozen=True)
class Evaluation:
    """The answers of a model to the utterances of a manifest.

    Attributes:
        corpus: name of the manifest's corpora.
        classes: class names, in the order of the model's probabilities.
        labels: true class of each utterance that has an answer.
        probabilities: of each of them; all 0 where the model heard no speech.
        clusters: their speakers, which intervals are drawn over.
        unsure_below: confidence below which a prediction is unsure.
        failures: recordings that could not be used.
        left_out: number of utterances whose labels are no classes of the model.
        left_out_labels: their labels, with the number of each.
        unsure: whether each answer is unsure, for whatever reason; by default by `unsure_below` alone.
        rows: one row per utterance, failed ones included, as :meth:`answers` gives them.
        seen: which corpora and recordings the model was trained on.
    """

    corpus: str
    classes: tuple[str, ...]
    labels: Int[Integers, " utterances"]
    probabilities: Float[Floats, "utterances classes"]
    clusters: Clusters
    unsure_below: float
    failures: tuple[Failure, ...]
    left_out: int
    left_out_labels: Mapping[str, int] = field(default_factory=dict)
    unsure: Bool[NDArray[np.bool_], " utterances"] | None = None
    rows: Sequence[Mapping[str, Any]] = ()
    seen: tuple[Seen, ...] = ()

    @property
    def answered(self) -> Bool[NDArray[np.bool_], " utterances"]:
        """Whether the model gave a class; where it heard no speech it did not, which counts as an error."""
        return np.asarray(self.probabilities.sum(1) > 0)

    @property
    def present(self) -> tuple[str, ...]:
        """The classes that have an utterance; UA is the mean recall over them."""
        return tuple(self.classes[number] for number in np.unique(self.labels))

    @property
    def confusion(self) -> Int[Integers, "classes classes"]:
        """True classes in rows, predicted ones in columns; utterances without a predicted class are not in it."""
        kept = self.answered
        return metrics.confusion_matrix(self.labels[kept], self.probabilities[kept].argmax(1), len(self.classes))

    @property
    def no_speech(self) -> Int[Integers, " classes"]:
        """Utterances of each true class in which the model heard no speech."""
        return np.bincount(self.labels[~self.answered], minlength=len(self.classes))

    @property
    def reliability(self) -> metrics.ReliabilityBins:
        """Accuracy against confidence, of the utterances with a predicted class."""
        kept = self.answered
        return metrics.reliability_bins(self.probabilities[kept], self.labels[kept], BINS)

    def measures(self, seed: int = 0) -> dict[str, tuple[float, float, float]]:
        """Value, lower and upper bound (95 %) of WA, UA, macro-F1, the recall of each class, ECE, the share of sure
        answers and their accuracy; NaN for the recall of a class without utterances.

        Args:
            seed: of the bootstrap.
        """
        confusions = self._per_cluster(self._confusions())
        values = {name: _with_interval(confusions, measure, seed) for name, measure in self._headline().items()}
        recalls = _with_interval(confusions, _known_recall, seed)
        present = set(self.present)
        for name, recall in zip(self.classes, _columns(recalls), strict=False):
            values[f"recall.{name}"] = recall if name in present else (np.nan, np.nan, np.nan)
        values["ece"] = _with_interval(self._per_cluster(self._calibration()), _ece, seed)
        values["sure"] = _with_interval(self._per_cluster(self._sure()), _share_of_sure, seed)
        values["accuracy of sure"] = _with_interval(self._per_cluster(self._sure()), _accuracy_of_sure, seed)
        return {name: (float(value), float(low), float(high)) for name, (value, low, high) in values.items()}

    def answers(self) -> list[dict[str, Any]]:
        """One row per utterance: its columns of the manifest, the answer, whether the model was trained on it, or the
        error of a recording that could not be used."""
        return [dict(row) for row in self.rows]

    def to_dict(self, seed: int = 0) -> dict[str, Any]:
        """Plain values, as JSON holds them; None stands for a measure that does not exist."""
        bins, kept = self.reliability, self.answered
        return {
            "corpus": self.corpus,
            "utterances": len(self.labels),
            "clusters": {"count": self.clusters.count, "unit": self.clusters.unit},
            "failures": [failure.to_dict() for failure in self.failures],
            "left_out": self.left_out,
            "left_out_labels": dict(self.left_out_labels),
            "no_speech": int((~kept).sum()),
            "classes_with_utterances": list(self.present),
            "seen_in_training": [seen.to_dict() for seen in self.seen],
            "unsure_below": self.unsure_below,
            "measures": {
                name: dict(zip(("value", "low", "high"), map(_or_none, parts), strict=True))
                for name, parts in self.measures(seed).items()
            },
            "nll": metrics.negative_log_likelihood(self.probabilities[kept], self.labels[kept]) if kept.any() else None,
            "brier": metrics.brier_score(self.probabilities[kept], self.labels[kept]) if kept.any() else None,
            "confusion": {"classes": list(self.classes), "counts": self.confusion.tolist()},
            "reliability": {
                "count": bins.count.tolist(),
                "confidence": bins.confidence.tolist(),
                "accuracy": bins.accuracy.tolist(),
            },
        }

    def _headline(self) -> Mapping[str, Any]:
        return metrics.MEASURES if self.answered.all() else metrics.MEASURES | {"macro_f1": _macro_f1_of_classes}

    def _per_cluster(self, of_utterance: Floats) -> Floats:
        """Sums of each cluster's rows."""
        sums = np.zeros((self.clusters.count, *of_utterance.shape[1:]))
        np.add.at(sums, self.clusters.index, of_utterance)
        return sums

    def _confusions(self) -> Floats:
        """Each utterance's confusion matrix; where there are answers of no speech, they have the last column."""
        kept = self.answered
        size = len(self.classes) + (not kept.all())
        cells = np.eye(size)
        predicted = np.where(kept, self.probabilities.argmax(1), size - 1)
        return np.asarray(cells[self.labels][:, :, None] * cells[predicted][:, None, :])

    def _calibration(self) -> Floats:
        """Each utterance's confidence - hit in the column of its bin, and a count: [utterances, 2, bins]."""
        confidence = self.probabilities.max(1)
        gap = confidence - self._right()
        in_bin = np.eye(BINS)[np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)]
        in_bin = in_bin * self.answered[:, None]
        return np.stack([gap[:, None] * in_bin, in_bin], axis=1)

    def _sure(self) -> Floats:
        """Whether each utterance is sure and right, sure, and one utterance."""
        unsure = self.probabilities.max(1) < self.unsure_below if self.unsure is None else self.unsure
        sure = ~unsure & self.answered
        return np.stack([sure & self._right(), sure, np.ones_like(sure)], axis=1).astype(np.float64)

    def _right(self) -> Bool[NDArray[np.bool_], " utterances"]:
        return np.asarray((self.probabilities.argmax(1) == self.labels) & self.answered)


def evaluate(recognizer: Recognizer, manifest: Manifest, min_confidence: float | None = None) -> Evaluation:
    """Recognize the utterances of a manifest whose labels are classes of the model.

    Labels are matched by the vocabulary: `anger` and `angry` are the same class.

    Args:
        recognizer: the model.
        manifest: the utterances; rows with a start or end are parts of their files.
        min_confidence: confidence below which an answer is unsure; by default the model's own threshold.

    Returns:
        The answers with their measures: `as_text`, `to_dict`.

    Raises:
        ManifestError: no label is a class of the model, or no recording can be used.
    """
    classes = recognizer.labels
    numbers = np.array([_class_number(label, classes) for label in manifest.labels], np.int64)
    known = numbers >= 0
    if not known.any():
        raise _no_class(manifest, classes)
    chosen, truth = manifest.where(known), numbers[known]
    answers = list(recognizer.predict_many(_sources(chosen), min_confidence=min_confidence))
    kept = np.array([isinstance(answer, Prediction) for answer in answers])
    failures = tuple(answer for answer in answers if isinstance(answer, Failure))
    if not kept.any():
        raise ManifestError.of(fault for failure in failures[:5] for fault in failure.error.faults)
    predictions = [answer for answer in answers if isinstance(answer, Prediction)]
    table = chosen.table[kept]
    seen, in_training = find_seen(recognizer.card, chosen, recognizer.threads)
    lacking = Counter(label for label, there in zip(manifest.labels, known.tolist(), strict=True) if not there)
    return Evaluation(
        corpus=manifest.name,
        classes=classes,
        labels=truth[kept],
        probabilities=np.array([list(answer.probabilities.values()) for answer in predictions]),
        clusters=Clusters.of(table["speaker"].tolist(), table["id"].tolist()),
        unsure_below=recognizer.card.unsure_below if min_confidence is None else min_confidence,
        failures=failures,
        left_out=lacking.total(),
        left_out_labels=dict(lacking.most_common()),
        unsure=np.array([answer.unsure for answer in predictions]),
        rows=list(_rows(chosen, [classes[number] for number in truth], answers, in_training)),
        seen=seen,
    )


def _class_number(label: str, classes: Sequence[str]) -> int:
    """The class of a label, by its own name, else by the vocabulary; -1 where there is none.

    >>> [_class_number(label, ("angry", "joy")) for label in ("angry", "Anger", "happy", "excited")]
    [0, 0, 1, -1]
    """
    if label in classes:
        return classes.index(label)
    meant = canonical(label)
    alike = [number for number, name in enumerate(classes) if meant is not None and canonical(name) == meant]
    return alike[0] if len(alike) == 1 else -1


def _no_class(manifest: Manifest, classes: Sequence[str]) -> ManifestError:
    fault = unusable_classes(manifest.labels)
    got = ", ".join(sorted(set(manifest.labels))[:5])
    expected = f"some of the model's: {', '.join(classes)}"
    return ManifestError.of([fault] if fault else [Fault("labels", got=got, expected=expected)])


def _sources(manifest: Manifest) -> Iterator[Any]:
    """Each row's file, or the part of it that is the utterance."""
    times = manifest.table[["start", "end"]].to_numpy(np.float64)
    for path, (start, end) in zip(manifest.audio_paths(), times.tolist(), strict=True):
        part = Segment(path, None if np.isnan(start) else start, None if np.isnan(end) else end)
        yield path if part.start_seconds is None and part.end_seconds is None else part


def _rows(
    manifest: Manifest,
    truth: Sequence[str],
    answers: Sequence[Prediction | Failure],
    in_training: Sequence[bool] | None,
) -> Iterator[dict[str, Any]]:
    """A row of the table of answers for each utterance."""
    columns = ["id", "path", "start", "end", "speaker", "corpus", "label"]
    for place, (row, answer) in enumerate(zip(manifest.table[columns].to_dict("records"), answers, strict=True)):
        told = {str(name): _or_none(value) for name, value in row.items()}
        told |= {"class": truth[place], "in_training": None if in_training is None else in_training[place]}
        if isinstance(answer, Failure):
            yield told | {"error": str(answer)}
            continue
        named = {f"prob.{name}": value for name, value in answer.probabilities.items()}
        right = answer.label == truth[place]
        yield told | {
            "predicted": answer.label,
            "correct": right,
            "confidence": answer.confidence,
            "unsure": answer.unsure,
            "reason": answer.reason,
            **named,
            "error": None,
        }


def _or_none(value: Any) -> Any:
    """None for NaN, which JSON does not know."""
    return None if isinstance(value, float) and np.isnan(value) else value


def _with_interval(per_cluster: Floats, measure: Any, seed: int) -> tuple[Any, Any, Any]:
    low, high = cluster_bootstrap(per_cluster, measure, seed=seed)
    return measure(per_cluster.sum(0)[None])[0], low, high


def _columns(values: tuple[Floats, Floats, Floats]) -> Iterator[tuple[float, float, float]]:
    return zip(*(part.tolist() for part in values), strict=True)


def _known_recall(confusion: Floats) -> Floats:
    """Recall of each class; 0 where a draw of speakers holds no utterance of it."""
    return np.nan_to_num(metrics.recall(confusion))


def _macro_f1_of_classes(confusion: Floats) -> Floats:
    """Macro-F1 over the classes, where the last row and column stand for no speech, which is no class."""
    hits = 2 * np.diagonal(confusion, axis1=-2, axis2=-1)[..., :-1]
    occurrences = (confusion.sum(-1) + confusion.sum(-2))[..., :-1]
    f1 = np.divide(hits, occurrences, out=np.zeros_like(hits), where=occurrences > 0)
    return np.asarray(f1.sum(-1) / np.maximum((occurrences > 0).sum(-1), 1))


def _ece(totals: Float[Floats, "replicates 2 bins"]) -> Float[Floats, " replicates"]:
    """sum over bins of |sum of (confidence - hit)| / utterances: the weighted mean of |accuracy - confidence|."""
    return np.asarray(np.abs(totals[:, 0]).sum(-1) / np.maximum(totals[:, 1].sum(-1), 1))


def _share_of_sure(totals: Float[Floats, "replicates 3"]) -> Float[Floats, " replicates"]:
    return np.asarray(totals[:, 1] / totals[:, 2])


def _accuracy_of_sure(totals: Float[Floats, "replicates 3"]) -> Float[Floats, " replicates"]:
    """1 where nothing is sure: then nothing sure is wrong."""
    return np.where(totals[:, 1] > 0, totals[:, 0] / np.maximum(totals[:, 1], 1), 1.0)


def as_text(evaluation: Evaluation, seed: int = 0) -> str:
    """A report for a terminal.

    Args:
        evaluation: the answers.
        seed: of the bootstrap.
    """
    count, silent = len(evaluation.labels), int(evaluation.no_speech.sum())
    lines = [*(f"WARNING: {seen}" for seen in evaluation.seen), *([""] if evaluation.seen else [])]
    lines += [
        f"{evaluation.corpus}: {count:,} utterances; intervals: 95 %, over {evaluation.clusters.count} "
        f"{evaluation.clusters.unit}",
    ]
    absent = [name for name in evaluation.classes if name not in evaluation.present]
    if absent:
        classes = f"{len(evaluation.present)} of {len(evaluation.classes)} classes"
        lines.append(f"UA is over {classes}; no utterance is {' or '.join(absent)}")
    if silent:
        lines.append(f"no speech heard in {silent:,} utterance{'s' * (silent != 1)}, counted as errors")
    lines.append("")
    for name, (value, low, high) in evaluation.measures(seed).items():
        figures = "     -" if np.isnan(value) else f"{100 * value:6.1f} %   [{100 * low:.1f}, {100 * high:.1f}]"
        lines.append(f"  {name:<20}{figures}")
    lines += ["", "  confusion (rows: true class, columns: predicted class)", *_confusion_lines(evaluation)]
    lines += ["", "  calibration", *_reliability_lines(evaluation.reliability)]
    return "\n".join(lines)


def _confusion_lines(evaluation: Evaluation) -> Iterator[str]:
    silent = evaluation.no_speech
    columns = (*evaluation.classes, *((NO_SPEECH,) if silent.any() else ()))
    width = max(8, *(len(name) + 2 for name in columns))
    yield "  " + " " * width + "".join(f"{name:>{width}}" for name in columns)
    for name, row, unheard in zip(evaluation.classes, evaluation.confusion.tolist(), silent.tolist(), strict=True):
        cells = [*row, unheard][: len(columns)]
        yield f"  {name:<{width}}" + "".join(f"{value:>{width},}" for value in cells)


def _reliability_lines(bins: metrics.ReliabilityBins) -> Iterator[str]:
    """Confidence, accuracy and a bar of each bin that holds an utterance; `|` marks the mean confidence."""
    for count, confidence, accuracy in zip(bins.count.tolist(), bins.confidence, bins.accuracy, strict=True):
        if count:
            bar = list("#" * round(40 * accuracy) + " " * (40 - round(40 * accuracy)) + " ")
            bar[round(40 * confidence)] = "|"
            yield f"  confidence {confidence:4.0%}, accuracy {accuracy:4.0%} of {count:>6,}  {''.join(bar).rstrip()}"
