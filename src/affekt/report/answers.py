"""The answers of a study to its questions: a summary sentence, tables, and the commands of missing runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from affekt.report import numbers, plots, verdicts
from affekt.report.content import GEOMETRY
from affekt.report.document import Block, Code, Figure, Heading, Panel, Paragraph, Table
from affekt.results import study as study_plan
from affekt.results import study_questions as asked
from affekt.results.study import Planned, Study

Row = Mapping[str, Any]
LEVEL = 0.05

READINGS = {
    "reached": "the whole interval is at or above 4 points: the claim holds here",
    "refuted": "the whole interval is below 4 points: the claim does not hold here",
    "open": "the interval contains 4 points: undecided by these jobs",
}


def command(part: Planned, systems: str = "study", seeds: int = study_plan.SEEDS) -> str:
    """The command that starts or resumes a part of the study.

    >>> print(command(Planned("emodb", "speaker", "paper", {}), "headline", 1))
    affekt experiment emodb.csv -o runs/emodb-speaker --systems headline --protocol speaker --folds 5 --seeds 1
    """
    recipe = f" --recipe {part.recipe}" if part.recipe != "paper" else ""
    return (
        f"affekt experiment {part.corpus}.csv -o runs/{part.name} --systems {systems} --protocol {part.protocol} "
        f"--folds {study_plan.FOLDS} --seeds {seeds}{recipe}"
    )


def not_run(what: str, parts: Sequence[Planned], systems: str, seeds: int = study_plan.SEEDS) -> Iterator[Block]:
    """The missing runs and their commands."""
    yield Paragraph(f"Not run: {what}.")
    yield Code("\n".join(command(part, systems, seeds) for part in parts))


def _parts_without(study: Study) -> list[Planned]:
    """Parts of the study under the paper's recipe of which nothing is measured."""
    return [part for part, run in study.parts() if run is None and part.recipe == "paper"]


def difference(row: Row) -> str:
    """A difference of UA in points with its interval."""
    return f"{numbers.points(row['difference'])} {numbers.interval(row['low'], row['high'], signed=True)}"


def _p_values(row: Row) -> tuple[str, str]:
    return numbers.p_value(row["p"]), numbers.p_value(row["p_holm"])


def claims(study: Study) -> Iterator[Block]:
    """(a) The gain of each proposal, compared with the paper's claim."""
    yield Heading("(a) Do the proposals gain 4 points?")
    found = [(run.planned.name, row) for run in study.runs for row in asked.claims(run)]
    rows = tuple(
        (
            name,
            row["proposal"],
            difference(row),
            *_p_values(row),
            verdicts.of_study(row),
            READINGS[row["verdict"]],
        )
        for name, row in found
    )
    if rows:
        counts = {verdict: sum(row["verdict"] == verdict for _, row in found) for verdict in READINGS}
        yield Paragraph(
            f"Of {len(found)} comparisons, the interval is at or above 4 points in {counts['reached']}, below in "
            f"{counts['refuted']}, and contains 4 points in {counts['open']}."
        )
        columns = ("Run", "Proposal", "UA gain (points)", "p (t)", "p (t), Holm", "Verdict", "The claim of 4 points")
        note = (
            "Gain over the baseline on the same folds; interval and p of one test, the corrected resampled t-test. "
            f"Verdict: Holm-corrected p below {LEVEL}."
        )
        yield Table("The paper's proposals against its baseline.", columns, rows, note=note)
    absent = [name for name in asked.PROPOSALS if name not in {row[1] for row in rows}]
    if absent:
        yield Paragraph(f"Not run on any corpus: {', '.join(absent)}.")
    if parts := _parts_without(study):
        yield from not_run("the other corpora and protocols", parts, "headline")


def alpha(study: Study) -> Iterator[Block]:
    """(b) The effect of alpha between focal systems that differ only in it."""
    yield Heading("(b) Does alpha matter under Adam?")
    yield Paragraph(
        "A constant alpha multiplies the whole loss. Adam divides the gradient by its own size, so two alphas should "
        "differ by no more than two seeds do."
    )
    found = [(run.planned.name, row) for run in study.runs for row in asked.alphas(run)]
    rows = tuple(
        (
            name,
            f"{row['system']} − {row['other']}",
            difference(row),
            numbers.p_value(row["p_holm"]),
            verdicts.of_study(row),
        )
        for name, row in found
    )
    if rows:
        largest = max((abs(row["difference"]) for _, row in found))
        differ = sum(row["p_holm"] < LEVEL for _, row in found)
        yield Paragraph(
            f"Of {len(found)} pairs, {differ} differ after Holm's correction (p < {LEVEL}); the largest difference is "
            f"{numbers.percent(largest)} points."
        )
        columns = ("Run", "Systems", "UA difference (points)", "p (t), Holm", "Verdict")
        yield Table("Focal systems that differ in alpha alone.", columns, rows)
    else:
        yield from not_run("focal loss with several alphas", [Planned("emodb", "random", "paper", {})], "table2")


