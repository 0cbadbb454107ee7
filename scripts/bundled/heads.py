"""Models trained on the embeddings: the emotions' output layer, the speech detector, the outlier score, thresholds.

Every number that is chosen is chosen by leaving one training corpus out: the others train, it is predicted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from affekt.measures.metrics import confusion_matrix, unweighted_accuracy
from affekt.nn.zoo.linear import solve_linear
from bundled.recordings import CLASSES, Corpus

Floats = NDArray[Any]
PENALTY = 0.1
CORPUS_PENALTY = 1.0
"""On the variance of the scores between corpora: what sets corpora apart shall not move the answer."""
VARIED_WEIGHT = 0.25
"""Of a varied copy beside the recording as it is: less robust at 0.1, and less accurate as recorded at 1."""
SPEECH_PENALTY = 0.003
SPEECH_BELOW = 1 / (1 + np.exp(-1.0))
COMPONENTS = 32
PASSING = 0.97
"""Share of unheard real speech that the outlier score lets pass."""
COVERAGE = 0.52
"""Share of sure answers on the corpora left out."""


@dataclass(frozen=True)
class Part:
    """The embeddings of one corpus: as recorded, and the varied copy, row by row."""

    corpus: Corpus
    recorded: Floats
    varied: Floats

    def training(self, varied_weight: float) -> tuple[Floats, NDArray[np.int64], Floats]:
        """Embeddings, labels and weights of both copies, the four classes only; classes weigh the same."""
        rows = self.corpus.of_class
        labels = self.corpus.labels[rows]
        weight = 1 / np.bincount(labels)[labels]
        x = np.concatenate([self.recorded[rows], self.varied[rows]])
        return x, np.concatenate([labels, labels]), np.concatenate([weight, varied_weight * weight])


@dataclass(frozen=True)
class Linear:
    """Scores weight (x - mean) / scale + bias of a pooled vector x."""

    mean: Floats
    scale: Floats
    weight: Floats
    bias: Floats

    def standardized(self, x: Floats) -> Floats:
        return (x - self.mean) / self.scale

    def logits(self, x: Floats) -> Floats:
        return self.standardized(x) @ self.weight.T + self.bias


def fit_emotions(
    parts: Sequence[Part],
    penalty: float = PENALTY,
    corpus_penalty: float = CORPUS_PENALTY,
    varied_weight: float = VARIED_WEIGHT,
) -> Linear:
    """Logistic regression in which corpora, and classes within each, weigh the same.

    The penalty is w' (penalty I + corpus_penalty B) w, where B is the covariance of the corpora's class-balanced means.
    """
    sets = [part.training(varied_weight) for part in parts]
    x, labels, weight = (np.concatenate(column) for column in zip(*sets, strict=True))
    weight = weight / weight.mean()
    mean = np.average(x, 0, weight)
    scale = np.sqrt(np.average((x - mean) ** 2, 0, weight)) + 1e-5
    penalties = penalty * np.eye(len(mean)) + corpus_penalty * _between_corpora(parts) / np.outer(scale, scale)
    matrix, bias = _solve((x - mean) / scale, labels, weight, len(CLASSES), penalties)
    return Linear(mean, scale, matrix, bias)


def _solve(
    z: Floats, labels: NDArray[np.int64], weight: Floats, classes: int, penalties: Floats
) -> tuple[Floats, Floats]:
    """Minimize the weighted mean cross-entropy + sum over classes of w' penalties w.

    With penalties = L L' and v = L' w, the penalty is |v|^2 and w'z = v' (L^-1 z): an ordinary problem.
    """
    inverse = np.linalg.inv(np.linalg.cholesky(penalties))
    inputs = torch.tensor(z @ inverse.T, dtype=torch.float32)
    rows = torch.tensor(weight / weight.mean(), dtype=torch.float32)
    matrix, bias = solve_linear(inputs, torch.from_numpy(labels), rows, classes, 1.0)
    return matrix.double().numpy() @ inverse, bias.double().numpy()


def _between_corpora(parts: Sequence[Part]) -> Floats:
    """Covariance of the corpora's means, speakers and the classes of each weighing the same."""
    means = np.array([_speaker_means(part).mean(0) for part in parts])
    centered = means - means.mean(0)
    covariance: Floats = centered.T @ centered / (len(means) - 1)
    return covariance


