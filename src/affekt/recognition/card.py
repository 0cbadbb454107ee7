"""The model card that every exported model carries in its metadata: what it is, how it was made and measured.

The card is JSON under the key `affekt.card` of the ONNX file's metadata, beside `affekt.format`, the version of this
layout. Reading it needs the standard library alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self

from affekt.data.training_audio import readable
from affekt.errors import CheckpointError, Fault

FORMAT = "1"
FORMAT_KEY = "affekt.format"
CARD_KEY = "affekt.card"

MOST_NUMBERS = 16
"""Longer vectors are counted for people."""
UNSURE_BELOW = 0.5
"""Default confidence below which a prediction is marked unsure."""

Precision = Literal["float32", "int8"]


@dataclass(frozen=True)
class ModelCard:
    """Facts about a model for its users, and the settings that the recognizer needs to run it.

    Attributes:
        labels: class names, in the order of the probabilities.
        sample_rate_hz: rate of the waveforms.
        clip_seconds: longer recordings are cut to this length.
        masked: whether the network hides padding. If not, it sees every recording filled with silence to
            `clip_seconds`, and recordings of any lengths cost the same.
        temperature: what the logits are divided by, fitted on validation data.
        unsure_below: predictions less confident than this are marked unsure. With calibrated probabilities a label
            below 0.5 is more likely wrong than right.
        precision: of the convolutions.
        opset: version of the ONNX operators.
        version: of affekt, when the model was exported.
        license: of the weights.
        features: the front end's configuration.
        normalizer: `mean` and `std` of each mel band.
        provenance: data, recipe, seeds and commands that made the weights.
        measures: what was measured, on what.
        speech_below: recordings whose `speech` output is below this hold no speech; None: the model has no such output.
        outlier_above: recordings whose `outlier` output is above this are unlike the training speech, and unsure; None:
            the model has no such output.
        adaptation: parameters of the adaptation to a speaker; empty: none were fitted.
    """

    labels: tuple[str, ...]
    sample_rate_hz: int
    clip_seconds: float
    masked: bool
    temperature: float
    unsure_below: float
    precision: Precision
    opset: int
    version: str
    license: str = "not stated"
    features: Mapping[str, Any] = field(default_factory=dict)
    normalizer: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    measures: Mapping[str, Any] = field(default_factory=dict)
    speech_below: float | None = None
    outlier_above: float | None = None
    adaptation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def clip_samples(self) -> int:
        return round(self.clip_seconds * self.sample_rate_hz)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        return asdict(self) | {"labels": list(self.labels)}

    def to_metadata(self) -> dict[str, str]:
        """Keys and values for the ONNX file's metadata."""
        return {FORMAT_KEY: FORMAT, CARD_KEY: json.dumps(self.to_dict(), sort_keys=True)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], name: str) -> Self:
        """The card in a model file's metadata.

        Args:
            metadata: the file's keys and values.
            name: how messages name the file.

        Raises:
            CheckpointError: the file was not written by affekt, or with another layout, or its card is damaged.
        """
        if metadata.get(FORMAT_KEY) != FORMAT:
            raise CheckpointError(
                f"model {name}",
                got="no affekt metadata" if FORMAT_KEY not in metadata else f"format {metadata[FORMAT_KEY]!r}",
                expected=f"an ONNX file of format {FORMAT}, written by `affekt export`",
            )
        try:
            data = json.loads(metadata.get(CARD_KEY, ""))
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"model {name}: card", got=str(error), expected="JSON") from error
        return cls.from_dict(data, name)

    @classmethod
    def from_dict(cls, data: object, name: str) -> Self:
        """The card that :meth:`to_dict` described; keys of later versions are ignored.

        Raises:
            CheckpointError: missing or senseless values, all at once.
        """
        values = data if isinstance(data, dict) else {}
        if "licence" in values:  # as version 0.1 spelled it
            values = {"license": values["licence"]} | values
        faults = [
            Fault(
                f"model {name}: card: {key}", got=repr(values[key]) if key in values else "nothing", expected=expected
            )
            for key, (expected, valid) in _RULES.items()
            if not (key in values and valid(values[key]))
        ]
        faults += [
            Fault(f"model {name}: card: {key}", got=repr(values[key])[:80], expected=expected)
            for key, (expected, valid) in _OPTIONAL.items()
            if values.get(key) is not None and not valid(values[key])
        ]
        if faults:
            raise CheckpointError.of(faults)
        known = {part.name: values[part.name] for part in fields(cls) if part.name in values}
        return cls(**known | {"labels": tuple(known["labels"])})

    def to_readable(self) -> dict[str, Any]:
        """The card for people: the training recordings and long vectors are counted, not listed."""
        values = self.to_dict() | {"provenance": readable(self.provenance)}
        return {key: _counted(value) for key, value in values.items()}

    def __str__(self) -> str:
        """A few lines for a terminal."""
        lines = {
            "labels": ", ".join(self.labels),
            "input": f"{self.sample_rate_hz} Hz mono, up to {self.clip_seconds:g} s, "
            + ("any length" if self.masked else "filled with silence"),
            "calibration": f"temperature {self.temperature:.3f}; unsure below {self.unsure_below:.2f}",
            "precision": f"{self.precision} (ONNX opset {self.opset})",
            "license": self.license,
            "written by": f"affekt {self.version}",
        }
        described = lines | _flat("provenance", readable(self.provenance)) | _flat("measures", self.measures)
        width = max(map(len, described))
        return "\n".join(f"{key:<{width}}  {value}" for key, value in described.items())


def _counted(value: Any) -> Any:
    """A value whose long vectors are replaced by the count of their numbers.

    >>> _counted({"mean": [0.0] * 80, "range": [0.0, 1.0]})
    {'mean': '80 numbers', 'range': [0.0, 1.0]}
    """
    if isinstance(value, Mapping):
        return {key: _counted(item) for key, item in value.items()}
    if isinstance(value, list) and len(value) > MOST_NUMBERS and all(isinstance(item, int | float) for item in value):
        return f"{len(value)} numbers"
    return value


def _flat(prefix: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Nested mappings as dotted lines.

    >>> _flat("measures", {"ua": {"emodb": 0.7}})
    {'measures.ua.emodb': '0.7'}
    """
    lines: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}"
        lines |= _flat(name, value) if isinstance(value, Mapping) else {name: str(value)}
    return lines


def _is_number(low: float, high: float) -> Any:
    def check(value: object) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high

    return check


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_labels(value: object) -> bool:
    return isinstance(value, list) and len(set(map(str, value))) == len(value) >= 2 and all(map(_is_text, value))


_RULES: dict[str, tuple[str, Any]] = {
    "labels": ("two or more different names", _is_labels),
    "sample_rate_hz": ("a rate in Hz", _is_number(1_000, 768_000)),
    "clip_seconds": ("a length in seconds", _is_number(0.01, 3_600)),
    "masked": ("true or false", lambda value: isinstance(value, bool)),
    "temperature": ("a number above 0", _is_number(1e-6, 1e6)),
    "unsure_below": ("a number from 0 to 1", _is_number(0.0, 1.0)),
    "precision": ("float32 or int8", lambda value: value in ("float32", "int8")),
    "opset": ("a version number", _is_number(1, 1_000)),
    "version": ("text", _is_text),
}
_OPTIONAL: dict[str, tuple[str, Any]] = {
    "speech_below": ("a number from 0 to 1, or null", _is_number(0.0, 1.0)),
    "outlier_above": ("a number, or null", _is_number(-1e9, 1e9)),
    "adaptation": ("a table", lambda value: isinstance(value, dict)),
}
