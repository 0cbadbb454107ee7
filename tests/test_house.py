"""Rules for every file of the repository."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from affekt import __version__, cli

REPOSITORY = Path(__file__).parents[1]
SOURCES = sorted((REPOSITORY / "src").rglob("*.py"))
LONGEST_FUNCTION_LINES = 60
LONGEST_FILE_LINES = 450
LONG_FILES: dict[str, str] = {}
"""Longer files, each with the reason why splitting it would hide the idea; ARCHITECTURE.md lists them too."""
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def source_id(path: Path) -> str:
    return path.relative_to(REPOSITORY / "src").as_posix()


def tracked_files() -> list[Path]:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("no git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [REPOSITORY / name for name in listed.stdout.split("\0") if name and (REPOSITORY / name).is_file()]


def test_no_file_names_a_place_on_the_machine_where_it_was_written() -> None:
    checkout = re.escape(str(REPOSITORY)) + r"\b"
    home = r"/(?:home|root|Users)/[\w.-]"
    place = re.compile(f"{checkout}|{home}".encode())
    found = [str(path) for path in tracked_files() if place.search(path.read_bytes()) and path != Path(__file__)]
    assert found == []


@pytest.mark.parametrize("path", SOURCES, ids=source_id)
def test_every_public_name_is_documented(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = [node for node in tree.body if isinstance(node, DEFINITIONS) and not node.name.startswith("_")]
    assert ast.get_docstring(tree), "the module has no docstring"
    assert [node.name for node in public if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", [path for path in SOURCES if "study" not in path.stem], ids=source_id)
def test_docstrings_begin_with_a_noun_or_a_verb(path: Path) -> None:
    clause = re.compile(r"(What|Where|Why|How|Which|Who|When|If|As in|By|From|On a|With)\b")
    texts = {
        node.name: ast.get_docstring(node) or ""
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, DEFINITIONS)
    }
    assert {name: text.partition("\n")[0] for name, text in texts.items() if clause.match(text)} == {}


@pytest.mark.parametrize("path", SOURCES, ids=source_id)
def test_functions_fit_on_a_page(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lengths = {
        node.name: (node.end_lineno or 0) - node.lineno + 1 - docstring_lines(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION_LINES} == {}


def test_files_are_short() -> None:
    lengths = {source_id(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    too_long = {name for name, lines in lengths.items() if lines > LONGEST_FILE_LINES}
    assert too_long - set(LONG_FILES) == set()
    beside = [path for folder in ("benchmarks", "fuzz", "scripts") for path in (REPOSITORY / folder).rglob("*.py")]
    assert [path for path in beside if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST_FILE_LINES] == []


def test_the_architecture_is_short_and_names_what_exists() -> None:
    text = (REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 120] == []
    package = REPOSITORY / "src" / "affekt"
    folders = {path.name for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert {name for name in folders if f"| `{name}/` |" not in text} == set()
    named = re.findall(r"`([a-z_0-9/]+(?:/|\.py))`", text)
    roots = (package, REPOSITORY, *(package / folder for folder in folders))
    assert [name for name in named if not any((root / name).exists() for root in roots)] == []
    assert [name for name in LONG_FILES if f"`{name.removeprefix('affekt/')}`" not in text] == []
    defined = re.findall(r"`([\w/]+\.py)`: `(\w+)", text)
    assert [pair for pair in defined if not re.search(rf"\b{pair[1]}\b", (package / pair[0]).read_text())] == []


def test_no_two_public_classes_share_a_name() -> None:
    """A name means one thing in the whole package."""
    places: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(source_id(path))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_two_modules_share_a_name() -> None:
    """The verbs of the command line are named after what they run, so they may share a module's name."""
    modules = [path for path in SOURCES if not path.stem.startswith("__") and path.parent.name != "cli"]
    names = [path.stem for path in modules]
    assert sorted(source_id(path) for path in modules if names.count(path.stem) > 1) == []


def docstring_lines(node: ast.FunctionDef) -> int:
    first = node.body[0]
    return (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(node) else 0


def test_a_file_is_named_after_what_it_does() -> None:
    meaningless = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
    assert [source_id(path) for path in SOURCES if path.stem in meaningless] == []


def test_one_version_everywhere() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["version"]["path"] == "src/affekt/__init__.py"
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (\S+)$", citation, re.MULTILINE) == [__version__]
    changes = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[?(\d[^\]\s]*)", changes, re.MULTILINE)[:1] == [__version__]


def test_every_library_is_pinned_once() -> None:
    pins = [line for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    names = [normal_name(pin.partition("==")[0]) for pin in pins]
    assert len(set(names)) == len(names)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["train"], *extras["serve"], *extras["audformat"], *extras["dev"]]
    required = {normal_name(re.split(r"[\[<>=]", line)[0]) for line in wanted} - {"affekt"}
    assert required - set(names) == set()


def normal_name(distribution: str) -> str:
    """A distribution's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_every_missing_library_is_named_with_its_extra() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    imports = {
        "scikit-learn": "sklearn",
        "python-multipart": "python_multipart",
        "tomli-w": "tomli_w",
        "prometheus-client": "prometheus_client",
        "mlflow-skinny": "mlflow",
    }
    for extra, modules in cli.EXTRAS.items():
        names = {re.split(r"[\[<>=]", line)[0] for line in project["optional-dependencies"][extra]}
        assert {imports.get(name, name) for name in names} - set(modules) == set()


def test_every_verb_has_its_row() -> None:
    files = {path.stem for path in (REPOSITORY / "src/affekt/cli").glob("*.py")} - {"__init__"}
    verbs = {f"affekt.cli.{file}" for file in files if f"\ndef {file}(" in source_of(file)}
    assert {row.function.partition(":")[0] for row in cli.VERBS.values()} == verbs


def source_of(verb: str) -> str:
    return (REPOSITORY / f"src/affekt/cli/{verb}.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_every_verb_explains_itself(capfd: pytest.CaptureFixture[str], verb: str) -> None:
    module, _, name = cli.VERBS[verb].function.partition(":")
    function = getattr(importlib.import_module(module), name)
    first, *_ = (inspect.getdoc(function) or "").split("\n\n")
    assert " ".join(first.split()) == cli.VERBS[verb].summary
    assert cli.main([verb, "--help"]) == 0
    page = capfd.readouterr().out
    assert f"Usage: affekt {verb}" in page


def test_help_imports_nothing_heavy() -> None:
    program = "import sys; from affekt.cli import main; main(['--help']); print(*sorted(sys.modules), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"torch", "pandas", "numpy", "onnxruntime", "soundfile", "scipy", "rich", "pygments"}
    assert heavy & set(done.stdout.splitlines()) == set()
    assert "affekt.cli" in done.stdout.splitlines()