def _speaker_means(part: Part) -> Floats:
    """Class-balanced mean of each speaker."""
    labels, speakers = part.corpus.labels, part.corpus.speakers
    means = []
    for speaker in np.unique(speakers[part.corpus.of_class]):
        own = speakers == speaker
        kept = [own & (labels == label) for label in range(len(CLASSES))]
        means.append(np.mean([part.recorded[rows].mean(0) for rows in kept if rows.any()], 0))
    return np.array(means)


@dataclass(frozen=True)
class Speech:
    """Speech detector: sigmoid(weight . z + bias) of a standardized vector."""

    weight: Floats
    bias: float

    def logits(self, z: Floats) -> Floats:
        return z @ self.weight + self.bias


def fit_speech(speech: Sequence[Floats], sounds: Floats) -> Speech:
    """Logistic regression of speech against other sounds, both sides and all corpora weighing the same.

    Args:
        speech: standardized vectors of each corpus.
        sounds: of sounds that are not speech.
    """
    z = np.concatenate([*speech, sounds])
    count = sum(map(len, speech))
    labels = np.r_[np.ones(count, np.int64), np.zeros(len(sounds), np.int64)]
    weight = np.concatenate([np.full(len(x), 1 / len(x) / len(speech)) for x in speech])
    weight = np.concatenate([weight, np.full(len(sounds), 1 / len(sounds))])
    matrix, bias = _solve(z, labels, weight, 2, SPEECH_PENALTY * np.eye(z.shape[1]))
    return Speech(matrix[1] - matrix[0], float(bias[1] - bias[0]))


@dataclass(frozen=True)
class Outlier:
    """Squared Mahalanobis distance for each dimension, under probabilistic principal components."""

    mean: Floats
    axes: Floats
    variances: Floats
    rest: float

    @classmethod
    def fit(cls, parts: Sequence[Floats]) -> Outlier:
        """Fit to standardized vectors of each corpus, which weigh the same."""
        mean = np.mean([part.mean(0) for part in parts], 0)
        covariance = np.mean([(part - mean).T @ (part - mean) / len(part) for part in parts], 0)
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = values[::-1], vectors[:, ::-1]
        return cls(mean, vectors[:, :COMPONENTS], values[:COMPONENTS], float(values[COMPONENTS:].mean()))

    def score(self, z: Floats) -> Floats:
        centered = z - self.mean
        inside = centered @ self.axes
        outside = (centered**2).sum(1) - (inside**2).sum(1)
        score: Floats = ((inside**2 / self.variances).sum(1) + outside / self.rest) / z.shape[1]
        return score


@dataclass(frozen=True)
class LeftOut:
    """Predictions of corpora that trained nothing: logits of all recordings, and labels, by corpus."""

    logits: Mapping[str, Floats]
    labels: Mapping[str, NDArray[np.int64]]

    @property
    def accuracies(self) -> dict[str, float]:
        """UA of each corpus in the four classes."""
        found = {}
        for name, logits in self.logits.items():
            rows = self.labels[name] < len(CLASSES)
            confusion = confusion_matrix(self.labels[name][rows], logits[rows].argmax(1), len(CLASSES))
            found[name] = round(float(unweighted_accuracy(confusion)), 4)
        return found

    @property
    def mean(self) -> float:
        return round(float(np.mean(list(self.accuracies.values()))), 4)


