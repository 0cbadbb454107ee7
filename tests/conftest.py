"""Fixtures that every test file may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Folder of real corpora; tests that need one are skipped, by name, where it is absent."""
    folder = Path(os.environ.get("AFFEKT_CORPORA", Path(__file__).parents[2] / "shared" / "corpora"))
    if not folder.is_dir():
        pytest.skip(f"no real corpora at {folder}; set AFFEKT_CORPORA")
    return folder
