"""affekt: speech emotion recognition with a declared protocol."""

from __future__ import annotations

__version__ = "0.1.0"
