"""What is shipped: licenses and notices, supported Pythons, deployment files, and the documentation's hooks."""

from __future__ import annotations

import configparser
import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def text(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def script(name: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(name, REPOSITORY / "scripts" / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_license_covers_code_and_weights() -> None:
    assert PROJECT["license"] == "Apache-2.0 AND MIT"
    files = [path for pattern in PROJECT["license-files"] for path in REPOSITORY.glob(pattern)]
    assert {"LICENSE", "NOTICE", "MIT-Whisper.txt"} <= {path.name for path in files}
    assert "Copyright (c) 2022 OpenAI" in text("LICENSES/MIT-Whisper.txt")


def test_the_notice_names_every_source_of_the_bundled_model() -> None:
    notice = text("NOTICE")
    for source in ("Whisper", "EmoDB", "CREMA-D", "BanglaSER", "Javanese"):
        assert source in notice
    for license_name in ("MIT License", "CC0 1.0", "Open Database License", "Creative Commons Attribution 4.0"):
        assert license_name in notice


def test_the_image_ships_the_notices() -> None:
    allowed = {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}
    copied = set(re.findall(r"^COPY (?!--from)(.+) \S+$", text("Dockerfile"), re.MULTILINE))
    assert {name for line in copied for name in line.split()} <= allowed
    assert {"LICENSE", "NOTICE", "LICENSES"} <= allowed


def test_the_image_installs_by_hash_and_runs_without_rights() -> None:
    stages = text("Dockerfile").split("\nFROM ")
    assert "--require-hashes --requirement serve.txt" in stages[1]
    assert "\nUSER 10001" in stages[2]
    assert stages[2].index("\nUSER ") < stages[2].index("\nENTRYPOINT ")
    assert "/healthz" in stages[2]


def test_every_supported_python_is_stated_and_tried() -> None:
    stated = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert stated == ["3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == f">={stated[0]}"
    assert all(f'"{version}"' in text(".github/workflows/ci.yml") for version in stated)


def test_the_workflow_runs_what_runs_here() -> None:
    assert "run: .ci/run" in text(".github/workflows/ci.yml")
    assert "make test" in text(".ci/run")


def test_the_unit_starts_a_command_that_is_there(capfd: pytest.CaptureFixture[str]) -> None:
    from affekt import cli

    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(REPOSITORY / "deploy" / "affekt.service")
    _, *words = unit["Service"]["ExecStart"].split()
    assert cli.main([words[0], "--help"]) == 0
    page = capfd.readouterr().out
    assert all(word in page for word in words if word.startswith("--"))
    assert unit["Service"]["DynamicUser"] == "yes"


def test_docstrings_are_rewritten_for_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    griffe = ModuleType("griffe")
    griffe.Extension = griffe.Object = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "griffe", griffe)
    rewritten = script("docs_docstrings").rewritten
    prose, example = "See :class:`~affekt.Manifest`.", ">>> [1]  # doctest: +SKIP\n[1]"
    docstring = f"{prose}\n\n{example}\n\nArgs:\n    low, high: bounds\n        in Hz."
    assert rewritten(docstring).splitlines() == [
        "See `affekt.Manifest`.",
        "",
        "```pycon",
        ">>> [1]",
        "[1]",
        "```",
        "",
        "Args:",
        "    low: bounds",
        "        in Hz.",
        "    high: bounds",
        "        in Hz.",
    ]
