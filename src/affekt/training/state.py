"""The state file of an unfinished training: what resuming it needs, with a hash in front.

Format: 32 bytes, the SHA-256 of :data:`STATE_FORMAT` and the rest; then the output of `torch.save`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from affekt.runtime.atomic_files import write_bytes

STATE_FORMAT = b"affekt-state-1"
DIGEST_BYTES = 32


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state atomically.

    Args:
        path: the file.
        state: tensors, numbers, texts, and lists and dicts of these.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getvalue()
    write_bytes(path, _digest(content) + content)


def read_state(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Read a state without unpickling anything but tensors and plain values.

    Args:
        path: the file.
        device: where its tensors go.

    Returns:
        The state; None if any bit of the file is wrong, so that the training starts anew.
    """
    file = path.read_bytes()
    digest, content = file[:DIGEST_BYTES], file[DIGEST_BYTES:]
    if digest != _digest(content):  # torch.load would not notice a flipped bit
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    return state


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(STATE_FORMAT + content).digest()
