"""Reports agree with the summary in every format and carry the necessary warnings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from affekt.errors import ConfigError
from affekt.report import FORMATS, html, latex, markdown, numbers, quoted, write_report
from affekt.report.content import describe
from affekt.report.document import Document, Facts, Figure, Heading, Listing, Notice, Paragraph, Table
from affekt.results import Results, summarize
from affekt.results.run_directory import file_sha256

SYNTHETIC = "SYNTHETIC AUDIO: says nothing about real speech"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., Path]) -> Results:
    run = make_run(
        tmp_path_factory.mktemp("report") / "run",
        systems=("baseline", "focal"),
        corpus="synthetic",
        utterances=240,  # 24 of them sad: enough for a relative change
        left_out=("focal/fold-2/seed-1",),
    )
    return Results.read(run)


@pytest.fixture(scope="module")
def summary(results: Results) -> dict[str, Any]:
    return summarize(results)


@pytest.fixture(scope="module")
def document(results: Results, summary: dict[str, Any]) -> Document:
    return describe(results, summary)


@pytest.fixture(scope="module")
def headline(tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., Path]) -> Document:
    """The report on the paper's four systems."""
    return small(tmp_path_factory.mktemp("headline"), make_run, folds=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, results: Results, summary: dict[str, Any]) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_report(results, folder, summary=summary)
    return folder


def small(tmp_path: Path, make_run: Callable[..., Path], **options: Any) -> Document:
    """The report on a run of two folds and one seed."""
    run = make_run(tmp_path / "run", **({"folds": 2, "seeds": 1, "utterances": 32} | options))
    results = Results.read(run)
    return describe(results, summarize(results, replicates=50))


def tables(document: Document) -> Iterator[Table]:
    return (block for block in document.blocks if isinstance(block, Table))


def table(document: Document, caption: str) -> Table:
    return next(found for found in tables(document) if caption in found.caption)


def prose(document: Document) -> str:
    texts = [block.text for block in document.blocks if isinstance(block, Paragraph | Notice | Heading)]
    return "\n".join([*texts, *(found.note for found in tables(document))])


