"""Where torch computes: the choice of a device, its precision, its stream, and the seed of its random numbers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

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
    """Seed torch's own draws (initialisation, dropout) inside the block; outside nothing changes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


class _Own(threading.local):
    """What each thread has for itself."""

    def __init__(self) -> None:
        self.streams: dict[torch.device, torch.cuda.Stream] = {}


_own = _Own()


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Work on a stream of this thread's own, after all that was launched before; elsewhere than on CUDA do nothing."""
    if device.type != "cuda":
        yield
        return
    compute_exactly()
    before = torch.cuda.current_stream(device)
    if device not in _own.streams:
        _own.streams[device] = torch.cuda.Stream(device)
    stream = _own.streams[device]
    stream.wait_stream(before)
    with torch.cuda.stream(stream):
        yield
    before.wait_stream(stream)


def sent(drawn: Tensor, device: torch.device) -> Tensor:
    """What was drawn on the CPU, on a device; nobody waits until it is there."""
    return drawn.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else drawn.to(device)
