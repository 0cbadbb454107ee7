"""Invariants of compiling on first use: once, into the cache, and nothing but None where it cannot be done."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from affekt.nn import fused, kernels


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and nothing loaded yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("AFFEKT_CACHE", str(folder))
    kernels.library.cache_clear()
    yield folder
    kernels.library.cache_clear()


def _compiler(folder: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> Path:
    """Make `command` the machine's only compiler; the file that counts its calls."""
    folder.mkdir()
    script, calls = folder / "c++", folder / "calls"
    script.write_text(f'#!/bin/sh\necho >> "{calls}"\n{command}\n')
    script.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(script) if name == "c++" else None)
    return calls


def test_a_library_is_compiled_once_and_kept(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler on this machine")
    calls = _compiler(tmp_path / "bin", monkeypatch, f'exec "{compiler}" "$@"')
    for _ in range(2):
        library = kernels.library("conv_module")
        assert library is not None
        assert library.pool_forward
        kernels.library.cache_clear()
    assert calls.read_text() == "\n"
    assert [path.suffix for path in (cache / "kernels").iterdir()] == [".so"]


def test_a_compiler_that_fails_gives_no_library(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _compiler(tmp_path / "bin", monkeypatch, "exit 1")
    assert kernels.library("conv_module") is None
    assert calls.read_text() == "\n\n"  # with OpenMP and without
    assert list((cache / "kernels").iterdir()) == []


def test_without_openmp_threads_of_ours_do_the_same(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler on this machine")
    x = torch.randn(5, 9, 3, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    lengths = torch.tensor([9, 1, 4, 9, 7], dtype=torch.int32)

    def sums() -> torch.Tensor:
        found = torch.zeros(5, 2, 16)
        kernels.call("conv_module", "batch_norm_sums", 5, x, lengths, found, fused._Shape(9, 3, 16, 1))
        return found

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = sums()
        torch.set_num_threads(3)
        assert torch.equal(sums(), expected)
        kernels.library.cache_clear()
        monkeypatch.setenv("AFFEKT_CACHE", str(tmp_path / "other"))
        _compiler(tmp_path / "bin", monkeypatch, f'case "$*" in *-fopenmp*) exit 1;; esac; exec "{compiler}" "$@"')
        assert torch.equal(sums(), expected)
        assert kernels._team(kernels.library("conv_module"), "batch_norm_sums") is None  # type: ignore[arg-type]
    finally:
        torch.set_num_threads(before)


def test_a_cache_that_cannot_be_written_gives_no_library(cache: Path) -> None:
    cache.write_text("a file where a folder should be")
    assert kernels.library("conv_module") is None


def test_features_of_the_processor_are_whole_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_processor", lambda: b"flags\t\t: fpu avx512_bf16\nmodel name\t: Zilog Z80")
    assert kernels.processor_has("avx512_bf16")
    assert not kernels.processor_has("avx512")
