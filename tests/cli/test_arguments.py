"""From words to values: every spelling, every kind of value, what is wrong; and pages that say it all."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affekt import cli
from affekt.cli.framework.arguments import Option, arguments_of, is_table
from affekt.cli.framework.calls import call
from affekt.cli.framework.help_pages import HELP, page
from affekt.errors import ConfigError


@dataclass(frozen=True)
class Noise:
    """What is added.

    Attributes:
        lowest_db, highest_db: the range.
    """

    lowest_db: float = 5.0
    highest_db: float = 30.0

    def __post_init__(self) -> None:
        if self.lowest_db > self.highest_db:
            raise ConfigError("noise", got="nothing between", expected="the lowest first")


@dataclass(frozen=True)
class Quieter(Noise):
    """What is added, and how often.

    Attributes:
        share: how often.
    """

    share: float = 0.5


def verb(
    corpus: str,
    *paths: str,
    output: Annotated[Path, Option("-o")],
    offset: float = 0.0,
    span: tuple[float, float] = (0.0, 1.0),
    sizes: tuple[int, ...] = (1, 2),
    kind: Literal["plain", "odd"] = "plain",
    seed: int | None = 3,
    name: str | None = None,
    check_audio: bool = True,
    plan: bool = False,
    columns: dict[str, str] | None = None,
    noise: Quieter | None = None,
    config: Path | None = None,
) -> dict[str, Any]:
    """Does what a verb does, 100 % of it.

    A paragraph that is much longer than what fits into a line of a terminal, so that it has to be broken; and then

        a line | that is code

    Args:
        corpus: a name.
        paths: recordings.
        output: where to.
        offset: in seconds,
            from the start.
        span: from, to.
        sizes: of the parts; 50 % each.
        kind: which.
        seed: of the draw.
        name: its name.
        check_audio: decode it.
        plan: do nothing.
        columns: what they are called.
        noise: what is added.
        config: a TOML file.

    Raises:
        ValueError: never.
    """
    return locals()


def typed(*words: str, file: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the verb is given for some words, besides what it is given anyway."""
    usual = {argument.keys[0]: argument.default for argument in arguments_of(verb) if len(argument.keys) == 1}
    usual |= {"noise": None, "paths": (), "corpus": "c", "output": Path("o")}
    given = call(verb, "affekt verb", ["c", "-o", "o", *words], lambda path: file or {})
    assert given is not None
    return {name: value for name, value in given.items() if value != usual[name]}


def faults(*words: str, file: Mapping[str, Any] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        call(verb, "affekt verb", words, lambda path: file or {})
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["--offset", "-3.5"], {"offset": -3.5}),
        (["--offset", "-1e-3"], {"offset": -0.001}),
        (["--offset=-inf"], {"offset": float("-inf")}),
        (["--offset", "2", "--offset", "1"], {"offset": 1.0}),
        (["--span", "-.5", "-1e-2"], {"span": (-0.5, -0.01)}),
        (["--sizes", "3", "--sizes", "-4"], {"sizes": (3, -4)}),
        (["--kind", "odd"], {"kind": "odd"}),
        (["--seed", "none"], {"seed": None}),
        (["--seed=0"], {"seed": 0}),
        (["--name", "5"], {"name": "5"}),
        (["--name=--kind"], {"name": "--kind"}),
        (["--name="], {"name": ""}),
        (["--no-check-audio"], {"check_audio": False}),
        (["--plan", "--no-plan", "--check-audio"], {}),
        (["--columns.label", "emotion", "--columns.text_id=a=b"], {"columns": {"label": "emotion", "text_id": "a=b"}}),
        (["--columns.KEY", "x"], {"columns": {"KEY": "x"}}),
        (["--noise.share", "1"], {"noise": Quieter(share=1.0)}),
        (["-o", "x"], {"output": Path("x")}),
        (["-ox"], {"output": Path("x")}),
        (["--output", "x"], {"output": Path("x")}),
        (["a.wav", "--plan", "-", "-5"], {"plan": True, "paths": ("a.wav", "-", "-5")}),
        (["a.wav", "--", "-o", "--help"], {"paths": ("a.wav", "-o", "--help")}),
        (["--", "--"], {"paths": ("--",)}),
    ],
)
def test_every_spelling(words: list[str], values: dict[str, Any]) -> None:
    assert typed(*words) == values


