"""The study agrees with its numbers, keeps to five tables and five figures, and lists missing runs with commands."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path

import pytest

from affekt.cli.experiment import experiment
from affekt.errors import ConfigError
from affekt.measures.statistics import Interval
from affekt.report import html, latex, markdown, numbers, study_answers, study_sentences, write_study
from affekt.report.document import SUFFIX, Code, Document, Figure, Heading, Links, Listing, Paragraph, Table
from affekt.report.run_page import INTEGRATION
from affekt.report.study_text import describe_study, run_pages
from affekt.results import fuse, study_analysis
from affekt.results import study as study_plan
from affekt.results import study_questions as asked
from affekt.results.ablation import Ablation
from affekt.results.recipe_choice import CORPORA, RATES, RecipeChoice
from affekt.results.study import PLAN, Study
from affekt.results.study_analysis import Analysis, CorpusEffect, EffectOverCorpora, Secondary, combine, secondary
from affekt.training.recipes import RECIPES
from affekt.training.systems import GROUPS, SYSTEMS

ROWS = {
    "recipe": {"change": "as it is", "jobs": {"0/0": {"ua": 0.5, "last": 0.4}, "1/0": {"ua": 0.6, "last": 0.5}}},
    "no-warp": {"change": "no warp", "jobs": {"0/0": {"ua": 0.45, "last": 0.4}, "1/0": {"ua": 0.58, "last": 0.5}}},
}
ABLATION = Ablation("emodb, 5 folds of speakers", "compact", 4, 100.0, 50.0, ROWS)
ENCODER = ("encoder", "encoder-am-softmax-s10-m0.4", "encoder-focal-g2-a2", "encoder-focal-g2-a1", "encoder-combined")


def as_part(path: Path, protocol: str, recipe: str) -> Path:
    config = (path / "config.toml").read_text().replace('protocol = "random"', f'protocol = "{protocol}"')
    (path / "config.toml").write_text(config.replace('recipe = "paper"', f'recipe = "{recipe}"'))
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., Path]) -> Study:
    """The encoder on three corpora at random and two with speakers held out, the paper's network on one."""
    folder = tmp_path_factory.mktemp("study")
    systems = ("baseline", "am-softmax", "focal-g2-a1", "focal-g2-a4", "lstm", "am-softmax-combined")
    run = make_run(folder / "emodb-random", systems=systems)
    costs = {"training": 0.01, "scoring": 0.002, "front_end": 0.001, "recognition": 0.002}
    costs |= {"job_hours": 0.5, "longest_job_hours": 1.25}
    (whole,) = (part for part in PLAN if part.name == "emodb-random")
    (run / "costs.json").write_text(json.dumps({"Z80, 1 thread": dict.fromkeys((*whole.wanted, *systems), costs)}))
    for recipe in ("paper", "robust"):
        name = f"emodb-speaker{'-robust' if recipe == 'robust' else ''}"
        as_part(make_run(folder / name, systems=("baseline", "compact"), seeds=1), "speaker", recipe)
    for number, corpus in enumerate(("emodb", "emovo", "crema-d")):
        for protocol in ("random", "speaker")[: 2 if number < 2 else 1]:
            path = folder / f"{corpus}-{protocol}-encoder"
            as_part(make_run(path, systems=ENCODER, corpus=corpus, gain=0.02 * number + 0.01), protocol, "encoder")
    return Study.read(sorted(folder.iterdir()))


@pytest.fixture(scope="module")
def document(study: Study) -> Document:
    return describe_study(study)


@pytest.fixture(scope="module")
def pages(study: Study) -> dict[str, Document]:
    return {page.name: page for page in run_pages(study, [ABLATION])}


def tables(document: Document) -> Iterator[Table]:
    return (block for block in document.blocks if isinstance(block, Table))


def table(document: Document, caption: str) -> Table:
    return next(found for found in tables(document) if caption in found.caption)