def leave_one_out(parts: Sequence[Part], **options: Any) -> LeftOut:
    """Each corpus predicted by a model of the others."""
    logits = {}
    for part in parts:
        model = fit_emotions([other for other in parts if other is not part], **options)
        logits[part.corpus.name] = model.logits(part.recorded)
    return LeftOut(logits, {part.corpus.name: part.corpus.labels for part in parts})


def softmax(logits: Floats) -> Floats:
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    probabilities: Floats = exponentials / exponentials.sum(1, keepdims=True)
    return probabilities


def _balanced(left_out: LeftOut) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Logits, labels and weights of the four classes; corpora and classes weigh the same."""
    logits, labels, weights = [], [], []
    for name, scores in left_out.logits.items():
        own = left_out.labels[name]
        rows = own < len(CLASSES)
        logits.append(scores[rows])
        labels.append(own[rows])
        weights.append(1 / np.bincount(own[rows])[own[rows]])
    return np.concatenate(logits), np.concatenate(labels), np.concatenate(weights)


def calibrated_temperature(left_out: LeftOut) -> float:
    """The temperature with the least negative log-likelihood of the corpora left out."""
    logits, labels, weights = _balanced(left_out)
    rows = np.arange(len(labels))

    def loss(temperature: float) -> float:
        return float(np.average(-np.log(softmax(logits / temperature)[rows, labels] + 1e-12), weights=weights))

    return round(float(min(np.geomspace(0.3, 4, 240), key=loss)), 4)


def unsure_below(left_out: LeftOut, temperature: float) -> tuple[float, list[dict[str, float]]]:
    """The highest confidence that leaves enough sure answers on the corpora left out; and the whole curve."""
    logits, labels, weights = _balanced(left_out)
    probabilities = softmax(logits / temperature)
    right, confidence = probabilities.argmax(1) == labels, probabilities.max(1)
    curve = []
    for threshold in np.arange(0.40, 0.95, 0.01):
        sure = weights * (confidence >= threshold)
        if not sure.any():
            break
        share, coverage = float(np.average(right, weights=sure)), float(sure.sum() / weights.sum())
        curve.append({"threshold": round(float(threshold), 2), "right": share, "coverage": coverage})
    enough = [row for row in curve if row["coverage"] >= COVERAGE]
    return enough[-1]["threshold"], [{k: round(v, 4) for k, v in row.items()} for row in curve]


def outlier_threshold(parts: Sequence[Part], model: Linear, per_corpus: int = 600) -> float:
    """The score that 97 % of the speech of corpora left out stays below, corpora and copies alike."""
    z = [model.standardized(np.concatenate([part.recorded, part.varied])) for part in parts]
    scores = []
    for number, heard in enumerate(z):
        outlier = Outlier.fit([x for other, x in enumerate(z) if other != number])
        own = outlier.score(heard)
        scores.append(own[np.linspace(0, len(own) - 1, per_corpus).astype(int)])
    return float(np.quantile(np.concatenate(scores), PASSING))


def speaker_spread(parts: Sequence[Part], model: Linear) -> float:
    """Median over speakers of the variance of the logits, summed over classes, over all emotions of a speaker."""
    spreads = []
    for part in parts:
        logits = model.logits(part.recorded)
        for speaker in np.unique(part.corpus.speakers):
            rows = (part.corpus.speakers == speaker) & part.corpus.of_class
            if rows.sum() > 1:
                spreads.append(logits[rows].var(0, ddof=1).sum())
    return float(np.median(spreads))


def neutral_mean(parts: Sequence[Part], model: Linear) -> Floats:
    """Mean standardized vector of neutral speech; speakers alike within a corpus, and corpora."""
    means = []
    for part in parts:
        neutral = part.corpus.labels == CLASSES.index("neutral")
        speakers = np.unique(part.corpus.speakers[neutral])
        own = [part.recorded[neutral & (part.corpus.speakers == speaker)].mean(0) for speaker in speakers]
        means.append(np.mean(own, 0))
    return model.standardized(np.mean(means, 0))
