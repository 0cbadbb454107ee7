"""The machine and the library versions behind a result."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

from affekt import __version__
from affekt.runtime.cpu_affinity import available_cores

LIBRARIES = ("numpy", "onnxruntime", "soundfile", "soxr", "torch", "scikit-learn", "scipy", "pandas")
"""Distributions whose version can change numbers."""

_CPUINFO = Path("/proc/cpuinfo")
_BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")
"""Names of bfloat16 arithmetic among the CPU flags that Linux lists on x86-64 and ARM."""


def environment() -> dict[str, str]:
    """Facts that reproducing a result needs, by name; `not installed` for absent libraries.

    >>> environment()["python"].startswith("3.")
    True
    """
    described = {
        "affekt": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": str(available_cores()),
        "bfloat16 on the cpu": ", ".join(flag for flag in _BF16_FLAGS if flag in cpu_flags()) or "no",
    }
    return described | {name: version(name) for name in LIBRARIES} | _torch_facts()


def cpu_name() -> str:
    """The name of the CPU, else its architecture.

    Virtual machines may hide the model ("AMD EPYC"); its family and model numbers are then added.
    """
    listed = _cpuinfo()
    name = listed.get("model name") or platform.processor() or platform.machine()
    hidden = not any(character.isdigit() for character in name)
    if hidden and {"cpu family", "model"} <= listed.keys():
        name += f" (family {listed['cpu family']}, model {listed['model']})"
    return name


def cpu_flags() -> frozenset[str]:
    """Instruction set flags of the CPU on Linux; empty elsewhere."""
    listed = _cpuinfo()
    return frozenset((listed.get("flags") or listed.get("Features") or "").split())


def _cpuinfo() -> dict[str, str]:
    """The entries of the first CPU in /proc/cpuinfo."""
    try:
        first = _CPUINFO.read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return {}
    entries = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in entries}


def version(distribution: str) -> str:
    """The version of an installed distribution, or `not installed`."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _torch_facts() -> dict[str, str]:
    """Number of threads and accelerator of torch, if it is installed."""
    try:
        import torch
    except ModuleNotFoundError:
        return {}
    gpu = "none"
    if torch.cuda.is_available():
        gpu = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    elif torch.backends.mps.is_available():
        gpu = "Apple MPS"
    return {"torch threads": str(torch.get_num_threads()), "gpu": gpu}
