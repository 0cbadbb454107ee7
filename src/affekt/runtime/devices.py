"""PyTorch devices: choice, mixed precision, threads, and seeding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from affekt.errors import ConfigError


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """A context of mixed precision.

    Args:
        device: where to compute.
        precision: "float32", "bfloat16", or "auto": bfloat16 if the device has instructions for it.
    """
    if precision == "auto":
        precision = "bfloat16" if _computes_bfloat16(device) else "float32"
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def choose_device(name: str) -> torch.device:
    """The device of a name.

    Args:
        name: "cpu", "cuda", "cuda:1", "mps", or "auto": CUDA if present, then MPS, then the CPU. With CUDA,
            :func:`compute_exactly` is called.

    Raises:
        ConfigError: an unknown device, or one that is not present.
    """
    counts = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    present = [kind for kind, count in counts.items() if count]
    known = [*present, *(f"{kind}:{index}" for kind in present for index in range(counts[kind]))]
    if name not in ("auto", *known):
        raise ConfigError("device", got=repr(name), expected=f"auto, or a present device: {', '.join(known)}")
    device = torch.device(present[0] if name == "auto" else name)
    if device.type == "cuda":
        compute_exactly()
    return device


def compute_exactly() -> None:
    """Disable TensorFloat-32 and nondeterministic algorithms of cuDNN, in the whole process."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators inside the block, and restore them afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set the number of torch's CPU threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