FILE = {
    "offset": 2,
    "span": [3, 4],
    "plan": True,
    "seed": "none",
    "columns": {"label": "l"},
    "noise": {"lowest_db": 1, "highest_db": 2},
}


def test_a_file_lies_beneath_what_is_typed() -> None:
    held = {"config": Path("f"), "offset": 2.0, "span": (3.0, 4.0), "plan": True, "seed": None}
    held |= {"columns": {"label": "l"}, "noise": Quieter(1.0, 2.0)}
    assert typed("--config", "f", file=FILE) == held
    words = ["--config", "f", "--no-plan", "--span", "0", "2", "--noise.highest-db", "9", "--seed", "1"]
    changed = {"span": (0.0, 2.0), "noise": Quieter(1.0, 9.0), "seed": 1}
    assert typed(*words, file=FILE) == {name: value for name, value in (held | changed).items() if name != "plan"}


def test_a_file_may_hold_what_must_be_given() -> None:
    given = call(verb, "affekt verb", ["c", "--config", "f"], lambda path: {"output": "of-file"})
    assert given is not None
    assert given["output"] == Path("of-file")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], ["CORPUS: got nothing, expected TEXT; see", "--output: got nothing, expected PATH; see"]),
        (["c", "-o"], ["-o/--output: expected one argument; see `affekt verb --help`"]),
        (["c", "-o", "x", "--plan=yes"], ["--plan: ignored explicit argument 'yes'; see"]),
        (["c", "-o", "x", "--span", "1"], ["--span: expected 2 arguments; see"]),
        (["c", "-o", "x", "--pla", "--out", "y"], ["--pla: got an unknown option; did you mean --plan?", "--out: got"]),
        (
            ["c", "-o", "x", "--no-check-audi"],
            ["--no-check-audi: got an unknown option; did you mean --no-check"],
        ),
        (
            ["c", "-o", "x", "--noise.lowest_db", "3"],
            ["--noise.lowest_db: got an unknown option; did you mean --no"],
        ),
        (["--pla", "c", "-o", "x"], ["--pla: got an unknown option; did you mean --plan?"]),
        (["-x=3"], ["-x: got an unknown option; see `affekt verb --help`", "--output: got nothing"]),
        (["c", "-o", "x", "--kind", "od"], ["--kind: got 'od', expected one of plain, odd"]),
        (["c", "-o", "x", "--seed", "1.5"], ["--seed: got '1.5', expected a whole number"]),
        (["c", "-o", "x", "--span", "a", "1"], ["--span[0]: got 'a', expected a number"]),
        (["c", "-o", "x", "--noise.lowest-db", "40"], ["noise: got nothing between, expected the lowest first"]),
        (
            ["c", "-o", "x", "--kind", "od", "--offset", "far"],
            ["--offset: got 'far', expected a number", "--kind: got 'od'"],
        ),
        (["c", "--config", "f", "--offset", "far"], ["f: kinds: got an unknown key; did you mean kind?", "--offset"]),
    ],
)
def test_every_fault_is_said_in_its_line(words: list[str], said: list[str]) -> None:
    found = faults(*words, file={"kinds": "odd"})
    assert [line[: len(start)] for line, start in zip(found, said, strict=True)] == said
    assert not any("\n" in line for line in found)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(TEXTS, NUMBERS, st.lists(st.integers(-(10**9), 10**9), min_size=1), st.lists(TEXTS))
def test_what_is_written_comes_back(name: str, offset: float, sizes: list[int], paths: list[str]) -> None:
    """Any text after an equals sign, any number after a blank, any argument after `--`."""
    repeated = [word for size in sizes for word in ("--sizes", str(size))]
    words = ["-o", "o", f"--name={name}", "--offset", str(offset), *repeated, "--", "c", *paths]
    given = call(verb, "affekt verb", words, dict)
    assert given is not None
    assert given["name"] == (None if name == "none" else name)
    assert (given["offset"], given["sizes"], given["paths"]) == (offset, tuple(sizes), tuple(paths))


