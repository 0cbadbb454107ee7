"""Adaptation to a speaker: embeddings are shifted by what sets this voice apart from the training speakers.

People differ more than emotions do. The network's last layer is linear in the embedding z, so a voice's own offset can
be taken out after the network has run: logits = weight (z - shift) + bias.

* From recordings of one speaker, whatever the emotions: shift = a mean(z), with a = n / (n + count) min(1, v /
  spread)^power. n counts recordings, and v is the variance of the logits over them. A speaker of whom there is little
  audio, or all of one emotion, is shrunk towards the population, whose mean is 0.
* From recordings in which the speaker is calm: shift = a (mean(z) - neutral_mean), with a = n / (n + count).

The parameters are in the model's card, the last layer in the metadata of its file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affekt.errors import ConfigError
from affekt.recognition.card import ModelCard
from affekt.recognition.output_layer import OutputLayer, decode_numbers
from affekt.recognition.prediction import Recognized

Floats = NDArray[np.float32]

MOST_WEIGHT = 100.0
"""A running estimate counts for at most so many recordings, so that old ones fade."""


@dataclass(frozen=True)
class Shift:
    """Offset of a voice from the training speakers, and the share of it that is removed.

    Attributes:
        vector: [features], taken from each embedding.
        strength: a of the module's formulas, from 0 (nothing is known) to 1.
        said: the assumption and the strength, in words.
    """

    vector: NDArray[np.float64]
    strength: float
    said: str

    @property
    def percent(self) -> str:
        """The strength, for people."""
        return f"{self.strength:.0%}"

    def applied(self, answer: Recognized, head: OutputLayer) -> Recognized:
        """A model's answers with the shift taken out; scores of speech and outliers stay."""
        return answer._replace(probabilities=head.probabilities(answer.embeddings - self.vector))


class SpeakerEstimate:
    """The shift of one speaker, estimated from recordings as they come, in flat memory.

    Args:
        head: of the model.
        parameters: `count`, `spread` and `power` of the model's card.
        most_weight: recordings that the estimate counts for at most: older ones fade.

    >>> estimate = SpeakerEstimate(OutputLayer(np.eye(2), np.zeros(2)), {"count": 2.0, "spread": 1.0, "power": 1.0})
    >>> estimate.add(np.array([[1.0, 0.0], [3.0, 0.0]]))
    >>> shift = estimate.shift()
    >>> shift.strength, shift.vector.tolist()
    (0.5, [1.0, 0.0])
    """

    def __init__(self, head: OutputLayer, parameters: Mapping[str, float], most_weight: float = np.inf) -> None:
        self._head = head
        self._count, self._spread, self._power = (float(parameters[name]) for name in ("count", "spread", "power"))
        self._most_weight = most_weight
        self.weight = 0.0
        self._embedding = np.zeros(head.weight.shape[1])
        self._logits = np.zeros(head.weight.shape[0])
        self._squares = 0.0

    def add(self, embeddings: NDArray[Any], weight: float = 1.0) -> None:
        """Add recordings or windows [batch, features], each of which counts as `weight` recordings."""
        for embedding, logits in zip(np.asarray(embeddings, np.float64), self._head.logits(embeddings), strict=True):
            kept = min(self.weight, self._most_weight - weight)
            fade = kept / self.weight if self.weight else 1.0
            self.weight = kept + weight
            self._embedding = fade * self._embedding + weight * embedding
            self._logits = fade * self._logits + weight * logits
            self._squares = fade * self._squares + weight * float(logits @ logits)

    def shift(self) -> Shift:
        """The shift as far as it is known."""
        if self.weight <= 0:
            return Shift(self._embedding, 0.0, "")
        mean, logits = self._embedding / self.weight, self._logits / self.weight
        unbiased = self.weight / max(self.weight - 1, 1e-9) if self.weight > 1 else 0.0
        variance = max(0.0, self._squares / self.weight - float(logits @ logits)) * unbiased
        strength = self.weight / (self.weight + self._count) * min(1.0, variance / self._spread) ** self._power
        said = f"one speaker so far, {self.weight:.0f} stretches of speech; {strength:.0%} of the shift"
        return Shift(strength * mean, strength, said)


def speaker_shift(embeddings: NDArray[Any], head: OutputLayer, parameters: Mapping[str, float]) -> Shift:
    """The shift of a speaker, from all recordings of this speaker at once.

    Args:
        embeddings: of recordings, or of windows of long ones, [recordings, features].
        head: of the model.
        parameters: `count`, `spread` and `power` of the model's card.
    """
    estimate = SpeakerEstimate(head, parameters)
    estimate.add(embeddings)
    shift = estimate.shift()
    return replace(shift, said=f"one speaker in {_counted(len(embeddings), 'stretch')}; {shift.percent} of the shift")


def baseline_shift(embeddings: NDArray[Any], parameters: Mapping[str, Any]) -> Shift:
    """The shift of a speaker of whom recordings without an emotion are known.

    Args:
        embeddings: of these recordings, [recordings, features].
        parameters: `count` and `neutral_mean` of the model's card.

    >>> shift = baseline_shift(np.ones((2, 3)), {"count": 2.0, "neutral_mean": [0.0, 0.0, 1.0]})
    >>> shift.strength, shift.vector.tolist()
    (0.5, [0.5, 0.5, 0.0])
    """
    count = len(embeddings)
    strength = count / (count + float(parameters["count"]))
    difference = np.asarray(embeddings, np.float64).mean(0) - decode_numbers(parameters["neutral_mean"])
    shift = Shift(strength * difference, strength, "")
    return replace(shift, said=f"calm voice in {_counted(count, 'stretch')}; {shift.percent} of the shift")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'es' if count != 1 else ''} of speech"


def parameters_of(card: ModelCard, kind: str, name: str) -> Mapping[str, Any]:
    """The parameters of one kind of adaptation, `speaker` or `baseline`.

    Raises:
        ConfigError: the model has none of this kind, or they are incomplete.
    """
    needed = {"speaker": ("count", "spread", "power"), "baseline": ("count", "neutral_mean")}[kind]
    parameters = card.adaptation.get(kind)
    if not isinstance(parameters, Mapping) or not set(needed) <= set(parameters):
        got, remedy = f"no parameters of the {kind} adaptation", "use the bundled model"
        raise ConfigError(f"model {name}", got=got, expected=", ".join(needed), remedy=remedy)
    return parameters