class Page(HTMLParser):
    """What a browser would see: text, tags left open, and everything that it would have to fetch."""

    EMPTY = ("meta", "link", "path", "use", "image", "br", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.seen: list[str] = []
        self.feed(text)
        self.text = " ".join(self.seen)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in self.EMPTY:
            self.open.append(tag)
        self.fetched += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href", "srcset")]
        self.ids += [value or "" for name, value in attributes if name == "id"]

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.EMPTY:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.seen.append(data)


def test_every_format_shows_every_figure_of_the_recognition_table(folder: Path, document: Document) -> None:
    texts = {
        "html": " ".join(Page((folder / "report.html").read_text()).text.split()),
        "markdown": (folder / "report.md").read_text().replace("\\", ""),
        "latex": (folder / "report.tex").read_text(),
    }
    for row in table(document, "Recognition and comparison").rows:
        for cell in row:
            assert cell in texts["html"]
            assert cell in texts["markdown"]
            assert latex.escape(cell) in texts["latex"]


def test_every_format_has_the_protocol_line_and_warnings(folder: Path, results: Results) -> None:
    for name in ("report.html", "report.md", "report.tex"):
        text = (folder / name).read_text()
        plain = Page(text).text if name.endswith("html") else text.replace("\\textbar{}", "|").replace("\\", "")
        assert results.protocol_line in plain
        assert SYNTHETIC in plain
        assert "11 of 12 jobs are finished" in plain
        assert "focal/fold-2/seed-1" in plain


def test_the_html_report_is_self_contained(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert [target for target in page.fetched if not target.startswith(("#", "data:"))] == []
    assert "<script" not in text
    assert not re.search(r"url\((?!#)|@import|https?:", text)
    assert sorted(set(page.ids)) == sorted(page.ids)  # plots must not share clip paths
    referenced = set(re.findall(r"url\(#([^)]+)\)", text)) | {t[1:] for t in page.fetched if t.startswith("#")}
    assert referenced <= set(page.ids)


def test_plots_use_the_colors_of_the_page(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    svg = text[text.index("<svg") :]
    assert "currentColor" in svg
    assert "#24292f" not in svg
    assert "prefers-color-scheme: dark" in text


def test_figures_are_written_for_every_reference(folder: Path, document: Document) -> None:
    names = {panel.name for block in document.blocks if isinstance(block, Figure) for panel in block.panels}
    shown = set(re.findall(r"\(figures/(\S+)\.svg\)", (folder / "report.md").read_text()))
    included = set(re.findall(r"\{figures/(\S+)\.pdf\}", (folder / "report.tex").read_text()))
    assert names == shown == included
    assert {path.name for path in (folder / "figures").iterdir()} == {f"{n}.{k}" for n in names for k in ("svg", "pdf")}
    assert all((folder / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF") for name in names)


def test_one_format_alone_is_deterministic(tmp_path: Path, folder: Path, results: Results) -> None:
    assert write_report(results, tmp_path, ["html"]) == [tmp_path / "report.html"]
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_bytes() == (folder / "report.html").read_bytes()


def test_unknown_formats_are_named(tmp_path: Path, results: Results) -> None:
    with pytest.raises(ConfigError, match="report format: got 'docx', 'pdf', expected some of html, markdown, latex"):
        write_report(results, tmp_path, ["pdf", "html", "docx"])  # type: ignore[list-item]
    assert FORMATS == ("html", "markdown", "latex")


def test_measured_and_quoted_columns_are_separate(headline: Document) -> None:
    shown = table(headline, "Table 2")
    assert [row[0] for row in shown.rows] == [
        "Baseline",
        "AMS s = 10, m = 0.4",
        "FL γ = 2, α = 2",
        "Combined attentive pooling",
    ]
    assert [row[4:] for row in shown.rows] == [
        ("62.3", "61.0", "–"),
        ("66.7", "65.6", "+4.4"),
        ("66.3", "65.5", "+4.0"),
        ("66.7", "65.2", "+4.4"),
    ]
    assert shown.quoted == {4, 5, 6}
    assert all("quoted" in shown.columns[index] for index in shown.quoted)
    measured = table(headline, "Recognition and comparison").rows[3]
    assert (measured[0], measured[1].split(" [")[0], measured[4]) == ("combined", shown.rows[3][1], shown.rows[3][3])
    assert "10 further rows of the paper were not run" in shown.note
    assert "levels cannot be compared" in prose(headline)


def test_quoted_cells_are_marked_in_every_format() -> None:
    block = Table("C", ("x", "measured", "quoted"), (("a", "1.5", "2.5"),), quoted=frozenset({2}))
    document = Document("T", "L", (block,))
    assert "| a | 1.5 | *2.5* |" in markdown.render(document)
    assert r"a & 1.5 & \textit{2.5} \\" in latex.render(document)
    assert '<td>1.5</td><td class="quoted">2.5</td>' in html.render(document)


def test_the_papers_figures_are_quoted_right() -> None:
    """Golden: Tables 1 and 2 as printed, their sums as a guard against slips."""
    assert len(quoted.TABLE_2) == 14
    assert sum(row.ua for row in quoted.TABLE_2) == pytest.approx(915.2)
    assert sum(row.wa for row in quoted.TABLE_2) == pytest.approx(900.2)
    assert [row.ua for row in quoted.TABLE_1] == [57.1, 59.6, 59.7, 59.4, 60.7, 67.4, 64.7, 62.3]
    assert max(quoted.TABLE_2, key=lambda row: row.ua).gain == 4.4
    names = [name for row in quoted.TABLE_2 for name in row.systems]
    assert len(set(names)) == len(names) == 16


def test_table_1_appears_with_the_first_prior_system(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    document = small(tmp_path, make_run, systems=("baseline", "crnn-3d"))
    assert [(row[0], row[2]) for row in table(document, "Table 1").rows] == [
        ("3D CRNN [1]", "64.7"),
        ("The proposed baseline", "62.3"),
    ]


def test_own_systems_are_not_compared_with_the_paper(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    document = small(tmp_path, make_run, systems=("mine", "yours"))
    assert not any("of the paper" in found.caption for found in tables(document))
    assert "Beside the paper" not in prose(document)


def test_no_warning_on_iemocap_itself(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    document = small(tmp_path, make_run, corpus="iemocap")
    assert "levels cannot be compared" not in prose(document)
    assert SYNTHETIC not in prose(document)


def test_the_change_of_the_hardest_class_is_stated(document: Document, summary: dict[str, Any]) -> None:
    change = summary["systems"]["focal"]["comparison"]["relative_recall"]["happy"]
    assert f"focal {numbers.points(change)}\u00a0%" in prose(document)
    assert "Relative change of the recall of happy against baseline" in prose(document)
    figure = next(b for b in document.blocks if isinstance(b, Figure) and "Figure 2" in b.caption)
    assert [panel.title for panel in figure.panels] == ["baseline", "focal"]


def test_a_class_of_few_utterances_has_no_relative_change(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    """Of 32 utterances 9 are happy: one of them is 11 %."""
    assert "Relative change" not in prose(small(tmp_path, make_run))


def test_without_happy_the_worst_class_is_the_hardest(results: Results, summary: dict[str, Any]) -> None:
    def renamed(figures: dict[str, float]) -> dict[str, float]:
        return {("merry" if name == "happy" else name): value for name, value in figures.items()}

    systems = {name: system | {"recall": renamed(system["recall"])} for name, system in summary["systems"].items()}
    for system in systems.values():
        if system["comparison"]:
            changes = renamed(system["comparison"]["relative_recall"])
            system["comparison"] = system["comparison"] | {"relative_recall": changes}
    classes = ["angry", "merry", "neutral", "sad"]
    worst = min(systems["baseline"]["recall"], key=systems["baseline"]["recall"].__getitem__)
    changed = describe(results, summary | {"systems": systems, "classes": classes})
    assert f"Relative change of the recall of {worst} against baseline" in prose(changed)


def test_missing_jobs_are_listed(document: Document) -> None:
    listing = next(block for block in document.blocks if isinstance(block, Listing))
    assert listing.items == ("focal/fold-2/seed-1",)
    facts = next(block for block in document.blocks if isinstance(block, Facts))
    assert [(fact.label, fact.value) for fact in facts.items][-1] == ("Jobs finished", "11 of 12")


def test_projections_use_a_job_that_all_systems_have(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    left_out = ("baseline/fold-0/seed-0", "focal/fold-1/seed-0")
    document = small(tmp_path, make_run, systems=("baseline", "focal"), folds=3, left_out=left_out)
    assert projected(document) == ["baseline, fold 2, seed 0", "focal, fold 2, seed 0"]


def test_without_a_shared_job_each_system_uses_its_own(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    left_out = ("baseline/fold-0/seed-0", "focal/fold-1/seed-0")
    document = small(tmp_path, make_run, systems=("baseline", "focal"), left_out=left_out)
    assert projected(document) == ["baseline, fold 1, seed 0", "focal, fold 0, seed 0"]


def projected(document: Document) -> list[str]:
    figures = (block for block in document.blocks if isinstance(block, Figure))
    return [panel.title for figure in figures for panel in figure.panels if panel.name.startswith("projection")]


def test_a_single_system_has_no_comparison(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    document = small(tmp_path, make_run, systems=("baseline",), seeds=1)
    assert table(document, "Recognition and comparison").rows[0][4:7] == ("", "", "")
    assert not any("Comparison with" in found.caption for found in tables(document))
    assert "Relative change" not in prose(document)


def test_sections_without_data_are_omitted(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run", systems=("svm",), folds=2, seeds=1)
    for folder in run.glob("svm/*/*"):
        (folder / "embeddings.npy").unlink()
        (folder / "history.csv").write_text("epoch,train_accuracy,validation_accuracy\n")
        result = json.loads((folder / "result.json").read_text())
        result["sha256"]["history.csv"] = file_sha256(folder / "history.csv")
        (folder / "result.json").write_text(json.dumps(result))
    results = Results.read(run)
    headings = [b.text for b in describe(results, summarize(results)).blocks if isinstance(b, Heading)]
    assert headings == ["Recognition", "Classes", "Sources of variation", "Calibration", "How to read this"]


def test_names_are_escaped_in_every_format(tmp_path: Path) -> None:
    odd = '<b>&_$%#{x}~^|[*"\\'
    blocks = (Heading(odd), Paragraph(odd), Notice(odd), Listing(odd, (odd,)), Table(odd, (odd,), ((odd,),), note=odd))
    document = Document(odd, odd, blocks)
    page = Page(html.render(document))
    assert page.open == []
    assert page.text.count(odd) == 12
    assert "<b>" not in html.render(document)
    assert markdown.render(document).replace("\\", "").count(odd.replace("\\", "")) == 11
    body = latex.render(document).partition(r"\begin{document}")[2]
    assert body.count(latex.escape(odd)) == 11
    assert re.sub(r"\\[&%$#_{}]", "", latex.escape(odd)).count("{") == latex.escape(odd).count("}") - 1


# -------------------------------------------------------------------------------------------- tests and their verdicts


def test_a_gain_stands_with_the_interval_of_its_own_test(headline: Document) -> None:
    """An interval holds 0 exactly where the uncorrected p of the same row is above 0.05."""
    for caption, test in (("over folds", 3), ("over speakers", 3)):
        for row in table(headline, caption).rows:
            low, high = (float(end.replace("−", "-")) for end in row[2].split("[")[1].rstrip("]").split(", "))
            if caption == "over folds":
                assert (low <= 0 <= high) == (float(row[test].lstrip("<")) >= 0.05), row
            assert low <= float(row[2].split(" [")[0].replace("−", "-")) <= high


def verdicts_of(document: Document) -> list[str]:
    shown = table(document, "Recognition and comparison")
    return [row[shown.columns.index("Verdict")] for row in shown.rows]


def test_every_p_has_a_verdict_beside_it(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = {"systems": ("baseline", "focal"), "folds": 4, "utterances": 320}
    same, better = (small(tmp_path / str(gain), make_run, gain=gain, **run) for gain in (0.0, 0.45))
    assert verdicts_of(same) == ["", "no difference shown"]
    assert verdicts_of(better) == ["", "better"]
    assert "no difference to baseline shown for focal (p = " in prose(same)
    assert re.search(r"focal is better than baseline by \d+\.\d points \(p [=<] 0\.0\d\d\)", prose(better))
    card = next(block for block in same.blocks if isinstance(block, Facts)).items[1]
    assert re.search(r"95 % interval \[.*\] over folds; p = .*: no difference shown$", card.note)


def test_two_folds_are_not_tested(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    document = small(tmp_path, make_run, systems=("baseline", "focal"), folds=2)
    assert verdicts_of(document) == ["", "not tested"]
    row = table(document, "over folds").rows[0]
    assert row[3:5] == ("–", "–")
    assert "[" not in row[2]
    assert "focal: not tested: a t-test needs 3 folds" in prose(document)


def test_the_page_has_a_table_of_contents(folder: Path, document: Document) -> None:
    text = (folder / "report.html").read_text()
    links = dict(re.findall(r'<a href="#([^"]+)">([^<]+)</a>', text))
    assert list(links.values()) == [block.text for block in document.blocks if isinstance(block, Heading)]
    assert all(f'<h2 id="{anchor}">{name}</h2>' in text for anchor, name in links.items())


def test_wide_tables_say_that_they_scroll_and_narrow_ones_do_not() -> None:
    wide = Table("C", tuple("abcdef"), (tuple("123456"),))
    narrow = Table("C", ("a", "b"), (("1", "2"),))
    texts = [html.render(Document("T", "L", (block,))) for block in (wide, narrow)]
    assert ['class="scroll wide" tabindex="0"' in text for text in texts] == [True, False]