def stand_in(name: str) -> Callable[..., Any]:
    """A function that takes what a verb takes, and does nothing."""
    module, _, function = cli.VERBS[name][0].partition(":")

    @functools.wraps(getattr(importlib.import_module(module), function))
    def nothing(*places: Any, **options: Any) -> int:
        return 0

    return nothing


STAND_INS = {name: stand_in(name) for name in cli.VERBS}
SPELT = sorted({argument.name for function in STAND_INS.values() for argument in arguments_of(function)})
ODD = ["--", "-", "-o", "-5", "-1e5", "--no-plan", "none", "1", "0.5", "x", "=", "--=", "---", "-o=", "%", "a b", ""]
WORDS = st.one_of(st.sampled_from(ODD), st.sampled_from(SPELT), TEXTS.map("--{}".format), TEXTS)


@settings(max_examples=300)
@given(st.sampled_from(sorted(STAND_INS)) | WORDS, st.lists(WORDS, max_size=6))
def test_no_words_are_a_defect(name: str, words: list[str]) -> None:
    """Whatever is typed, the verb is called, or the user is told what to mend, in lines of their own."""
    said, find = io.StringIO(), cli.function_of
    with (
        mock.patch.object(cli, "function_of", lambda verb: STAND_INS.get(verb) or find(verb)),
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        code = cli.main([name, *words])
    lines = said.getvalue().split("\n")[:-1]
    assert (code, bool(lines)) in ((0, False), (2, True))
    assert all(line.startswith("affekt: error: ") for line in lines)


@pytest.mark.parametrize("name", list(cli.VERBS))
def test_every_argument_of_every_verb_is_explained(name: str) -> None:
    assert [argument.name for argument in arguments_of(STAND_INS[name]) if not argument.help] == []


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_a_page_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    said = page("affekt verb", verb)
    longest = max(map(len, said.splitlines()))
    assert 40 < longest <= min(columns, 100) - 2
    first, *_ = said.split("\n\n")
    assert " ".join(first.split()) == "Usage: affekt verb CORPUS [PATHS ...] --output PATH [OPTIONS]"


def test_a_page_says_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    said = page("affekt verb", verb)
    assert "Does what a verb does, 100 % of it.\n" in said
    assert "\n    a line | that is code\n" in said
    assert "ValueError" not in said
    lines = [" ".join(line.split()) for line in said.splitlines()]
    for line in (
        "CORPUS a name.",
        "-o PATH, --output PATH where to. (required)",
        "--offset NUMBER in seconds, from the start. (default: 0)",
        "--span NUMBER NUMBER from, to. (default: 0, 1)",
        "--sizes N of the parts; 50 % each. (default: 1, 2)",
        "--kind {plain,odd} which. (default: plain)",
        "--seed N of the draw. (default: 3)",
        "--name TEXT its name.",
        "--check-audio decode it. (default: yes)",
        "--no-check-audio turn --check-audio off",
        "--plan do nothing.",
        "--columns.KEY TEXT what they are called.",
        "--noise.*:",
        "--noise.lowest-db NUMBER the range. (default: 5)",
        "--noise.share NUMBER how often. (default: 0.5)",
    ):
        assert line in lines
    assert "--no-plan" not in said


REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "ARCHITECTURE.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
CALL = re.compile(rf"affekt ({'|'.join(cli.VERBS)})\b([^`|#\n]*)")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_options_in_the_documentation_exist(path: Path) -> None:
    """Every option that follows the name of a verb, on every page."""
    unknown = []
    for name, words in CALL.findall(path.read_text(encoding="utf-8")):
        arguments = arguments_of(STAND_INS[name])
        known = {spelling for one in arguments for spelling in (one.name, one.alias, one.contrary)} | set(HELP)
        tables = [f"{one.name}." for one in arguments if is_table(one.kind)]
        said = set(re.findall(r"(?<=\s)--?[a-z][\w.-]*", words)) - known
        unknown += [f"affekt {name} {word}" for word in said if not word.startswith(tuple(tables))]
    assert unknown == []
