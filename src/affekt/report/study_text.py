"""The study as a document: question, method, tables, answers, limits, missing runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from affekt.report import answers, numbers, plots, quoted, verdicts
from affekt.report.comparison import recognition_table
from affekt.report.content import paper_tables
from affekt.report.document import Block, Code, Document, Figure, Heading, Listing, Panel, Paragraph, Table
from affekt.results import study as study_plan
from affekt.results import study_questions as asked
from affekt.results.ablation import Ablation, AblationRow
from affekt.results.study import Planned, Run, Study

Row = Mapping[str, Any]
INTEGRATION = {
    "softmax": (("baseline",), ("combined",)),
    "AM-softmax": (("am-softmax", "am-softmax-s10-m0.4"), ("am-softmax-combined",)),
    "focal": (("focal", "focal-g2-a2"), ("focal-combined",)),
    "AM-softmax and focal": (("am-focal",), ("am-focal-combined",)),
}
"""Rows of the eight cells, each with its systems under attention and under combined attentive pooling."""

TO_COLLECT = "python scripts/collect_results.py runs/{name} results/{name}"


def describe_study(study: Study, ablations: Sequence[Ablation] = ()) -> Document:
    """The report on the runs of a study.

    Args:
        study: runs, and plans of runs.
        ablations: of the robust recipe, on validation speakers.
    """
    sections = (
        _question(),
        _method(study),
        *(_run(run) for run in study.runs),
        answers.claims(study),
        answers.alpha(study),
        answers.spread(study),
        answers.flattery(study),
        answers.compactness(study),
        answers.trade_offs(study),
        _independence(study, ablations),
        _limits(study),
        _rest(study),
    )
    blocks = tuple(block for section in sections for block in section)
    line = "; ".join(run.results.protocol_line for run in study.runs) or "nothing measured yet"
    return Document("Discriminative features for speech emotion recognition, measured again", line, blocks, "study")


def _question() -> Iterator[Block]:
    yield Heading("Question")
    yield Paragraph(
        "Zhou & Liu (2020) report that AM-softmax, focal loss and combined attentive pooling each improve a compact "
        f"network by at least {quoted.CLAIM_POINTS:.0f} points of UA over its softmax baseline, on one corpus, under a "
        "random split, and beside prior systems whose figures come from other subsets and splits. We ask what remains "
        "when every system is trained on the same folds of the same data: (a) do the proposals gain 4 points? (b) does "
        "the weight alpha of focal loss matter under Adam, which is nearly invariant to the scale of a loss? (c) how "
        "much of the spread comes from early stopping, folds and seeds? (d) how optimistic is a random split? (e) "
        "are the deep features more compact and separated, and does that predict recognition? (f) which system is best "
        "for its parameters and its time? And what helps with unseen speakers?"
    )


def _method(study: Study) -> Iterator[Block]:
    yield Heading("Method")
    yield Paragraph(
        "Systems: the seven prior systems of the paper's Table 1, each from its own paper with its own input; the "
        "fourteen rows of Table 2; all eight cells of AM-softmax, focal loss and combined attentive pooling, which the "
        "paper leaves for future work; two functionals + SVM baselines and a small ECAPA-TDNN. docs/systems.md "
        "states for each what the source specifies and what we chose. Recipes: paper (Adam, learning rate 1e-4, early "
        "stopping on validation accuracy with a patience of 10) and robust (augmentation, masking, one-cycle "
        "schedule, averaging, at least 2,000 steps)."
    )
    yield Paragraph(
        "Protocols: random, the paper's 0.55 : 0.25 : 0.2 split five times; speaker, the same shares with no speaker "
        "in two parts. Normalizers are fitted on the training part, epochs and temperatures chosen on the validation "
        "part; the test part is scored once. UA is the mean recall over the classes."
    )
    yield Paragraph(
        "Statistics: differences between systems are paired by fold and tested by the corrected resampled t-test of "
        "Nadeau & Bengio (2003), seeds averaged, Holm-corrected; their intervals are those of that test. Levels, and "
        "differences between protocols, have percentile intervals from drawing whole speakers. Components of variance "
        "are those of a one-way random-effects model. Intervals are 95 %."
    )
    if study.runs:
        yield Table(
            "Runs.",
            ("Run", "Protocol line", "Recipe", "Utterances", "Speakers", "Jobs finished"),
            tuple(_run_row(run) for run in study.runs),
        )


def _run_row(run: Run) -> tuple[str, ...]:
    results, jobs = run.results, run.summary["jobs"]
    tested = results.predictions.drop_duplicates("id")
    speakers = tested["speaker"].replace("", None).nunique()
    counts = (numbers.count(len(tested)), str(speakers), f"{jobs['finished']} of {jobs['expected']}")
    return (run.planned.name, results.protocol_line, results.recipe, *counts)


def _run(run: Run) -> Iterator[Block]:
    summary, name = run.summary, run.planned.name
    yield Heading(f"Results: {name}")
    yield Paragraph(f"{run.results.protocol_line} | recipe {run.results.recipe}")
    yield recognition_table(summary)
    yield Figure(
        f"UA of all test utterances with its interval ({run.results.protocol_line}); the dashed line is "
        f"{summary['baseline']}.",
        (Panel(f"study-{name}-intervals", f"UA on {name}", plots.intervals(summary["systems"], summary["baseline"])),),
    )
    yield from paper_tables(summary)
    cells = tuple((loss, *(_cell(run, names) for names in pair)) for loss, pair in INTEGRATION.items())
    if any(cell != numbers.NONE for row in cells[1:] for cell in row[1:]):
        caption = "Losses and poolings together: UA (%), mean ± standard deviation over jobs (gain over the baseline)."
        yield Table(caption, ("Loss", "attention", "combined attentive pooling"), cells, note=_missing_cells(cells))


def _cell(run: Run, names: tuple[str, ...]) -> str:
    name = run.first(names)
    if not name:
        return numbers.NONE
    ua = run.summary["systems"][name]["ua"]
    compared = run.summary["systems"][name]["comparison"]
    gained = f" ({numbers.points(compared['ua']['difference'])})" if compared else ""
    return f"{numbers.spread(ua['mean'], ua['sd_jobs'])}{gained}"


def _missing_cells(cells: tuple[tuple[str, ...], ...]) -> str:
    missing = sum(cell == numbers.NONE for row in cells for cell in row[1:])
    return f"{missing} of the eight cells not run: --systems integration." if missing else ""


def _independence(study: Study, ablations: Sequence[Ablation]) -> Iterator[Block]:
    yield Heading("Unseen speakers")
    yield Paragraph(
        "No data of a test speaker is used, labeled or not. Changes to the robust recipe are judged on validation "
        "speakers only, except for its least number of steps, which was chosen after test folds had been seen "
        "(results/README.md)."
    )
    for ablation in ablations:
        yield _ablation_table(ablation)
    if not ablations:
        yield Paragraph("Not run: the ablation.")
        commands = (f"python scripts/ablation.py {corpus}.csv -o results/ablation" for corpus in study_plan.CORPORA)
        yield Code("\n".join(commands))
    yield from _contests(study)


def _contests(study: Study) -> Iterator[Block]:
    trained = {corpus: study.run(corpus, "speaker", "robust") for corpus in study_plan.CORPORA}
    rows = [
        _contest_row(corpus, rival, row)
        for corpus, robust in trained.items()
        for rival in (study.run(corpus, "speaker"), robust)
        if robust and rival
        for row in asked.contest(robust, rival)
    ]
    if rows:
        yield Table(
            "Small systems by the robust recipe against SVMs and Table 1, speakers held out.",
            ("Corpus", "Robust system", "Rival", "its recipe", "UA gain (points)", "p (t)", "Verdict", "p (perm.)"),
            tuple(rows),
            note="On the same folds; intervals and p (t) over folds, p (perm.) by exchanging predictions within "
            f"speakers. Holm's correction is over the rivals of a system, corpus and recipe.{_fused(trained.values())}",
        )
    if absent := [Planned(corpus, "speaker", "robust", {}) for corpus, run in trained.items() if run is None]:
        yield from answers.not_run("the robust recipe with speakers held out", absent, "compact,yardsticks,table1")


def _contest_row(corpus: str, rival: Run, row: Row) -> tuple[str, ...]:
    return (
        corpus,
        row["system"],
        row["other"],
        rival.results.recipe,
        answers.difference(row),
        numbers.p_value(row["p_holm"]),
        verdicts.of_study(row),
        numbers.p_value(row["permutation_p_holm"]),
    )


def _fused(runs: Iterable[Run | None]) -> str:
    """What the fused system is, where there is one."""
    known = sorted({run.results.fusions[asked.FUSED] for run in runs if run and asked.FUSED in run.results.fusions})
    said = (f"{asked.FUSED} is the mean posterior of {', '.join(members)}." for members in known)
    return "".join(f" {sentence}" for sentence in said)


def _ablation_table(ablation: Ablation) -> Table:
    return Table(
        f"Changes to the robust recipe, UA on validation speakers (%): {ablation.line}.",
        ("Row", "Change", "UA", "last epoch", "against the recipe (points)", "p (t)", "Verdict", "Jobs"),
        tuple(
            (
                row.name,
                row.change,
                numbers.spread(row.ua.mean, row.ua.sd),
                numbers.percent(row.last),
                *_ablation_gain(row),
                str(row.jobs),
            )
            for row in ablation.rows()
        ),
        note=f"System {ablation.system}, {ablation.epochs} epochs. The UA is that of the kept epoch, which validation "
        "chose, so its level is optimistic; differences between rows are not. Test speakers were not "
        "used. Verdict: p below 0.05, not corrected for the number of rows.",
    )


def _ablation_gain(row: AblationRow) -> tuple[str, str, str]:
    """Gain with interval, p-value and verdict; without a test below three folds."""
    if row.difference is None:
        return "", "", ""
    interval = f" {numbers.interval(row.gain.low, row.gain.high, signed=True)}" if row.gain else ""
    verdict = verdicts.of_study({"difference": row.difference, "p": row.p_value}, p="p")
    return f"{numbers.points(row.difference)}{interval}", numbers.p_value(row.p_value), verdict


def _limits(study: Study) -> Iterator[Block]:
    yield Heading("Limits")
    few = [run.planned.name for run in study.runs if len(run.results.seeds) < study_plan.SEEDS]
    items = [
        "Acted speech of few speakers; the paper's corpus, IEMOCAP, is missing, because its license is personal.",
        "Prior systems are our readings of their papers, trained by one recipe, not by the original ones.",
        "Intervals from few speakers and five folds are wide and nevertheless somewhat too narrow.",
        "Times depend on the machine and its load; parameter counts do not.",
    ]
    if few:
        items.insert(
            0, f"Fewer than {study_plan.SEEDS} seeds: {', '.join(few)}. Single trainings differ by several points."
        )
    yield Listing("Limits of these figures", tuple(items))


def _rest(study: Study) -> Iterator[Block]:
    yield Heading("Finished and missing jobs")
    parts = [study_plan.remaining(part, run) for part, run in study.parts()]
    finished, expected = (sum(row[key] for row in parts) for key in ("finished", "expected"))
    yield Paragraph(
        f"{numbers.count(finished)} of {numbers.count(expected)} jobs of the study are finished: "
        f"{len(study_plan.SYSTEMS)} systems, {study_plan.FOLDS} folds, {study_plan.SEEDS} seeds, "
        f"{len(study_plan.PROTOCOLS)} protocols, "
        f"{len(study_plan.CORPORA)} corpora, {len(study_plan.RECIPES)} recipes. "
        "A command resumes where it was interrupted; "
        "--plan prints its jobs with their hours on this device and stores them in costs.json. The manifests are "
        "made from the corpora's releases:"
    )
    prepared = (f"affekt prepare {name} CORPORA/{name} -o {name}.csv --labels iemocap4" for name in study_plan.CORPORA)
    yield Code("\n".join(prepared))
    yield Table(
        "Missing jobs.",
        ("Part", "Finished", "Left", "Hours, usual stopping", "Hours at most", "Measured on"),
        tuple(_rest_row(row) for row in parts),
        note="Hours for jobs in sequence; they may run in parallel. A cost measured under one protocol is used for the "
        "other too, whose folds have the same size.",
    )
    left = [row["part"] for row in parts if row["finished"] < row["expected"]]
    if left:
        yield Code(
            "\n".join(line for part in left for line in (answers.command(part), TO_COLLECT.format(name=part.name)))
        )
    plans = {plan.name: plan for plan in (*study.planned, *(run.planned for run in study.runs))}
    for part in plans.values():
        for device in part.costs:
            yield _cost_table(part, device)


def _rest_row(row: Row) -> tuple[str, ...]:
    device, hours = next(iter(row["hours"].items()), ("", [None, None]))
    left = row["expected"] - row["finished"]
    return (row["part"].name, str(row["finished"]), str(left), *(numbers.decimal(h, 1) for h in hours), device)


def _cost_table(part: Planned, device: str) -> Table:
    return Table(
        f"Cost of a job of each system: {part.name}, on {device}.",
        ("System", "Hours, usual stopping", "Hours at most", "ms to train on an utterance", "ms to score it"),
        tuple(
            (
                name,
                numbers.decimal(cost["job_hours"], 2),
                numbers.decimal(cost["longest_job_hours"], 2),
                numbers.decimal(1e3 * cost["training"], 1),
                numbers.decimal(1e3 * cost["scoring"], 1),
            )
            for name, cost in part.costs[device].items()
        ),
    )