def section(document: Document, start: str) -> str:
    """The texts and commands under a heading."""
    found, heading = "", ""
    for block in document.blocks:
        if isinstance(block, Heading):
            heading = block.text
        elif heading.startswith(start) and isinstance(block, Paragraph | Code):
            found += f"\n{block.text}"
        elif heading.startswith(start) and isinstance(block, Listing):
            found += "\n" + "\n".join(block.items)
    assert found
    return found


def test_five_tables_and_five_figures_in_order(document: Document) -> None:
    captions = [block.caption for block in document.blocks if isinstance(block, Table)]
    assert [caption.partition(".")[0] for caption in captions] == [f"Table {number}" for number in range(1, 6)]
    figures = [block.caption for block in document.blocks if isinstance(block, Figure)]
    assert [caption.partition(".")[0] for caption in figures] == [f"Figure {number}" for number in range(1, 6)]
    headings = [block.text for block in document.blocks if isinstance(block, Heading)]
    assert headings[0] == "Abstract"
    assert headings[-1] == "Appendix"


def test_the_abstract_has_four_sentences_with_the_numbers_of_the_tables(document: Document, study: Study) -> None:
    text = section(document, "Abstract").strip()
    assert len(re.findall(r"[a-z\d\]]\.(?= [A-Z]|$)", text)) == 4
    for row in Analysis.of(study, "encoder", "random").proposals():
        assert row.combined is not None
        said = study_sentences.quantity(row.combined.effect, "signed points")
        assert (
            f"{said} points under random splits" in text
            if row.name == "AM-softmax"
            else f"{row.name} by {said}" in text
        )
    assert "and by" not in text.split(". ")[1]  # two corpora with speakers held out are not combined
    assert "on EmoDB under random splits" in text
    trained = sum(len(run.results.jobs) for run in study.runs if run.name in {part.name for part in PLAN})
    assert f"{numbers.count(trained)} trainings on 3 corpora" in text


@pytest.mark.parametrize(
    ("intervals", "said"),
    [
        ([(0.05, 0.045, 0.06)] * 2, "all 2 intervals lie above 0 and none of the 2 intervals lies below the 4 points"),
        ([(0.02, 0.01, 0.03), (0.0, -0.01, 0.01)], "1 of 2 intervals lies above 0, 1 of 2 intervals contains 0 and"),
        ([(-0.02, -0.03, -0.01)] * 3, "all 3 intervals lie below 0 and all 3 intervals lie below the 4 points"),
    ],
)
def test_sentences_count_verdicts(intervals: list[tuple[float, float, float]], said: str) -> None:
    class Found:
        def __init__(self, ends: tuple[float, float, float]) -> None:
            self.interval = Interval(*ends)

    assert said in study_sentences._summed([[Found(ends) for ends in intervals]])  # type: ignore[list-item]


def test_the_headline_has_what_was_combined(document: Document, study: Study) -> None:
    shown = table(document, "Table 2")
    rows = Analysis.of(study, "encoder", "random").proposals()
    assert [row[:4] for row in shown.rows] == [("encoder", "random", each.name, "3") for each in rows]
    for cells, row in zip(shown.rows, rows, strict=True):
        assert row.combined is not None
        assert cells[4] == study_sentences.quantity(row.combined.effect, "signed points")
        assert cells[7] == numbers.p_value(row.p_holm)
    assert "encoder network, speaker (2); paper's network, random (1); paper's network, speaker (1)" in shown.note


def test_every_corpus_has_its_gains(document: Document, study: Study) -> None:
    rows = {row[:3]: row for row in table(document, "Table 3").rows}
    assert ("encoder", "speaker", "EMOVO") in rows
    (claim,) = asked.claims(next(run for run in study.runs if run.name == "emodb-random"))
    cells = rows["paper's", "random", "EmoDB"]
    interval = numbers.interval(claim["low"], claim["high"], signed=True)
    assert cells[5:] == (f"{numbers.points(claim['difference'])} {interval}", numbers.NONE, numbers.NONE)


