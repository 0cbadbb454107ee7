"""Devices of torch: their choice, their precision, and the seed of their random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from affekt.errors import ConfigError


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Mixed precision as asked for; "auto" is bfloat16 where the device has instructions for it."""
    if precision == "auto":
        precision = "bfloat16" if _computes_bfloat16(device) else "float32"
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def choose_device(name: str) -> torch.device:
    """The device for `--device`: auto takes CUDA, then Apple's MPS, then the CPU.

    Where it is CUDA, cuDNN computes exactly from then on (:func:`compute_exactly`).

    Raises:
        ConfigError: an unknown device, or one that this machine lacks.
    """
    counts = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    present = [kind for kind, count in counts.items() if count]
    known = [*present, *(f"{kind}:{index}" for kind in present for index in range(counts[kind]))]
    if name not in ("auto", *known):
        raise ConfigError("device", got=repr(name), expected=f"auto, or one that is here: {', '.join(known)}")
    device = torch.device(present[0] if name == "auto" else name)
    if device.type == "cuda":
        compute_exactly()
    return device


def compute_exactly() -> None:
    """Have cuDNN compute float32 in float32, not TensorFloat-32, and add in one order; in the whole process."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's own draws (initialization, dropout) inside the block; outside nothing changes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Compute with so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
