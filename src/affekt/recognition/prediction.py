"""What a recognizer is and answers: a prediction, or why there is none. Plain values that need no library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from affekt.errors import AffektError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from affekt.recognition.card import ModelCard

    Floats = NDArray[np.float32]

CHUNK_RECORDINGS = 16
"""Recordings of a long list that are decoded, sorted by length and recognized together."""
NO_SPEECH = "no speech"
"""The label of a stretch of a recording or stream in which nobody speaks."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The emotion of one stretch of a recording.

    Attributes:
        label: the most probable class, or :data:`NO_SPEECH` (in streams and timelines).
        confidence: its probability; 0 without speech.
        probabilities: every class and its calibrated probability; they sum to 1, or are 0 without speech.
        unsure: the confidence is below the threshold, so the label should not be relied on.
        source: the file, or what else was listened to.
        start_seconds, end_seconds: the stretch.
        truncated: the recording goes on, but the model's clip was full; a timeline covers all of it.

    >>> print(Prediction("happy", 0.75, {"happy": 0.75, "sad": 0.25}, False, "a.wav", 0.0, 2.5))
    a.wav: happy 75 % (happy 0.75, sad 0.25)
    """

    label: str
    confidence: float
    probabilities: Mapping[str, float]
    unsure: bool
    source: str
    start_seconds: float
    end_seconds: float
    truncated: bool = False

    @classmethod
    def of(
        cls,
        labels: Sequence[str],
        probabilities: Sequence[float],
        unsure_below: float,
        source: str,
        start_seconds: float,
        end_seconds: float,
        truncated: bool = False,
    ) -> Prediction:
        """The prediction for a vector of probabilities.

        >>> Prediction.of(("happy", "sad"), [0.4, 0.6], 0.7, "a.wav", 0.0, 1.0).unsure
        True
        """
        named = {label: float(value) for label, value in zip(labels, probabilities, strict=True)}
        label = max(named, key=named.__getitem__)
        unsure = named[label] < unsure_below
        return cls(label, named[label], named, unsure, source, start_seconds, end_seconds, truncated)

    @classmethod
    def no_speech(cls, labels: Sequence[str], source: str, start_seconds: float, end_seconds: float) -> Prediction:
        """The answer where nobody speaks."""
        return cls(NO_SPEECH, 0.0, dict.fromkeys(labels, 0.0), True, source, start_seconds, end_seconds)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        return {
            "source": self.source,
            "start_seconds": self.start_seconds,
            "end_seconds": self.end_seconds,
            "label": self.label,
            "confidence": self.confidence,
            "unsure": self.unsure,
            "probabilities": dict(self.probabilities),
            "truncated": self.truncated,
        }

    def to_row(self) -> dict[str, Any]:
        """One flat row of a table; probabilities are columns `prob.<class>`."""
        row = self.to_dict()
        probabilities = row.pop("probabilities")
        return row | {f"prob.{label}": value for label, value in probabilities.items()}

    def __str__(self) -> str:
        named = ", ".join(f"{label} {value:.2f}" for label, value in self.probabilities.items())
        doubt = " unsure" if self.unsure and self.label != NO_SPEECH else ""
        certainty = "" if self.label == NO_SPEECH else f" {100 * self.confidence:.0f} %{doubt} ({named})"
        return f"{self.source}: {self.label}{certainty}"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one of many recordings has no prediction.

    Attributes:
        source: the recording.
        error: what is wrong with it.
    """

    source: str
    error: AffektError

    def to_dict(self) -> dict[str, Any]:
        return {"source": self.source, "error": str(self.error)}

    def __str__(self) -> str:
        return "; ".join(str(fault) for fault in self.error.faults)


def to_frame(predictions: Iterable[Prediction]) -> pd.DataFrame:
    """A pandas table, one row a prediction; pandas is in the training extra."""
    import pandas

    return pandas.DataFrame([prediction.to_row() for prediction in predictions])


class Recognized(NamedTuple):
    """A model's bare answers for a batch: probabilities [batch, classes] and embeddings [batch, features]."""

    probabilities: Floats
    embeddings: Floats


class Model(Protocol):
    """What timelines and streams need of a recognizer."""

    card: ModelCard
    labels: tuple[str, ...]

    def probabilities(self, waveforms: Sequence[Floats]) -> Recognized:
        """Answers for one batch of waveforms at the model's rate."""
        ...

    def map_windows(self, batches: Iterable[Sequence[Floats]]) -> Iterator[Recognized]:
        """Answers for a long row of batches, in order."""
        ...
