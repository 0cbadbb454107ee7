"""The bundled model: one ONNX file to run, and its checkpoint to start from."""

from __future__ import annotations

from pathlib import Path

BUNDLED = Path(__file__).with_name("bundled.onnx")
BUNDLED_CHECKPOINT = Path(__file__).with_name("bundled.safetensors")