def test_every_secondary_question_has_an_interval(document: Document, study: Study) -> None:
    rows = table(document, "Table 4").rows
    questions = {row[0] for row in rows}
    for part in ("alpha", "spread", "stopping", "flatter", "ompactness", "happy"):
        assert any(part in question for question in questions), part
    found = secondary(study)
    cells = {(row[0], row[1], row[2].removesuffix("'s")): row[3:] for row in rows}
    for row in found:
        cell = cells[row.question, row.quantity, row.network][row.protocol == "speaker"]
        if row.estimate.combined is not None:
            assert study_sentences.quantity(row.estimate.combined.effect, row.unit) in cell
            assert "[" in cell
        if row.estimate.p_holm is not None:
            assert numbers.p_value(row.estimate.p_holm) in cell
    assert not any("p =" in "".join(row[3:]) for row in rows if row[1].startswith(("SD", "epochs")))


def test_the_answers_in_words_are_those_of_the_table(document: Document, study: Study) -> None:
    items = next(block for block in document.blocks if isinstance(block, Listing) and "Answers" in block.caption).items
    found = [row for row in secondary(study) if row.network == "encoder" and row.estimate.combined is not None]
    assert [next(item for item in items if item.startswith(row.question)) for row in found]
    assert len(items) == len({row.question for row in found})
    for row in found:
        item = next(item for item in items if item.startswith(row.question))
        assert row.estimate.combined is not None
        if "alpha" not in row.question:
            assert study_sentences.quantity(row.estimate.combined.effect, row.unit) in item
        else:
            assert " intervals of pairs of alpha" in item


def effect(value: float, width: float) -> EffectOverCorpora:
    corpora = ("emodb", "emovo", "nemo")
    each = [CorpusEffect(corpus, value + number / 1e4, 0.0, 0.0, width) for number, corpus in enumerate(corpora)]
    return combine("x", each)


def test_every_question_has_a_writer() -> None:
    questions = {question for question, *_ in study_analysis._QUESTIONS} | {"What does a random split flatter?"}
    assert set(study_answers._WRITERS) == questions
    rows = [
        Secondary(question, f"quantity {value}", "signed points", "encoder", protocol, effect(value, 0.001))
        for question in sorted(questions)
        for value in (0.02, -0.03)
        for protocol in ("random", "speaker")
    ]
    items = study_answers.answers(rows)
    assert [item.partition("?")[0] + "?" for item in items] == sorted(questions)
    assert all("+2.0 [" in item or "−3.0 [" in item for item in items)
    alpha = next(item for item in items if "alpha" in item)
    assert "Of 4 intervals of pairs of alpha, none contains 0; the largest difference is −3.0 [" in alpha
    happy = next(item for item in items if "happy" in item)
    assert happy.count("(higher)") == happy.count("(lower)") == 2
    assert study_answers.answers([rows[0]._replace(network="paper")]) == []
    wide = rows[0]._replace(question="Is focal loss good for happy?", estimate=effect(0.02, 0.1))
    assert "(no difference shown)" in study_answers.answers([wide])[0]


def test_the_recipe_is_quoted_from_its_trainings(study: Study) -> None:
    used = RECIPES["encoder"].train.learning_rate
    ua = {(rate, corpus): (0.8 + (rate == used) / 10,) for rate in RATES for corpus in CORPORA}
    said = section(describe_study(study, RecipeChoice(ua)), "Recipe")
    assert f"90.0 % at {used:g}" in said
    assert f"chooses {used:g}, which part D uses" in said
    other = next(rate for rate in RATES if rate != used)
    departed = {key: (0.95,) if key[0] == other else values for key, values in ua.items()}
    assert "a departure from the plan" in section(describe_study(study, RecipeChoice(departed)), "Recipe")
    partial = {key: values for key, values in ua.items() if key[0] == used}
    assert "Not all rates" in section(describe_study(study, RecipeChoice(partial)), "Recipe")
    assert "are not in results" in section(describe_study(study), "Recipe")