def spread(study: Study) -> Iterator[Block]:
    """(c) Spread by source."""
    yield Heading("(c) What are the sources of variation?")
    found = [(run.planned.name, row) for run in study.runs for row in asked.spreads(run)]
    rows = tuple(_spread_row(name, row) for name, row in found)
    if rows:
        yield Paragraph(_spread_reading([row for _, row in found]))
        yield Table(
            "Standard deviations of UA by source (points).",
            ("Run", "System", "all jobs", "folds", "seeds", "sampling", "epochs near the kept one", "kept above last"),
            rows,
            note="Folds and seeds: square roots of the components of a random-effects model, with intervals; two "
            "seeds are needed to separate them. Sampling: the variation due to the finite test part alone, a part of "
            f"folds. Epochs: standard deviation of validation UA within {asked.NEAR_EPOCHS} epochs of the kept one "
            "about a straight line, and validation UA of the kept epoch minus that of the last one, means over jobs "
            "with Student's intervals: what the choice of an epoch rests on. The test part is scored at the "
            "kept epoch only.",
        )
    if not any(len(run.results.seeds) > 1 for run in study.runs):
        missing = "more than one seed, which is needed to separate folds and seeds"
        yield from not_run(missing, _headline(), "headline")


def _spread_reading(rows: Sequence[Row]) -> str:
    """The median of each source over runs and systems."""
    words = {
        "folds": "between folds",
        "seeds": "between seeds",
        "sampling": "from the size of the test part alone",
        "stopping": "between neighboring epochs at the one that is kept, on the validation part",
    }
    medians = {name: [row[name] for row in rows if row[name] is not None] for name in words}
    parts = [
        f"{numbers.percent(float(np.median([value if name == 'sampling' else value['value'] for value in values])))} "
        f"{words[name]}"
        for name, values in medians.items()
        if values
    ]
    return f"Standard deviation of UA in points, median over runs and systems: {'; '.join(parts)}."


def _spread_row(name: str, row: Row) -> tuple[str, ...]:
    parts = (*map(_deviation, (row["folds"], row["seeds"])), numbers.percent(row["sampling"]))
    return (name, row["system"], numbers.percent(row["jobs"]), *parts, *map(_deviation, (row["stopping"], row["lost"])))


def _headline() -> list[Planned]:
    return [Planned("emodb", protocol, "paper", {}) for protocol in study_plan.PROTOCOLS]


def _deviation(row: Row | None) -> str:
    if row is None:
        return numbers.NONE
    return f"{numbers.percent(row['value'])} {numbers.interval(row['low'], row['high'])}"


def flattery(study: Study) -> Iterator[Block]:
    """(d) Both protocols side by side."""
    yield Heading("(d) How optimistic is a random split?")
    pairs = [
        (corpus, recipe, study.run(corpus, "random", recipe), study.run(corpus, "speaker", recipe))
        for recipe in study_plan.RECIPES
        for corpus in study_plan.CORPORA
    ]
    found = [
        (corpus, recipe, row)
        for corpus, recipe, random, speaker in pairs
        if random and speaker
        for row in asked.flattery(random, speaker)
    ]
    rows = tuple(
        (corpus, recipe, row["system"], numbers.percent(row["random"]), numbers.percent(row["speaker"]), _gap(row))
        for corpus, recipe, row in found
    )
    if rows:
        gaps = sorted(row["gap"] for _, _, row in found)
        above = sum(row["low"] > 0 for _, _, row in found)
        yield Paragraph(
            f"The random split is above by {numbers.points(float(np.median(gaps)))} points in the median over systems, "
            f"from {numbers.points(gaps[0])} to {numbers.points(gaps[-1])}; in {above} of {len(gaps)} the whole "
            "interval lies above 0."
        )
        yield Table(
            "UA of all test utterances under both protocols (%).",
            ("Corpus", "Recipe", "System", "random", "speaker", "gap (points)"),
            rows,
            note="Every utterance is tested once a seed under both. The interval draws speakers.",
        )
    if parts := _parts_without(study):
        yield from not_run("the protocols that are missing for the comparison", parts, "headline")


def _gap(row: Row) -> str:
    return f"{numbers.points(row['gap'])} {numbers.interval(row['low'], row['high'], signed=True)}"


