"""How good a model is on a manifest: recognition, per class and as a whole, and whether its probabilities are true.

Intervals come from drawing whole speakers with replacement, since what one speaker says is not independent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from affekt import audio
from affekt.data.manifest import Manifest
from affekt.errors import AudioError, ManifestError
from affekt.measures import metrics
from affekt.measures.statistics import Clusters, cluster_bootstrap
from affekt.recognition.prediction import Failure, Prediction
from affekt.recognition.recognizer import Recognizer
from affekt.recognition.sources import Source

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

BINS = 15


@dataclass(frozen=True)
class Evaluation:
    """A model on a manifest.

    Attributes:
        corpus: name of the manifest's corpora.
        classes: class names, in the order of the model's probabilities.
        labels, probabilities: of the utterances that were recognized.
        clusters: who spoke them; what intervals are drawn over.
        unsure_below: the threshold of the predictions called unsure.
        failures: recordings that could not be used.
        left_out: utterances with labels that are no classes of the model.
    """

    corpus: str
    classes: tuple[str, ...]
    labels: Int[Integers, " utterances"]
    probabilities: Float[Floats, "utterances classes"]
    clusters: Clusters
    unsure_below: float
    failures: tuple[Failure, ...]
    left_out: int

    @property
    def confusion(self) -> Int[Integers, "classes classes"]:
        """True classes in rows, predicted ones in columns."""
        return metrics.confusion_matrix(self.labels, self.probabilities.argmax(1), len(self.classes))

    @property
    def reliability(self) -> metrics.ReliabilityBins:
        """Accuracy against confidence."""
        return metrics.reliability_bins(self.probabilities, self.labels, BINS)

    def measures(self, seed: int = 0) -> dict[str, tuple[float, float, float]]:
        """Value and 95 % interval of WA, UA, macro-F1, each class's recall, ECE; how many are sure, and how right."""
        values = {
            name: _with_interval(self._per_cluster(self._confusions()), measure, seed)
            for name, measure in metrics.MEASURES.items()
        }
        recalls = _with_interval(self._per_cluster(self._confusions()), _known_recall, seed)
        values |= {f"recall.{name}": recall for name, recall in zip(self.classes, _columns(recalls), strict=True)}
        values["ece"] = _with_interval(self._per_cluster(self._calibration()), _ece, seed)
        values["sure"] = _with_interval(self._per_cluster(self._sure()), _share_of_sure, seed)
        values["accuracy of sure"] = _with_interval(self._per_cluster(self._sure()), _accuracy_of_sure, seed)
        return {name: (float(value), float(low), float(high)) for name, (value, low, high) in values.items()}

    def to_dict(self, seed: int = 0) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        bins = self.reliability
        return {
            "corpus": self.corpus,
            "utterances": len(self.labels),
            "clusters": {"count": self.clusters.count, "unit": self.clusters.unit},
            "failures": [failure.to_dict() for failure in self.failures],
            "left_out": self.left_out,
            "unsure_below": self.unsure_below,
            "measures": {
                name: {"value": value, "low": low, "high": high}
                for name, (value, low, high) in self.measures(seed).items()
            },
            "nll": metrics.negative_log_likelihood(self.probabilities, self.labels),
            "brier": metrics.brier_score(self.probabilities, self.labels),
            "confusion": {"classes": list(self.classes), "counts": self.confusion.tolist()},
            "reliability": {
                "count": bins.count.tolist(),
                "confidence": bins.confidence.tolist(),
                "accuracy": bins.accuracy.tolist(),
            },
        }

    def _per_cluster(self, of_utterance: Floats) -> Floats:
        """Sums of each cluster's rows."""
        sums = np.zeros((self.clusters.count, *of_utterance.shape[1:]))
        np.add.at(sums, self.clusters.index, of_utterance)
        return sums

    def _confusions(self) -> Floats:
        """Each utterance's confusion matrix, a single one."""
        cells = np.eye(len(self.classes))
        return np.asarray(cells[self.labels][:, :, None] * cells[self.probabilities.argmax(1)][:, None, :])

    def _calibration(self) -> Floats:
        """Each utterance's confidence - hit in the column of its bin, and a count: [utterances, 2, bins]."""
        confidence = self.probabilities.max(1)
        gap = confidence - (self.probabilities.argmax(1) == self.labels)
        in_bin = np.eye(BINS)[np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)]
        return np.stack([gap[:, None] * in_bin, in_bin], axis=1)

    def _sure(self) -> Floats:
        """Whether each utterance is sure and right, sure, and one utterance."""
        sure = self.probabilities.max(1) >= self.unsure_below
        right = self.probabilities.argmax(1) == self.labels
        return np.stack([sure & right, sure, np.ones_like(sure)], axis=1).astype(np.float64)


