"""What tests of networks share."""

from __future__ import annotations

from typing import Any

import pytest
from torch.utils._python_dispatch import TorchDispatchMode


class NoWaiting(TorchDispatchMode):
    """Forbids what waits for a device: a tensor's value, sizes that follow from values, tensors of Python's numbers."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        waiting = ("_local_scalar_dense", "lift_fresh", "nonzero", "masked_select", "unique", "repeat_interleave")
        assert not func.name().removeprefix("aten::").startswith(waiting), f"{func.name()} waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.fixture
def no_waiting() -> TorchDispatchMode:
    """A context in which nothing may wait for a device."""
    return NoWaiting()
