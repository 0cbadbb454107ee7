"""Releases of corpora, built as their authors ship them but for the sound."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

Write = Callable[..., Path]


def write_recording(path: Path, seconds: float = 0.05, sample_rate_hz: int = 16_000, **options: object) -> Path:
    """A short noise of its own: two files hold the same samples only if they have the same name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    if path.suffix.lower() == ".opus":
        options |= {"format": "OGG", "subtype": "OPUS"}
    soundfile.write(path, 0.1 * rng.standard_normal(round(seconds * sample_rate_hz)), sample_rate_hz, **options)
    return path


@pytest.fixture
def recording() -> Write:
    """`recording(path)` writes a short recording."""
    return write_recording


@pytest.fixture
def release(tmp_path: Path) -> Callable[..., Path]:
    """`release("a/b.wav", ...)` makes a folder with recordings of these names and returns it."""

    def make(*names: str) -> Path:
        for name in names:
            write_recording(tmp_path / "release" / name)
        return tmp_path / "release"

    return make


@pytest.fixture
def without_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the extra `containers`: films cannot be decoded."""
    monkeypatch.setattr("affekt.audio.containers.available", lambda: False)
