"""Fuzz targets: readers of external data, each with a strategy for inputs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis.strategies import SearchStrategy

from affekt import audio
from fuzz.model_files import checkpoint, checkpoints, exported, models, packed, recognizer, use_checkpoint, use_model
from fuzz.mutations import mutated
from fuzz.recordings import CONTAINERS, RATE_HZ, check_prediction, recordings
from fuzz.server import GOOD_REQUEST, SAMPLES, conversations, requests, use_request, use_stream
from fuzz.text_files import (
    SEGMENTS,
    TABLES,
    dumped,
    fold_files,
    manifests,
    plan,
    segment_tables,
    tables,
    toml,
    use_folds,
    use_manifest,
    use_segments,
    use_toml,
)


@dataclass(frozen=True)
class Target:
    """A reader of external data.

    Attributes:
        name: name in tables.
        good: valid inputs.
        inputs: strategy for other inputs.
        use: takes an input, and a folder for its files; raises AffektError where it refuses.
    """

    name: str
    good: Callable[[], Sequence[Any]]
    inputs: Callable[[], SearchStrategy[Any]]
    use: Callable[[Any, Path], object]


def use_audio(content: bytes, folder: Path) -> None:
    """Use a recording in every way, up to a minute of it."""
    audio.probe(content)
    minute = list(itertools.islice(audio.blocks(content, RATE_HZ, 10.0), 6))
    assert all(np.isfinite(block).all() for block in minute)
    check_prediction(recognizer().predict(content).to_dict())


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("audio", lambda: recordings()[: len(CONTAINERS)], lambda: mutated(recordings()), use_audio),
        Target("manifests", lambda: list(tables().items()), manifests, use_manifest),
        Target("segments", lambda: list(SEGMENTS), segment_tables, use_segments),
        Target("toml", lambda: [dumped(table) for table in TABLES], toml, use_toml),
        Target("folds", lambda: [json.dumps(plan()).encode()], fold_files, use_folds),
        Target("checkpoints", lambda: [packed(*checkpoint())], checkpoints, use_checkpoint),
        Target("models", lambda: [exported()], models, use_model),
        Target("http", lambda: [GOOD_REQUEST | {"content": recordings()[0]}], requests, use_request),
        Target("websocket", lambda: [({"encoding": "f32le"}, [SAMPLES[0]])], conversations, use_stream),
    )
}