def test_recordings_that_the_plan_leaves_out_are_named_if_they_were_used(
    tmp_path: Path, make_run: Callable[..., Path], document: Document
) -> None:
    assert "1076_MTI_SAD_XX" not in section(document, "Decided")
    path = as_part(make_run(tmp_path / "run", systems=ENCODER[:1], corpus="crema-d", seeds=1), "random", "encoder")
    run = Study.read([path]).runs[0]
    (path / "folds.json").write_text((path / "folds.json").read_text().replace("u0003", "1076_MTI_SAD_XX"))
    assert "1076_MTI_SAD_XX of CREMA-D" in section(describe_study(Study((run,))), "Decided")


def test_missing_runs_have_their_command_and_hours(document: Document) -> None:
    rows = {row[1]: row for row in table(document, "Table 5").rows}
    assert rows["emodb-random"][2:] == ("18", "107", "53.5", "133.8", "Z80, 1 thread")
    assert rows["nemo-random-encoder"][2:] == ("0", "225", "–", "–", "")
    assert rows["emodb-random-encoder"][6] == "finished trainings"
    said = section(document, "Not run")
    assert all(part.command in said for part in PLAN if part.part != "D")
    looped = [part for part in PLAN if part.part == "D"]
    (line,) = (line for line in said.splitlines() if "$corpus" in line)
    written = {line.strip().replace("$corpus", part.corpus).replace("$split", part.protocol) for part in looped}
    assert written == {part.command for part in looped}
    assert " ".join(study_plan.ENCODER_CORPORA) in said
    empty = describe_study(Study(()))
    expected = sum(len(part.wanted) * part.seeds * study_plan.FOLDS for part in PLAN)
    assert f"{expected:,} of the plan's {expected:,}" in table(empty, "Table 5").caption
    assert "fewer than 3 of 7 corpora" in section(empty, "Abstract")


def test_the_commands_are_the_program_s(document: Document) -> None:
    """Every one names options that the verb has, and systems that exist."""
    known = {f"--{name.replace('_', '-')}" for name in signature(experiment).parameters} | {"-o"}
    codes = [block.text for block in document.blocks if isinstance(block, Code)]
    lines = [line.strip() for text in codes for line in text.splitlines() if "affekt experiment" in line]
    assert len(lines) == sum(part.part != "D" for part in PLAN) + 1
    for line in lines:
        program, verb, manifest, *words = shlex.split(line)
        assert (program, verb, manifest.endswith(".csv")) == ("affekt", "experiment", True)
        assert {word for word in words if word.startswith("-")} <= known
        assert set(words[words.index("--systems") + 1].split(",")) <= {*GROUPS, *SYSTEMS}
        if "--recipe" in words:
            assert words[words.index("--recipe") + 1] in RECIPES


def test_every_run_has_a_page(document: Document, pages: dict[str, Document], study: Study) -> None:
    plan, links = (block for block in document.blocks if isinstance(block, Links))
    assert plan.items == (("the study plan", "study-plan.md"),)
    assert [target for _, target in links.items] == [f"study/{name}{SUFFIX}" for name in pages]
    assert list(pages) == [run.name for run in study.runs]
    for page in pages.values():
        assert sum(isinstance(block, Figure) for block in page.blocks) == 1


def test_table_1_has_measured_and_quoted_figures(pages: dict[str, Document], study: Study) -> None:
    shown = table(pages["emodb-random"], "Table 1")
    assert [(row[0], row[2]) for row in shown.rows] == [("LSTM [11]", "57.1"), ("The proposed baseline", "62.3")]
    assert shown.quoted == {2}
    ua = study.run("emodb", "random").summary["systems"]["lstm"]["ua"]  # type: ignore[union-attr]
    assert shown.rows[0][1].startswith(numbers.spread(ua["mean"], ua["sd_jobs"]))


