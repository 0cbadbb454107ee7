"""What a result was made with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from affekt.runtime import environment

X86 = "processor\t: 0\nmodel name\t: Zilog Z80\nflags\t\t: fpu avx512_bf16 amx_bf16\n\nmodel name\t: another\n"
HIDDEN = "cpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx512_bf16\n\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16\n\n"


@pytest.mark.parametrize(
    ("table", "cpu", "bfloat16"),
    [
        (X86, "Zilog Z80", "avx512_bf16, amx_bf16"),
        (HIDDEN, "AMD EPYC (family 26, model 2)", "avx512_bf16"),
        (ARM, None, "bf16"),
        (None, None, "no"),
    ],
)
def test_the_processor_and_its_arithmetic(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, table: str | None, cpu: str | None, bfloat16: str
) -> None:
    if table is not None:
        (tmp_path / "cpuinfo").write_text(table)
    monkeypatch.setattr(environment, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr("platform.processor", lambda: "the architecture")
    facts = environment.environment()
    assert facts["cpu"] == (cpu or "the architecture")
    assert facts["bfloat16 on the cpu"] == bfloat16


def test_versions_are_those_that_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "LIBRARIES", ("numpy", "no-such-library"))
    facts = environment.environment()
    assert facts["numpy"] == np.__version__
    assert facts["no-such-library"] == "not installed"


def test_the_accelerator_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H100")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert environment.environment()["gpu"] == "H100, CUDA 13.0"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert environment.environment()["gpu"] == "Apple MPS"
