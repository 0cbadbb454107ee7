"""The bundled model: one ONNX file."""

from __future__ import annotations

from pathlib import Path

BUNDLED = Path(__file__).with_name("bundled.onnx")
