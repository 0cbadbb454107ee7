"""The output layer of a model, as the metadata of its file states it.

The layer is linear in the embedding, so an answer for another embedding (a speaker's offset taken out) or another layer
on the same embedding (fine-tuning) needs no second run of the network.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affekt.errors import CheckpointError, ConfigError

HEAD_KEY = "affekt.head"
"""Metadata key: JSON with `weight`, base64 of float32 [classes, features] in C order, and `bias`, a list."""


@dataclass(frozen=True)
class OutputLayer:
    """logits = weight z + bias, and probabilities = softmax(logits / temperature).

    Attributes:
        weight: [classes, features].
        bias: [classes].
        temperature: of the calibration.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    temperature: float = 1.0

    @classmethod
    def of(cls, metadata: Mapping[str, str], temperature: float, name: str) -> OutputLayer:
        """The layer in a model file's metadata.

        Args:
            metadata: the file's keys and values.
            temperature: that of the card.
            name: how messages name the file.

        Raises:
            ConfigError: the model states none.
            CheckpointError: a damaged one.
        """
        if HEAD_KEY not in metadata:
            raise ConfigError(
                f"model {name}",
                got="no linear output layer in its metadata",
                expected="one, as models on the pretrained encoder have",
                remedy="use the bundled model",
            )
        try:
            entry = json.loads(metadata[HEAD_KEY])
            bias = np.array(entry["bias"], np.float64)
            weight = decode_numbers(entry["weight"]).reshape(len(bias), -1)
            if bias.ndim != 1 or not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise ValueError("other shapes, or numbers that are not finite")
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"model {name}: head", got=str(error), expected="weights of the output layer"
            ) from error
        return cls(weight, bias, temperature)

    def to_metadata(self) -> dict[str, str]:
        """The entry of a model file's metadata."""
        weight = base64.b64encode(self.weight.astype("<f4").tobytes()).decode("ascii")
        return {HEAD_KEY: json.dumps({"weight": weight, "bias": self.bias.astype(np.float32).tolist()})}

    def logits(self, embeddings: NDArray[Any]) -> NDArray[np.float64]:
        """Scores [batch, classes] of embeddings [batch, features].

        >>> OutputLayer(np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([0.5, 0.0])).logits(np.ones((1, 2)))
        array([[3.5, 1. ]])
        """
        return np.asarray(embeddings, np.float64) @ self.weight.T + self.bias

    def probabilities(self, embeddings: NDArray[Any]) -> NDArray[np.float32]:
        """Calibrated probabilities [batch, classes] of embeddings [batch, features].

        >>> OutputLayer(np.eye(2), np.zeros(2)).probabilities(np.zeros((1, 2))).tolist()
        [[0.5, 0.5]]
        """
        scores = self.logits(embeddings) / self.temperature
        exponentials = np.exp(scores - scores.max(1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(1, keepdims=True), np.float32)


def decode_numbers(values: object) -> NDArray[np.float64]:
    """A list of numbers, or base64 of float32, as float64 [numbers].

    Raises:
        ValueError: neither.

    >>> decode_numbers([1, 2]), decode_numbers("AACAPw==")
    (array([1., 2.]), array([1.]))
    """
    if isinstance(values, str):
        return np.frombuffer(base64.b64decode(values, validate=True), "<f4").astype(np.float64)
    return np.array(values, np.float64).ravel()