def test_the_eight_cells(pages: dict[str, Document], study: Study) -> None:
    names = {name for pair in INTEGRATION.values() for names in pair for name in names}
    assert {system.name for system in GROUPS["integration"]} <= names
    shown = table(pages["emodb-random"], "Losses and poolings")
    compared = study.run("emodb", "random").summary["systems"]["am-softmax-combined"]["comparison"]["ua"]  # type: ignore[union-attr]
    assert shown.rows[1][2].endswith(f"({numbers.points(compared['difference'])})")
    assert shown.rows[2][2] == numbers.NONE
    assert "5 of the eight cells not run" in shown.note  # the baseline and AM-softmax under both poolings were
    assert table(pages["emovo-random-encoder"], "Losses and poolings").rows[0][2] != numbers.NONE


def test_spread_and_trade_offs_are_the_run_s(pages: dict[str, Document], study: Study) -> None:
    row = next(row for row in table(pages["emodb-random"], "by source").rows if row[0] == "lstm")
    (spread,) = asked.spreads(study.run("emodb", "random"), ["lstm"])  # type: ignore[arg-type]
    assert row[3].startswith(numbers.percent(spread["seeds"]["value"]))
    one_seed = table(pages["emodb-speaker"], "by source").rows[0]
    assert one_seed[2:4] == (numbers.NONE, numbers.NONE)
    shown = table(pages["emodb-random"], "size and time")
    assert "Z80, 1 thread" in shown.note
    assert {row[4] for row in shown.rows} == {"3.0"}


def test_the_robust_recipe_and_its_ablation(pages: dict[str, Document]) -> None:
    page = pages["emodb-speaker-robust"]
    rows = table(page, "by the robust recipe against").rows
    assert [row[:3] for row in rows] == [("compact", "baseline", "paper"), ("compact", "baseline", "robust")]
    ablation = table(page, "Changes to the robust recipe")
    assert ablation.rows[0][:3] == ("recipe", "as it is", "55.0 ± 7.1")
    assert ablation.rows[1][4:7] == ("−3.5", "–", "not tested")  # two folds
    assert not any("Changes" in found.caption for found in tables(pages["emodb-speaker"]))


def test_the_fused_system_s_members_are_named(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    path = as_part(make_run(tmp_path / "robust", systems=("lstm", "compact")), "speaker", "robust")
    fuse(path, ["lstm", "compact"])
    (page,) = run_pages(Study.read([path]))
    note = table(page, "by the robust recipe against").note
    assert note.endswith("fused is the mean posterior of lstm, compact.")


def test_every_format_is_written(tmp_path: Path, study: Study, document: Document) -> None:
    written = write_study(study, tmp_path, ablations=[ABLATION])
    assert [path.name for path in written[:3]] == ["study.html", "study.md", "study.tex"]
    assert len(written) == 3 * (1 + len(study.runs))
    text = (tmp_path / "study.md").read_text()
    assert text == markdown.render(document)
    shown = set(re.findall(r"\(figures/(\S+)\.svg\)", text))
    assert {path.stem for path in (tmp_path / "figures").glob("*.svg")} == shown
    assert "```\naffekt prepare " in text
    for target in re.findall(r"\]\((study/\S+)\)", text):
        assert (tmp_path / target).exists()
        assert "](../study.md)" in (tmp_path / target).read_text()
    assert 'href="study/emodb-random.html"' in (tmp_path / "study.html").read_text()
    with pytest.raises(ConfigError, match="docx"):
        write_study(study, tmp_path, ["docx"])  # type: ignore[list-item]


def test_commands_are_verbatim() -> None:
    document = Document("T", "L", (Code("a_b --c <d>\n# e"),))
    assert "```\na_b --c <d>\n# e\n```" in markdown.render(document)
    assert '<pre class="scroll">a_b --c &lt;d&gt;\n# e</pre>' in html.render(document)
    assert "\\texttt{a\\_b --c \\textless{}d\\textgreater{}}\\\\\n\\texttt{\\# e}\\\\" in latex.render(document)
