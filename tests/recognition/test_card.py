"""Model cards: what is in them comes back, and what is not a card is refused with every fault."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from affekt.errors import CheckpointError
from affekt.recognition.card import CARD_KEY, FORMAT_KEY, ModelCard


def card(**changes: Any) -> ModelCard:
    values: dict[str, Any] = {
        "labels": ("happy", "sad"),
        "sample_rate_hz": 16_000,
        "clip_seconds": 7.5,
        "masked": True,
        "temperature": 1.25,
        "unsure_below": 0.6,
        "precision": "int8",
        "opset": 18,
        "version": "0.1.0",
        "measures": {"ua": {"emodb": 0.7}},
    }
    return ModelCard(**values | changes)


def test_metadata_brings_the_card_back() -> None:
    assert ModelCard.from_metadata(card().to_metadata(), "m.onnx") == card()


def test_keys_of_later_versions_are_ignored() -> None:
    assert ModelCard.from_dict(card().to_dict() | {"mood": "blue"}, "m.onnx") == card()


@pytest.mark.parametrize("metadata", [{}, {FORMAT_KEY: "99"}, {FORMAT_KEY: "1"}, {FORMAT_KEY: "1", CARD_KEY: "{"}])
def test_files_of_others_are_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(CheckpointError, match=r"model m\.onnx"):
        ModelCard.from_metadata(metadata, "m.onnx")


def test_every_fault_of_a_card_is_named() -> None:
    damaged = card().to_dict() | {"labels": ["sad", "sad"], "temperature": 0, "unsure_below": True, "precision": "int4"}
    del damaged["version"]
    with pytest.raises(CheckpointError) as caught:
        ModelCard.from_metadata({FORMAT_KEY: "1", CARD_KEY: json.dumps(damaged)}, "m.onnx")
    named = [fault.what.removeprefix("model m.onnx: card: ") for fault in caught.value.faults]
    assert named == ["labels", "temperature", "unsure_below", "precision", "version"]


def test_a_card_must_have_all_that_the_recognizer_needs() -> None:
    required = [part.name for part in dataclasses.fields(ModelCard) if part.default is part.default_factory]
    with pytest.raises(CheckpointError) as caught:
        ModelCard.from_dict([], "m.onnx")
    assert [fault.what.rpartition(" ")[2] for fault in caught.value.faults] == required


def test_text_for_terminals() -> None:
    lines = str(card()).splitlines()
    assert "labels             happy, sad" in lines
    assert "measures.ua.emodb  0.7" in lines
