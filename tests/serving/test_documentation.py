"""docs/serving.md agrees with the program: flags, paths and defaults."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from affekt.cli import main
from affekt.serving.settings import Limits

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


def test_every_flag_exists(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--help"]) == 0
    known = set(re.findall(r"--[\w.-]+", capfd.readouterr().out))
    said = set(re.findall(r"--[a-z][\w.-]+", " ".join(re.findall(r"`(?:affekt serve |)(--[^`]+)`", PAGE))))
    assert {"--model", "--host", "--workers"} <= known
    assert said - known <= {"--rate"}  # benchmarks/load.py


def test_every_path_is_answered(client: TestClient) -> None:
    for method, path in [*re.findall(r"`(GET|POST) (/[\w/.]+)", PAGE), ("GET", "/readyz"), ("GET", "/openapi.json")]:
        assert client.request(method, path).status_code in (200, 400), path


def test_every_limit_is_listed_with_its_default() -> None:
    rows = re.findall(r"^\| `([\w-]+)`[^|]*\| ([\d.]+) \|", PAGE, re.MULTILINE)
    listed = {name.replace("-", "_"): float(value) for name, value in rows}
    assert listed == {name: float(value) for name, value in asdict(Limits()).items()}