def evaluate(recognizer: Recognizer, manifest: Manifest, min_confidence: float | None = None) -> Evaluation:
    """Recognize every utterance of a manifest whose label is a class of the model.

    Raises:
        ManifestError: there is none, or none of them can be used.
    """
    known = manifest.table["label"].isin(recognizer.labels).to_numpy()
    if not known.any():
        got = ", ".join(sorted(set(manifest.labels))[:5])
        raise ManifestError("labels", got=got, expected=f"some of the model's: {', '.join(recognizer.labels)}")
    chosen = manifest.where(known)
    answers = list(_answers(recognizer, chosen))
    kept = np.array([isinstance(answer, Prediction) for answer in answers])
    failures = tuple(answer for answer in answers if isinstance(answer, Failure))
    if not kept.any():
        raise ManifestError.of(fault for failure in failures[:5] for fault in failure.error.faults)
    table = chosen.table[kept]
    predictions = [answer for answer in answers if isinstance(answer, Prediction)]
    return Evaluation(
        corpus=manifest.name,
        classes=recognizer.labels,
        labels=np.array([recognizer.labels.index(label) for label in table["label"]], np.int64),
        probabilities=np.array([list(answer.probabilities.values()) for answer in predictions]),
        clusters=Clusters.of(table["speaker"].tolist(), table["id"].tolist()),
        unsure_below=recognizer.card.unsure_below if min_confidence is None else min_confidence,
        failures=failures,
        left_out=int((~known).sum()),
    )


def _answers(recognizer: Recognizer, manifest: Manifest) -> Iterator[Prediction | Failure]:
    """A prediction for every row, in order; rows with a start or end are parts of their files."""
    broken: dict[int, Failure] = {}

    def sources() -> Iterator[Source]:
        table = manifest.table
        for row, path in enumerate(manifest.audio_paths()):
            start, end = (None if np.isnan(table[name][row]) else float(table[name][row]) for name in ("start", "end"))
            if start is None and end is None:
                yield path
                continue
            try:
                yield audio.load(path, rate, start, end, recognizer.card.clip_seconds)
            except AudioError as error:
                broken[row] = Failure(str(path), error)
                yield b""

    rate = recognizer.card.sample_rate_hz
    for row, answer in enumerate(recognizer.predict_many(sources(), sample_rate_hz=rate)):
        yield broken.get(row, answer)


def _with_interval(per_cluster: Floats, measure: Any, seed: int) -> tuple[Any, Any, Any]:
    low, high = cluster_bootstrap(per_cluster, measure, seed=seed)
    return measure(per_cluster.sum(0)[None])[0], low, high


def _columns(values: tuple[Floats, Floats, Floats]) -> Iterator[tuple[float, float, float]]:
    return zip(*(part.tolist() for part in values), strict=True)


def _known_recall(confusion: Floats) -> Floats:
    """Recall of each class; 0 where a draw of speakers holds no utterance of it."""
    return np.nan_to_num(metrics.recall(confusion))


def _ece(totals: Float[Floats, "replicates 2 bins"]) -> Float[Floats, " replicates"]:
    """sum over bins of |sum of (confidence - hit)| / utterances: the weighted mean of |accuracy - confidence|."""
    return np.asarray(np.abs(totals[:, 0]).sum(-1) / totals[:, 1].sum(-1))


def _share_of_sure(totals: Float[Floats, "replicates 3"]) -> Float[Floats, " replicates"]:
    return np.asarray(totals[:, 1] / totals[:, 2])


def _accuracy_of_sure(totals: Float[Floats, "replicates 3"]) -> Float[Floats, " replicates"]:
    """1 where nothing is sure: then nothing sure is wrong."""
    return np.where(totals[:, 1] > 0, totals[:, 0] / np.maximum(totals[:, 1], 1), 1.0)


def as_text(evaluation: Evaluation, seed: int = 0) -> str:
    """A report for a terminal."""
    count = len(evaluation.labels)
    lines = [
        f"{evaluation.corpus}: {count:,} utterances; intervals: 95 %, over {evaluation.clusters.count} "
        f"{evaluation.clusters.unit}",
        "",
    ]
    for name, (value, low, high) in evaluation.measures(seed).items():
        lines.append(f"  {name:<20}{100 * value:6.1f} %   [{100 * low:.1f}, {100 * high:.1f}]")
    lines += ["", "  confusion (rows: said, columns: recognized)", *_confusion_lines(evaluation)]
    lines += ["", "  reliability", *_reliability_lines(evaluation.reliability)]
    return "\n".join(lines)


def _confusion_lines(evaluation: Evaluation) -> Iterator[str]:
    width = max(8, *(len(name) + 2 for name in evaluation.classes))
    yield "  " + " " * width + "".join(f"{name:>{width}}" for name in evaluation.classes)
    for name, row in zip(evaluation.classes, evaluation.confusion.tolist(), strict=True):
        yield f"  {name:<{width}}" + "".join(f"{value:>{width},}" for value in row)


def _reliability_lines(bins: metrics.ReliabilityBins) -> Iterator[str]:
    """Confidence, accuracy and a bar of each bin that holds an utterance; `|` marks where the bar should end."""
    for count, confidence, accuracy in zip(bins.count.tolist(), bins.confidence, bins.accuracy, strict=True):
        if count:
            bar = list("#" * round(40 * accuracy) + " " * (40 - round(40 * accuracy)) + " ")
            bar[round(40 * confidence)] = "|"
            yield f"  says {confidence:4.0%}, is right {accuracy:4.0%} of {count:>6,}  {''.join(bar).rstrip()}"
