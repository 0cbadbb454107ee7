"""The study agrees with its numbers and lists missing runs with their commands."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from affekt.cli.experiment import experiment
from affekt.errors import ConfigError
from affekt.report import html, latex, markdown, numbers, write_study
from affekt.report.answers import command
from affekt.report.document import Code, Document, Heading, Paragraph, Table
from affekt.report.study_text import INTEGRATION, describe_study
from affekt.results import fuse
from affekt.results import study as study_plan
from affekt.results import study_questions as asked
from affekt.results.ablation import Ablation
from affekt.results.study import Planned, Study
from affekt.training.systems import GROUPS, SYSTEMS

ROWS = {
    "recipe": {"change": "as it is", "jobs": {"0/0": {"ua": 0.5, "last": 0.4}, "1/0": {"ua": 0.6, "last": 0.5}}},
    "no-warp": {"change": "no warp", "jobs": {"0/0": {"ua": 0.45, "last": 0.4}, "1/0": {"ua": 0.58, "last": 0.5}}},
}
ABLATION = Ablation("emodb, 5 folds of speakers", "compact", 4, 100.0, 50.0, ROWS)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., Path]) -> Study:
    folder = tmp_path_factory.mktemp("study")
    systems = ("baseline", "am-softmax", "focal-g2-a1", "focal-g2-a4", "lstm", "am-softmax-combined")
    run = make_run(folder / "emodb-random", systems=systems)
    costs = {"training": 0.01, "scoring": 0.002, "front_end": 0.001, "recognition": 0.002}
    costs |= {"job_hours": 0.5, "longest_job_hours": 1.25}
    (run / "costs.json").write_text(json.dumps({"Z80, 1 thread": dict.fromkeys(study_plan.SYSTEMS, costs)}))
    for recipe in ("paper", "robust"):
        name = f"emodb-speaker{'-robust' if recipe == 'robust' else ''}"
        run = make_run(folder / name, systems=("baseline", "compact"), seeds=1)
        config = (run / "config.toml").read_text().replace('protocol = "random"', 'protocol = "speaker"')
        (run / "config.toml").write_text(config.replace('recipe = "paper"', f'recipe = "{recipe}"'))
    return Study.read(sorted(folder.iterdir()))


@pytest.fixture(scope="module")
def document(study: Study) -> Document:
    return describe_study(study, [ABLATION])


def tables(document: Document) -> Iterator[Table]:
    return (block for block in document.blocks if isinstance(block, Table))


def table(document: Document, caption: str) -> Table:
    return next(found for found in tables(document) if caption in found.caption)


def sections(document: Document) -> dict[str, str]:
    """The texts and commands under each heading."""
    found: dict[str, str] = {}
    heading = ""
    for block in document.blocks:
        if isinstance(block, Heading):
            heading = block.text
        if isinstance(block, Paragraph | Code):
            found[heading] = f"{found.get(heading, '')}\n{block.text}"
    return found


def section(document: Document, start: str) -> str:
    return next(text for heading, text in sections(document).items() if heading.startswith(start))


def test_every_question_has_its_answer(document: Document) -> None:
    headings = [block.text for block in document.blocks if isinstance(block, Heading)]
    for letter in "abcdef":
        assert sum(heading.startswith(f"({letter}) ") for heading in headings) == 1
    for name in ("emodb-random", "emodb-speaker", "emodb-speaker-robust"):
        assert f"Results: {name}" in headings
    assert headings[0] == "Question"
    assert headings[-1] == "Finished and missing jobs"


def test_table_1_has_measured_and_quoted_figures(document: Document, study: Study) -> None:
    shown = table(document, "Table 1")
    assert [(row[0], row[2]) for row in shown.rows] == [("LSTM [11]", "57.1"), ("The proposed baseline", "62.3")]
    assert shown.quoted == {2}
    ua = study.runs[0].summary["systems"]["lstm"]["ua"]
    assert shown.rows[0][1].startswith(numbers.spread(ua["mean"], ua["sd_jobs"]))


def test_the_eight_cells(document: Document, study: Study) -> None:
    assert {name for pair in INTEGRATION.values() for names in pair for name in names[:1]} == {
        system.name for system in GROUPS["integration"]
    }
    shown = table(document, "Losses and poolings")
    compared = study.runs[0].summary["systems"]["am-softmax-combined"]["comparison"]["ua"]
    assert shown.rows[1][2].endswith(f"({numbers.points(compared['difference'])})")
    assert shown.rows[2][2] == numbers.NONE
    assert "5 of the eight cells not run" in shown.note  # the baseline and AM-softmax under both poolings were


def test_claims_carry_their_interval_and_reading(document: Document, study: Study) -> None:
    (row,) = (row for row in table(document, "proposals against").rows if row[0] == "emodb-random")
    (claim,) = asked.claims(study.runs[0])
    interval = numbers.interval(claim["low"], claim["high"], signed=True)
    assert row[1:3] == ("AM-softmax", f"{numbers.points(claim['difference'])} {interval}")
    assert "4 points" in row[-1]
    assert "Not run on any corpus: focal, combined." in section(document, "(a)")


def test_summary_sentences_match_their_tables(document: Document, study: Study) -> None:
    claims = [row["verdict"] for run in study.runs for row in asked.claims(run)]
    counts = [claims.count(verdict) for verdict in ("reached", "refuted", "open")]
    said = f"at or above 4 points in {counts[0]}, below in {counts[1]}, and contains 4 points in {counts[2]}."
    assert f"Of {len(claims)} comparisons, the interval is {said}" in section(document, "(a)")
    (pair,) = asked.alphas(study.runs[0])
    largest = numbers.percent(abs(pair["difference"]))
    assert f"the largest difference is {largest} points" in section(document, "(b)")
    spreads = [row for run in study.runs for row in asked.spreads(run)]
    seeds = float(np.median([row["seeds"]["value"] for row in spreads if row["seeds"]]))
    assert f"; {numbers.percent(seeds)} between seeds; " in section(document, "(c)")
    gaps = [row["gap"] for row in asked.flattery(*study.runs[:2])]
    assert f"by {numbers.points(float(np.median(gaps)))} points in the median" in section(document, "(d)")
    ratios = [row for row in asked.compactness(study.runs[0])["changes"] if row["measure"] == "fisher_ratio"]
    assert f"in {sum(row['low'] > 0 for row in ratios)} of {len(ratios)} comparisons" in section(document, "(e)")
    best = [row["system"] for row in asked.trade_offs(study.runs[0]) if row["best_for_parameters"]]
    line = next(
        line for line in section(document, "(f)").splitlines() if "Best for their parameters on emodb-random" in line
    )
    assert sorted(re.findall(r"([\w-]+) \(", line.partition("Best for their time")[0])) == sorted(best)


def test_missing_runs_have_their_command(document: Document) -> None:
    assert "affekt experiment nemo.csv -o runs/nemo-speaker --systems headline" in section(document, "(d)")
    assert "runs/ravdess-speaker-robust" in section(document, "Unseen speakers")
    empty = describe_study(Study(()), [])
    for start in ("(a)", "(b)", "(c)", "(d)", "(e)"):
        assert "Not run: " in section(empty, start)
        assert "affekt experiment " in section(empty, start)
    assert "python scripts/ablation.py nemo.csv" in section(empty, "Unseen speakers")
    assert f"0 of {12 * 15 * len(study_plan.SYSTEMS):,} jobs" in section(empty, "Finished and missing")


def test_the_commands_are_the_program_s(document: Document) -> None:
    """Every one names options that the verb has, and systems that exist."""
    from inspect import signature

    known = {f"--{name.replace('_', '-')}" for name in signature(experiment).parameters} | {"-o"}
    codes = [block.text for block in document.blocks if isinstance(block, Code)]
    lines = [line for text in codes for line in text.splitlines() if line.startswith("affekt experiment")]
    assert len(lines) > 10
    for line in lines:
        program, verb, manifest, *words = shlex.split(line)
        assert (program, verb, manifest.endswith(".csv")) == ("affekt", "experiment", True)
        assert {word for word in words if word.startswith("-")} <= known
        for name in words[words.index("--systems") + 1].split(","):
            assert name in GROUPS or name in SYSTEMS
    part = Planned("nemo", "speaker", "robust", {})
    assert command(part).endswith("--folds 5 --seeds 3 --recipe robust")


def test_missing_jobs_have_hours_where_costs_are_known(document: Document) -> None:
    rows = {row[0]: row for row in table(document, "Missing jobs").rows}
    jobs = 15 * len(study_plan.SYSTEMS)
    left = jobs - 6 * 6
    assert rows["emodb-random"] == (
        "emodb-random", "36", str(left), f"{left * 0.5:.1f}", f"{left * 1.25:.1f}", "Z80, 1 thread"
    )  # fmt: skip
    assert rows["nemo-random"][1:] == ("0", str(jobs), "–", "–", "")
    cost = table(document, "Cost of a job of each system: emodb-random, on Z80, 1 thread")
    assert ("lstm", "0.50", "1.25", "10.0", "2.0") in cost.rows


def test_spread_and_trade_offs_are_the_study_s(document: Document, study: Study) -> None:
    row = next(row for row in table(document, "by source").rows if row[:2] == ("emodb-random", "lstm"))
    spread = next(row for row in asked.spreads(study.runs[0]) if row["system"] == "lstm")
    assert row[4].startswith(numbers.percent(spread["seeds"]["value"]))
    one_seed = next(row for row in table(document, "by source").rows if row[0] == "emodb-speaker")
    assert one_seed[3:5] == (numbers.NONE, numbers.NONE)
    shown = table(document, "UA, size and time on emodb-random")
    assert "Z80, 1 thread" in shown.note
    assert {row[4] for row in shown.rows} == {"3.0"}


def test_the_robust_recipe_and_its_ablation(document: Document) -> None:
    rows = table(document, "Small systems by the robust recipe").rows
    assert [row[:4] for row in rows] == [
        ("emodb", "compact", "baseline", "paper"),
        ("emodb", "compact", "baseline", "robust"),
    ]
    ablation = table(document, "Changes to the robust recipe")
    assert ablation.rows[0][:3] == ("recipe", "as it is", "55.0 ± 7.1")
    assert ablation.rows[1][4:7] == ("−3.5", "–", "not tested")  # two folds


def test_the_fused_system_s_members_are_named(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    path = make_run(tmp_path / "robust", systems=("lstm", "compact"))
    config = path / "config.toml"
    words = config.read_text().replace('protocol = "random"', 'protocol = "speaker"')
    config.write_text(words.replace('recipe = "paper"', 'recipe = "robust"'))
    fuse(path, ["lstm", "compact"])
    note = table(describe_study(Study.read([path])), "Small systems by the robust recipe").note
    assert note.endswith("fused is the mean posterior of lstm, compact.")


def test_every_format_is_written(tmp_path: Path, study: Study, document: Document) -> None:
    written = write_study(study, tmp_path, ablations=[ABLATION])
    assert [path.name for path in written] == ["study.html", "study.md", "study.tex"]
    text = (tmp_path / "study.md").read_text()
    assert text == markdown.render(document)
    shown = set(re.findall(r"\(figures/(\S+)\.svg\)", text))
    assert shown
    assert {path.stem for path in (tmp_path / "figures").glob("*.svg")} == shown
    assert "```\naffekt experiment " in text
    with pytest.raises(ConfigError, match="docx"):
        write_study(study, tmp_path, ["docx"])  # type: ignore[list-item]


def test_commands_are_verbatim() -> None:
    document = Document("T", "L", (Code("a_b --c <d>\n# e"),))
    assert "```\na_b --c <d>\n# e\n```" in markdown.render(document)
    assert '<pre class="scroll">a_b --c &lt;d&gt;\n# e</pre>' in html.render(document)
    assert "\\texttt{a\\_b --c \\textless{}d\\textgreater{}}\\\\\n\\texttt{\\# e}\\\\" in latex.render(document)
