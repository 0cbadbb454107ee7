"""C++ kernels, compiled on first use by the machine's compiler and kept in the cache.

A kernel processes a range of a batch's utterances and writes results per utterance, so that they do not depend on the
number of threads. Threads are OpenMP's (`team.h`), or Python's if the compiler has no OpenMP.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from affekt.runtime.atomic_files import write_bytes

FLAGS = (
    "-O3",
    "-std=c++17",
    "-march=native",
    "-mprefer-vector-width=512",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-shared",
    "-fPIC",
)


@cache
def library(name: str) -> ctypes.CDLL | None:
    """The compiled `name`.cpp; None without a compiler or a cache to write to, or where AFFEKT_FUSED is 0."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None or os.environ.get("AFFEKT_FUSED", "1") == "0":
        return None
    source = b"\n".join(files(__name__).joinpath(file).read_bytes() for file in ("team.h", f"{name}.cpp"))
    key = hashlib.sha256(b"\0".join([source, repr(FLAGS).encode(), compiler.encode(), _processor()])).hexdigest()[:16]
    folder = Path(os.environ.get("AFFEKT_CACHE", Path.home() / ".cache" / "affekt")) / "kernels"
    compiled = folder / f"{name}-{key}.so"
    try:
        if not compiled.exists():
            _compile(compiler, source, compiled)
        return ctypes.CDLL(str(compiled))
    except (OSError, subprocess.CalledProcessError):  # no writable cache, no working compiler
        return None


def _processor() -> bytes:
    """The CPU features that -march=native depends on, so that machines can share a cache."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_bytes().splitlines() if cpuinfo.exists() else [repr(os.uname()).encode()]
    return b"\n".join(sorted({line for line in lines if line.startswith((b"flags", b"model name", b"Features"))}))


def processor_has(feature: str) -> bool:
    """Whether the CPU has a feature by its Linux name, such as avx512_bf16."""
    return feature.encode() in _processor().split()


def _compile(compiler: str, source: bytes, compiled: Path) -> None:
    compiled.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=compiled.parent) as folder:
        code, built = Path(folder) / "kernel.cpp", Path(folder) / compiled.name
        code.write_bytes(source)
        command = [compiler, *FLAGS, "-o", str(built), str(code)]
        if subprocess.run([*command, "-fopenmp"], check=False, capture_output=True).returncode:
            subprocess.run(command, check=True, capture_output=True)  # it may have no OpenMP
        write_bytes(compiled, built.read_bytes())


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="affekt-kernel")


@cache
def _team(compiled: ctypes.CDLL, name: str) -> Callable[..., None] | None:
    """The kernel with OpenMP threads; None if it was compiled without OpenMP."""
    try:
        address = ctypes.c_void_p.in_dll(compiled, f"{name}_team").value
    except ValueError:
        return None
    team: Callable[..., None] = ctypes.CFUNCTYPE(None)(address or 0)
    return team


def call(source: str, name: str, utterances: int, *arguments: Any) -> None:
    """Run a kernel over all utterances, on as many threads as torch uses."""
    compiled = library(source)
    assert compiled is not None
    kernel: Callable[..., None] = getattr(compiled, name)
    converted = [ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else a for a in arguments]
    threads = min(torch.get_num_threads(), utterances)
    if threads == 1:
        kernel(*converted, 0, utterances)
    elif team := _team(compiled, name):
        team(*converted, utterances, threads)
    else:
        edges = [utterances * k // threads for k in range(threads + 1)]
        tasks = [_pool(threads).submit(kernel, *converted, first, last) for first, last in pairwise(edges)]
        for task in tasks:
            task.result()
