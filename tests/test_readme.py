"""README.md says what is so: its output and figures are generated, its links lead somewhere, its commands exist."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import shlex
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from affekt import cli
from affekt.cli.framework.arguments import arguments_of

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
NUMBER = re.compile(r"\d+(?:\.\d+)?%?")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


@pytest.fixture(scope="module")
def readme() -> ModuleType:
    found = importlib.util.spec_from_file_location("readme", REPOSITORY / "scripts" / "readme.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 130


def test_the_output_is_what_the_command_prints(readme: ModuleType) -> None:
    """If it fails: python scripts/readme.py. Another processor may differ in the last digit."""
    shown, now = readme.block(README, "predict"), readme.prediction()
    assert NUMBER.sub("#", shown).split() == NUMBER.sub("#", now).split()
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(now), strict=True)
    assert all(abs(float(one.rstrip("%")) - float(other.rstrip("%"))) <= 2.0 for one, other in pairs)


def test_the_figures_are_those_of_the_results(readme: ModuleType) -> None:
    """If it fails: python scripts/readme.py."""
    assert readme.block(README, "results") == readme.results()


def test_the_study_s_headline_is_quoted(readme: ModuleType) -> None:
    """If it fails: python scripts/readme.py, after python scripts/study.py."""
    assert readme.block(README, "study") == readme.study()


def test_the_headline_follows_the_study(readme: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = "| Network | Split | Proposal | Corpora | UA gain (points) | p (Holm) | Effect |"
    rows = [
        f"| encoder | {split} | focal loss | 7 | {gain} \\[−1.0, +2.0\\] | 0.060 | {effect} |"
        for split, gain, effect in (("random", "+0.5", "no difference shown"), ("speaker", "+0.6", "helps"))
    ]
    page = "\n".join(["Table 2. Gain.", "", columns, "|---|---:|---:|---:|---:|---:|---:|", *rows, "", "Note."])
    monkeypatch.setattr(readme, "STUDY", tmp_path / "study.md")
    (tmp_path / "study.md").write_text(page, encoding="utf-8")
    head, _, row = readme.study().splitlines()
    assert head == "| Gain in UA, points | encoder, random splits, 7 corpora | encoder, speaker splits, 7 corpora |"
    cells = "+0.5 [−1.0, +2.0] no difference shown | +0.6 [−1.0, +2.0] helps (p = 0.060)"
    assert row == f"| focal loss | {cells} |"
    (tmp_path / "study.md").write_text("Table 3. Other.\n", encoding="utf-8")
    assert "No proposal" in readme.study()


def test_a_change_of_the_results_changes_the_block(
    readme: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundled").mkdir()
    row = '{"ua": 0.5, "ua_low": 0.25, "ua_high": 0.75}'
    (tmp_path / "bundled" / "measures.json").write_text(f'{{"unseen": {{"corpora": {{"crema_d": {row}}}}}}}')
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    assert "| CREMA-D (English) | 50.0 [25.0, 75.0] |  |  |" in readme.results()


def test_the_speed_of_another_model_is_not_shown(
    readme: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {"clip_seconds": 7.5, "one_thread_ms": 12.3, "all_threads_ms": 4.5, "cpu": "Z80", "cores": 2}
    monkeypatch.setattr(readme, "SPEED", tmp_path / "speed.json")
    for model, shown in (("another", False), (readme._sha256(readme.BUNDLED), True)):
        (tmp_path / "speed.json").write_text(json.dumps(figures | {"model_sha256": model}))
        assert ("takes 12 ms on one core of Z80" in readme.results()) == shown


def test_the_example_recordings_are_the_synthetic_corpus(readme: ModuleType, tmp_path: Path) -> None:
    readme.write_speech(tmp_path)
    for name in readme.SPEECH:
        kept, rate = soundfile.read(REPOSITORY / "examples" / f"{name}.wav")
        made, _ = soundfile.read(tmp_path / f"{name}.wav")
        assert rate == 16_000
        assert np.abs(kept - made).max() < 1e-3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_commands_and_their_options_exist(page: Path) -> None:
    for words in commands(page.read_text(encoding="utf-8")):
        verb = words[0]
        assert verb in {*cli.VERBS, "help", "--help", "--version"}, f"affekt {verb}"
        if verb in cli.VERBS:
            known = {"--help"}
            for argument in arguments_of(cli.function_of(verb)):
                known |= {argument.name, argument.alias, argument.contrary}
            options = {word.partition("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)}
            unknown = {
                option for option in options - known if ".KEY" not in option and not option.startswith("--columns.")
            }
            assert unknown == set(), f"affekt {verb}"


def commands(text: str) -> list[list[str]]:
    """The words after `affekt` of every command in a block or in backticks."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    blocks = [content for language, content in fences if language in ("", "bash", "console", "sh")]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines += re.findall(r"`(affekt [a-z][^`\n]*)`", text)
    found = [re.split(r"\baffekt (?=[a-z])", line.partition(" # ")[0].strip(), maxsplit=1) for line in lines]
    typed = [rest[0] for start, *rest in found if rest and not re.search(r"[\w./-]$", start.strip())]
    return [list(itertools.takewhile(lambda word: word[0] not in ";|&<>()", split(command))) for command in typed]


def split(command: str) -> shlex.shlex:
    """The words of a command; operators of the shell are words of their own."""
    words = shlex.shlex(command, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    return words


def test_the_search_for_commands_finds_them() -> None:
    text = (
        "Use `affekt predict a.wav --format csv`.\n```\naffekt train m.csv \\\n  -o x  # y\npip install affekt\n```\n"
    )
    assert commands(text) == [["train", "m.csv", "-o", "x"], ["predict", "a.wav", "--format", "csv"]]