def compactness(study: Study) -> Iterator[Block]:
    """(e) Geometry of the features and its correlation with recognition."""
    yield Heading("(e) Are the features more compact and separated, and does that predict recognition?")
    found = {run.planned.name: asked.compactness(run) for run in study.runs}
    ratios = [row for answer in found.values() for row in answer["changes"] if row["measure"] == "fisher_ratio"]
    if ratios:
        larger = sum(row["low"] > 0 for row in ratios)
        known = [row for answer in found.values() if (row := answer["association"]["fisher_ratio"])]
        yield Paragraph(
            "The Fisher ratio (scatter between classes over scatter within) is larger than the baseline's by its whole "
            f"interval, in {larger} of {len(ratios)} comparisons; its rank correlation with UA has an interval above 0 "
            f"in {sum(row['low'] > 0 for row in known)} of {len(known)} runs."
        )
    changes = tuple(
        (
            name,
            row["proposal"],
            GEOMETRY[row["measure"]],
            _plain_difference(row),
            numbers.p_value(row["p"]),
            verdicts.of_study(row, verdicts.SIZES, "p"),
        )
        for name, answer in found.items()
        for row in answer["changes"]
    )
    if changes:
        columns = ("Run", "Proposal", "Measure", "Change", "p (t)", "Verdict")
        caption = "Geometry of the deep features of test utterances, against the baseline."
        yield Table(caption, columns, changes, note=f"Verdict: p below {LEVEL}, not corrected for the number of rows.")
    associations = tuple(
        (name, GEOMETRY[measure], _plain_value(row), str(row["jobs"]))
        for name, answer in found.items()
        for measure, row in answer["association"].items()
        if row
    )
    if associations:
        yield Table(
            "Rank correlation (Spearman) of each measure with UA over jobs.",
            ("Run", "Measure", "Correlation", "Jobs"),
            associations,
            note="Jobs of a fold are centered first, since an easy fold raises both; each centering removes one "
            "degree of freedom. Interval: Bonett & Wright (2000), which assumes independent jobs; systems of one "
            "fold share their data, so it is somewhat too narrow.",
        )
    if not changes and not associations:
        yield from not_run("any two systems whose features were kept", _headline(), "headline")


def _plain_difference(row: Row) -> str:
    return f"{numbers.decimal(row['difference'])} [{numbers.decimal(row['low'])}, {numbers.decimal(row['high'])}]"


def _plain_value(row: Row) -> str:
    return f"{numbers.decimal(row['value'], 2)} [{numbers.decimal(row['low'], 2)}, {numbers.decimal(row['high'], 2)}]"


def trade_offs(study: Study) -> Iterator[Block]:
    """(f) Recognition against cost."""
    yield Heading("(f) Which system is best for its parameters and its time?")
    for run in study.runs:
        rows, name = asked.trade_offs(run), run.planned.name
        yield Paragraph(_trade_off_reading(rows, name))
        device = rows[0]["device"]
        where = f"features and network for a clip of 3 s, alone, in float32, on {device}" if device else "not measured"
        yield Table(
            f"UA, size and time on {name} ({run.results.protocol_line}).",
            ("System", "UA (%)", "Parameters", "best for its size", "ms a clip", "best for its time"),
            tuple(_trade_off_row(row) for row in rows),
            note=f"Best: no other system is as small (as fast) and better. Milliseconds: {where}.",
        )
        panels = [Panel(f"study-{name}-size", f"UA against parameters on {name}", plots.trade_off(rows, "parameters"))]
        if any(row["milliseconds"] for row in rows):
            drawing = plots.trade_off(rows, "milliseconds")
            panels.append(Panel(f"study-{name}-time", f"UA against milliseconds on {name}", drawing))
        yield Figure(f"UA with its interval against size and time ({run.results.protocol_line}).", tuple(panels))
        if any(row["milliseconds"] is None for row in rows):
            yield Paragraph("Times not measured for all systems.")
            systems = ",".join(row["system"] for row in rows if row["milliseconds"] is None)
            yield Code(command(run.planned, systems, len(run.results.seeds)) + " --plan")


def _trade_off_reading(rows: Sequence[Row], name: str) -> str:
    sentences = []
    for price, words in (("parameters", "for their parameters"), ("milliseconds", "for their time")):
        best = sorted((row for row in rows if row[f"best_for_{price}"]), key=lambda row: (row[price], row["system"]))
        if best:
            listed = ", ".join(f"{row['system']} ({numbers.percent(row['ua'])} %)" for row in best)
            sentences.append(f"Best {words} on {name}, cheapest first: {listed}.")
    return " ".join(sentences)


def _trade_off_row(row: Row) -> tuple[str, ...]:
    marks = ["yes" if row[f"best_for_{price}"] else "" for price in ("parameters", "milliseconds")]
    ua = f"{numbers.percent(row['ua'])} {numbers.interval(row['low'], row['high'])}"
    size, milliseconds = numbers.count(row["parameters"]), numbers.decimal(row["milliseconds"], 1)
    return (row["system"], ua, size, marks[0], milliseconds, marks[1])
