"""Predictions, failures, and the protocol of a model. Plain values: importing them needs no library."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
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
"""The label where nobody speaks, and the reason why there is no emotion."""
SILENCE = "silence"
"""The reason where no sample is above -80 dB of full scale."""
LOW_CONFIDENCE = "low confidence"
UNLIKE_TRAINING = "unlike the training speech"
"""Reasons why a prediction is unsure."""


@dataclass(frozen=True, slots=True, repr=False)
class Prediction:
    """The emotion of a recording or of a part of it.

    Attributes:
        label: the most probable class, or :data:`NO_SPEECH`.
        confidence: its probability; 0 without speech.
        probabilities: every class and its calibrated probability; they sum to 1, or are 0 without speech.
        unsure: the label should not be relied on, for the reason that `reason` states.
        source: the file, or what else was heard.
        start_seconds, end_seconds: the part that was heard.
        truncated: the recording goes on, but only its first clip was asked for.
        reason: None, :data:`NO_SPEECH`, :data:`SILENCE`, :data:`UNLIKE_TRAINING` or :data:`LOW_CONFIDENCE`.
        speech: probability that somebody speaks; None where the model does not estimate it.
        channel: `left` or `right`, or the channel's number from 1; None: the mean of all channels.
        model: name, version and content hash of the model.
        adapted: what was assumed about the speaker; empty: nothing.

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
    reason: str | None = None
    speech: float | None = None
    channel: str | None = None
    model: str = ""
    adapted: str = ""

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

        Args:
            labels: class names.
            probabilities: of the classes, in the same order.
            unsure_below: confidence below which the prediction is unsure.
            source, start_seconds, end_seconds, truncated: as the attributes.

        Returns:
            The most probable class, with all probabilities.

        >>> prediction = Prediction.of(("happy", "sad"), [0.4, 0.6], 0.7, "a.wav", 0.0, 1.0)
        >>> prediction.unsure, prediction.reason
        (True, 'low confidence')
        """
        named = {label: float(value) for label, value in zip(labels, probabilities, strict=True)}
        label = max(named, key=named.__getitem__)
        unsure = named[label] < unsure_below
        reason = LOW_CONFIDENCE if unsure else None
        return cls(label, named[label], named, unsure, source, start_seconds, end_seconds, truncated, reason)

    @classmethod
    def no_speech(cls, labels: Sequence[str], source: str, start_seconds: float, end_seconds: float) -> Prediction:
        """The answer where nobody speaks.

        Args:
            labels: class names.
            source, start_seconds, end_seconds: as the attributes.

        Returns:
            A prediction without an emotion: every probability is 0.
        """
        nothing = dict.fromkeys(labels, 0.0)
        return cls(NO_SPEECH, 0.0, nothing, True, source, start_seconds, end_seconds, reason=NO_SPEECH)

    @property
    def silent(self) -> bool:
        """Whether there is no speech because there is no sound."""
        return self.reason == SILENCE

    @property
    def marked_label(self) -> str:
        """The label, with ` ?` behind it where it is unsure, for formats without a place for that."""
        return f"{self.label} ?" if self.unsure and self.label != NO_SPEECH else self.label

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON holds them; `channel` and `adapted` only where they say something."""
        values: dict[str, Any] = {
            "source": self.source,
            "start_seconds": self.start_seconds,
            "end_seconds": self.end_seconds,
            "label": self.label,
            "confidence": self.confidence,
            "unsure": self.unsure,
            "probabilities": dict(self.probabilities),
            "truncated": self.truncated,
            "reason": self.reason,
            "speech": self.speech,
            "model": self.model,
        }
        said = {"channel": self.channel, "adapted": self.adapted}
        return values | {key: value for key, value in said.items() if value}

    def to_row(self) -> dict[str, Any]:
        """One flat row of a table; probabilities are columns `prob.<class>`."""
        row = self.to_dict()
        probabilities = row.pop("probabilities")
        return row | {f"prob.{label}": value for label, value in probabilities.items()}

    def __repr__(self) -> str:
        answer = repr(self.label) if self.label == NO_SPEECH else f"{self.label!r}, {self.confidence:.2f}"
        doubt = f", unsure: {self.reason}" if self.unsure and self.label != NO_SPEECH else ""
        doubt = f" ({SILENCE})" if self.silent else doubt
        return f"<Prediction {self.source!r}, {self.start_seconds:.1f}-{self.end_seconds:.1f} s: {answer}{doubt}>"

    def _repr_html_(self) -> str:
        """The prediction in a notebook."""
        from affekt.recognition.notebook_html import prediction_html

        return prediction_html(self)

    def __str__(self) -> str:
        named = ", ".join(f"{label} {value:.2f}" for label, value in self.probabilities.items())
        other = self.reason not in (None, LOW_CONFIDENCE)
        doubt = (f" unsure, {self.reason}" if other else " unsure") if self.unsure and self.label != NO_SPEECH else ""
        certainty = (
            f" ({SILENCE})" * self.silent
            if self.label == NO_SPEECH
            else f" {100 * self.confidence:.0f} %{doubt} ({named})"
        )
        return f"{self.source}: {self.label}{certainty}"


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why one of many recordings has no prediction.

    Attributes:
        source: the recording.
        error: what is wrong with it.
        channel: `left` or `right`, or the channel's number from 1; None: the mean of all channels.
    """

    source: str
    error: AffektError
    channel: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON holds them; `channel` only where one was asked for."""
        values = {"source": self.source, "error": str(self.error)}
        return values | ({"channel": self.channel} if self.channel else {})

    def __str__(self) -> str:
        return "; ".join(str(fault) for fault in self.error.faults)


