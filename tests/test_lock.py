"""The lock that a server is installed from: each pin that of the tests, each file by its hash, and nothing missing."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[1]
LOCK = (REPOSITORY / "requirements" / "serve.txt").read_text(encoding="utf-8")
ENTRY = re.compile(
    r"^(?P<name>[\w.-]+)==(?P<version>\S+)(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE
)


def locked() -> dict[str, str]:
    return {entry["name"]: entry["version"] for entry in ENTRY.finditer(LOCK)}


def closure(wanted: list[str], extras: tuple[str, ...] = ("",)) -> Iterator[str]:
    """Everything that these requirements need here, by what the installed distributions say."""
    for text in wanted:
        requirement = Requirement(text)
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        yield canonicalize_name(requirement.name)
        yield from closure(requires(requirement.name) or [], ("", *requirement.extras))


def test_the_lock_holds_pins_with_hashes_and_nothing_else() -> None:
    rest = [line for line in ENTRY.sub("", LOCK).splitlines() if line and not line.startswith("#")]
    assert rest == []
    assert len(locked()) == LOCK.count("==") > 20


def test_the_lock_pins_what_the_tests_ran_with() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    tested = {canonicalize_name(name): version for name, version in pins.items()}
    assert locked() == {name: tested[name] for name in locked()}


def test_the_lock_is_all_that_the_server_needs() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["serve"]
    assert {*closure(wanted)} <= {*locked()}
