"""The page of a run in the study's appendix: all its systems in tables, and one figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from affekt.report import numbers, plots, verdicts
from affekt.report.comparison import recognition_table
from affekt.report.content import GEOMETRY, paper_tables, recall_table
from affekt.report.document import SUFFIX, Block, Code, Document, Figure, Heading, Links, Panel, Paragraph, Table
from affekt.results import study_questions as asked
from affekt.results.ablation import Ablation, AblationRow
from affekt.results.study import PLAN, Run, Study

Row = Mapping[str, Any]
MOST_HISTORIES = 9
"""In runs of more systems, the histories of the baseline and the proposals alone are summarized."""
INTEGRATION = {
    "softmax": (("baseline",), ("combined",)),
    "AM-softmax": (asked.PROPOSALS["AM-softmax"], ("am-softmax-combined",)),
    "focal": (asked.PROPOSALS["focal loss"], ("focal-combined",)),
    "AM-softmax and focal": (("am-focal",), ("am-focal-combined",)),
}
"""Rows of the eight cells, each with its systems under attention and under combined attentive pooling."""


def describe_run(run: Run, study: Study, ablations: Sequence[Ablation] = ()) -> Document:
    """The page of a run.

    Args:
        run: the run.
        study: whose other runs it may be compared with.
        ablations: of the robust recipe.
    """
    sections = (
        _opening(run),
        _recognition(run),
        _alphas(run),
        _spread(run),
        _compactness(run),
        _trade_offs(run),
        _contests(run, study) if run.recipe == "robust" else (),
        *(_ablation(each) for each in ablations if run.recipe == "robust" and each.line.startswith(run.results.corpus)),
    )
    blocks = tuple(block for section in sections for block in section)
    return Document(f"Run {run.name}", run.results.protocol_line, blocks, run.name)


def _opening(run: Run) -> Iterator[Block]:
    missing = len(run.results.missing)
    state = "all trainings are finished" if not missing else f"{missing} trainings are not finished"
    sizes = run.results.folds
    parts = ", ".join(f"{sum(getattr(fold, part) for fold in sizes) / len(sizes):.0f} {part}" for part in asked.PARTS)
    yield Paragraph(
        f"Recipe {run.results.recipe}; {len(run.systems)} systems, {len(sizes)} folds, {len(run.results.seeds)} "
        f"{'seed' if len(run.results.seeds) == 1 else 'seeds'}; {state}. Mean utterances of a fold: {parts}."
    )
    if planned := next((part for part in PLAN if part.name == run.name), None):
        yield Code(planned.command)
    yield Links("Part of", (("the study", f"../study{SUFFIX}"),))


def _recognition(run: Run) -> Iterator[Block]:
    summary, name = run.summary, run.name
    yield Heading("Recognition")
    yield recognition_table(summary)
    yield Figure(
        f"UA of all test utterances with its interval ({run.results.protocol_line}); the dashed line is "
        f"{summary['baseline']}.",
        (Panel(f"{name}-intervals", f"UA on {name}", plots.intervals(summary["systems"], summary["baseline"])),),
    )
    yield from paper_tables(summary)
    cells = tuple((loss, *(_cell(run, names) for names in pair)) for loss, pair in INTEGRATION.items())
    if any(cell != numbers.NONE for row in cells[1:] for cell in row[1:]):
        caption = "Losses and poolings together: UA (%), mean ± standard deviation over jobs (gain over the baseline)."
        yield Table(caption, ("Loss", "attention", "combined attentive pooling"), cells, note=_missing_cells(cells))
    yield recall_table(summary)


def _cell(run: Run, names: Sequence[str]) -> str:
    name = run.first(run.own_names(names)) if list(names) != ["baseline"] else run.baseline
    if not name:
        return numbers.NONE
    ua = run.summary["systems"][name]["ua"]
    compared = run.summary["systems"][name]["comparison"]
    gained = f" ({numbers.points(compared['ua']['difference'])})" if compared else ""
    return f"{numbers.spread(ua['mean'], ua['sd_jobs'])}{gained}"


def _missing_cells(cells: tuple[tuple[str, ...], ...]) -> str:
    missing = sum(cell == numbers.NONE for row in cells for cell in row[1:])
    return f"{missing} of the eight cells not run." if missing else ""


def _difference(row: Row) -> str:
    return f"{numbers.points(row['difference'])} {numbers.interval(row['low'], row['high'], signed=True)}"


def _alphas(run: Run) -> Iterator[Block]:
    rows = tuple(
        (
            f"gamma = {row['gamma']}: alpha {row['more']} − {row['less']}",
            _difference(row),
            numbers.p_value(row["p_holm"]),
            verdicts.of_study(row),
        )
        for row in asked.alphas(run)
    )
    if rows:
        yield Heading("Alpha under Adam")
        columns = ("Focal systems", "UA difference (points)", "p (t), Holm", "Verdict")
        yield Table("Secondary: focal systems that differ in alpha alone.", columns, rows)


def _spread(run: Run) -> Iterator[Block]:
    own = [run.baseline, *(asked.proposal(run, name) for name in asked.PROPOSALS)]
    shown = own if len(run.systems) > MOST_HISTORIES else None
    yield Heading("Sources of variation")
    yield Table(
        "Secondary: standard deviations of UA by source (points), and epochs trained.",
        (
            "System",
            "all jobs",
            "folds",
            "seeds",
            "sampling",
            "epochs near the kept one",
            "kept above last",
            "epochs trained",
        ),
        tuple(map(_spread_row, asked.spreads(run, stopped=shown))),
        note="Folds and seeds: square roots of the components of a random-effects model, with intervals; two seeds are "
        "needed to separate them. Sampling: the variation due to the finite test part alone, a part of folds. Epochs: "
        f"standard deviation of validation UA within {asked.NEAR_EPOCHS} epochs of the kept one about a straight line, "
        "and validation UA of the kept epoch minus that of the last one, means over jobs with Student's intervals"
        f"{'; of the baseline and the three proposals' if shown else ''}.",
    )


def _spread_row(row: Row) -> tuple[str, ...]:
    parts = (*map(_deviation, (row["folds"], row["seeds"])), numbers.percent(row["sampling"]))
    stops = map(_deviation, (row["stopping"], row["lost"]))
    epochs = numbers.NONE if row["epochs"] is None else numbers.decimal(row["epochs"]["value"], 1)
    return (row["system"], numbers.percent(row["jobs"]), *parts, *stops, epochs)


def _deviation(row: Row | None) -> str:
    if row is None:
        return numbers.NONE
    return f"{numbers.percent(row['value'])} {numbers.interval(row['low'], row['high'])}"


def _compactness(run: Run) -> Iterator[Block]:
    changes = tuple(
        (
            row["proposal"],
            GEOMETRY[row["measure"]],
            _plain(row, "difference", 3),
            numbers.p_value(row["p"]),
            verdicts.of_study(row, verdicts.SIZES, "p"),
        )
        for row in asked.compactness(run)
    )
    associations = tuple(
        (GEOMETRY[measure], _plain(row, "value", 2), str(row["jobs"]))
        for measure in GEOMETRY
        if (row := asked.association(run, measure))
    )
    if changes or associations:
        yield Heading("Compactness")
    if changes:
        columns = ("Proposal", "Measure", "Change", "p (t)", "Verdict")
        caption = "Secondary: geometry of the deep features of test utterances, against the baseline."
        yield Table(caption, columns, changes, note="Verdict: p below 0.05, not corrected for the number of rows.")
    if associations:
        yield Table(
            "Secondary: rank correlation (Spearman) of each measure with UA over jobs.",
            ("Measure", "Correlation", "Jobs"),
            associations,
            note="Jobs of a fold are centered first, since an easy fold raises both; each centering removes one "
            "degree of freedom. Interval: Bonett & Wright (2000), which assumes independent jobs; systems of one "
            "fold share their data, so it is somewhat too narrow.",
        )


def _plain(row: Row, name: str, digits: int) -> str:
    value, low, high = (numbers.decimal(row[key], digits) for key in (name, "low", "high"))
    return f"{value} [{low}, {high}]"


def _trade_offs(run: Run) -> Iterator[Block]:
    rows = asked.trade_offs(run)
    device = rows[0]["device"]
    where = f"features and network for a clip of 3 s, alone, in float32, on {device}" if device else "not measured"
    yield Heading("Size and time")
    yield Table(
        "UA of all test utterances together, size and time.",
        ("System", "UA (%)", "Parameters", "best for its size", "ms a clip", "best for its time"),
        tuple(_trade_off_row(row) for row in rows),
        note=f"Best: no other system is as small (as fast) and better. Milliseconds: {where}.",
    )


def _trade_off_row(row: Row) -> tuple[str, ...]:
    marks = ["yes" if row[f"best_for_{price}"] else "" for price in ("parameters", "milliseconds")]
    ua = f"{numbers.percent(row['ua'])} {numbers.interval(row['low'], row['high'])}"
    size, milliseconds = numbers.count(row["parameters"]), numbers.decimal(row["milliseconds"], 1)
    return (row["system"], ua, size, marks[0], milliseconds, marks[1])


def _contests(run: Run, study: Study) -> Iterator[Block]:
    """The robust recipe against rivals on the same folds."""
    others = (study.run(run.results.corpus, run.results.protocol), run)
    rows = tuple(
        (
            row["system"],
            row["other"],
            rival.results.recipe,
            _difference(row),
            numbers.p_value(row["p_holm"]),
            verdicts.of_study(row),
            numbers.p_value(row["permutation_p_holm"]),
        )
        for rival in others
        if rival is not None
        for row in asked.contest(run, rival)
    )
    if rows:
        yield Heading("Small systems against SVMs and Table 1")
        yield Table(
            "Systems by the robust recipe against rivals on the same folds.",
            ("Robust system", "Rival", "its recipe", "UA gain (points)", "p (t)", "Verdict", "p (perm.)"),
            rows,
            note="Intervals and p (t) over folds, p (perm.) by exchanging predictions within speakers. Holm's "
            f"correction is over the rivals of a system and recipe.{_fused(run)}",
        )


def _fused(run: Run) -> str:
    """Members of the fused system, where there is one."""
    members = run.results.fusions.get(asked.FUSED)
    return f" {asked.FUSED} is the mean posterior of {', '.join(members)}." if members else ""


def _ablation(ablation: Ablation) -> Iterator[Block]:
    yield Heading("Ablation of the robust recipe")
    yield Table(
        f"Changes to the robust recipe, UA on validation speakers (%): {ablation.line}.",
        ("Row", "Change", "UA", "last epoch", "against the recipe (points)", "p (t)", "Verdict", "Jobs"),
        tuple(map(_ablation_row, ablation.rows())),
        note=f"System {ablation.system}, {ablation.epochs} epochs. The UA is that of the kept epoch, which validation "
        "chose, so its level is optimistic; differences between rows are not. Test speakers were not used. Verdict: p "
        "below 0.05, not corrected for the number of rows.",
    )


def _ablation_row(row: AblationRow) -> tuple[str, ...]:
    ua, last = numbers.spread(row.ua.mean, row.ua.sd), numbers.percent(row.last)
    return (row.name, row.change, ua, last, *_ablation_gain(row), str(row.jobs))


def _ablation_gain(row: AblationRow) -> tuple[str, str, str]:
    """Gain with interval, p-value and verdict; without a test below three folds."""
    if row.difference is None:
        return "", "", ""
    interval = f" {numbers.interval(row.gain.low, row.gain.high, signed=True)}" if row.gain else ""
    verdict = verdicts.of_study({"difference": row.difference, "p": row.p_value}, p="p")
    return f"{numbers.points(row.difference)}{interval}", numbers.p_value(row.p_value), verdict