def to_frame(predictions: Iterable[Prediction]) -> pd.DataFrame:
    """A pandas table, one row a prediction; pandas is in the training extra."""
    import pandas

    return pandas.DataFrame([prediction.to_row() for prediction in predictions])


class Recognized(NamedTuple):
    """A model's bare answers for a batch.

    Attributes:
        probabilities: [batch, classes].
        embeddings: [batch, features].
        speech: probability that somebody speaks, [batch]; None where the model has no such output.
        outlier: how unlike the training speech, [batch]; None where the model has no such output.
    """

    probabilities: Floats
    embeddings: Floats
    speech: Floats | None = None
    outlier: Floats | None = None

    def rows(self) -> list[Recognized]:
        """The answers of each recording, as batches of one."""
        parts = [slice(row, row + 1) for row in range(len(self.probabilities))]
        speech, outlier = self.speech, self.outlier
        return [
            Recognized(
                self.probabilities[part],
                self.embeddings[part],
                None if speech is None else speech[part],
                None if outlier is None else outlier[part],
            )
            for part in parts
        ]

    def prediction(
        self, row: int, model: Model, unsure_below: float, source: str, start_seconds: float, end_seconds: float
    ) -> Prediction:
        """The prediction for one recording of the batch: see :func:`judged`."""
        speech = None if self.speech is None else float(self.speech[row])
        outlier = None if self.outlier is None else float(self.outlier[row])
        values = self.probabilities[row].tolist()
        return judged(model, values, unsure_below, source, start_seconds, end_seconds, speech, outlier)


class Model(Protocol):
    """The part of a recognizer that timelines and streams need."""

    card: ModelCard
    labels: tuple[str, ...]

    @property
    def identity(self) -> str:
        """Name, version and content hash."""
        ...

    @property
    def assumption(self) -> str:
        """Assumption about the speaker; empty: none."""
        ...

    def probabilities(self, waveforms: Sequence[Floats]) -> Recognized:
        """Answers for one batch of waveforms at the model's rate."""
        ...

    def map_windows(self, batches: Iterable[Sequence[Floats]]) -> Iterator[Recognized]:
        """Answers for a long row of batches, in order."""
        ...


def judged(
    model: Model,
    probabilities: Sequence[float],
    unsure_below: float,
    source: str,
    start_seconds: float,
    end_seconds: float,
    speech: float | None = None,
    outlier: float | None = None,
) -> Prediction:
    """The prediction for a model's answers, by the thresholds of its card: no speech, unlike the training, unsure.

    Args:
        model: whose answers they are.
        probabilities: of its classes.
        unsure_below: confidence below which the prediction is unsure.
        source, start_seconds, end_seconds: what was heard.
        speech, outlier: the model's scores; None where it has none.
    """
    card, labels = model.card, model.labels
    if speech is not None and card.speech_below is not None and speech < card.speech_below:
        prediction = Prediction.no_speech(labels, source, start_seconds, end_seconds)
    else:
        prediction = Prediction.of(labels, probabilities, unsure_below, source, start_seconds, end_seconds)
        if outlier is not None and card.outlier_above is not None and outlier > card.outlier_above:
            prediction = replace(prediction, unsure=True, reason=UNLIKE_TRAINING)
    return replace(prediction, speech=speech, model=model.identity, adapted=model.assumption)


def without_speech(model: Model, source: str, start_seconds: float, end_seconds: float, silent: bool) -> Prediction:
    """A model's answer where nobody speaks, without a run of the model.

    Args:
        model: which is named in the answer.
        source, start_seconds, end_seconds: what was heard.
        silent: whether there is no sound at all, which is then the reason.
    """
    prediction = Prediction.no_speech(model.labels, source, start_seconds, end_seconds)
    return replace(prediction, model=model.identity, reason=SILENCE if silent else NO_SPEECH)


def identity_of(name: str, version: str, content: bytes) -> str:
    """The name of a model in predictions: its file's name, the version of affekt that wrote it, and the file's SHA-256.

    >>> identity_of("models/mine.onnx", "0.2.0", b"")
    'mine.onnx 0.2.0 sha256:e3b0c44298fc'
    """
    return f"{PurePath(name).name} {version} sha256:{hashlib.sha256(content).hexdigest()[:12]}"
