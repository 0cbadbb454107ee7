"""The five tables of the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from affekt.data.corpora import CORPORA
from affekt.data.labels import LABEL_SETS
from affekt.measures.statistics import Interval
from affekt.report import numbers
from affekt.report.corpus_names import corpus_name
from affekt.report.document import Table
from affekt.report.study_sentences import Analyses, probability, quantity
from affekt.results.study import PARTS, Run, Study, remaining
from affekt.results.study_analysis import (
    LEAST_CORPORA,
    Analysis,
    EffectOverCorpora,
    Secondary,
    effect_verdict,
    size_verdict,
)
from affekt.results.study_questions import PROPOSALS

NETWORKS = {"encoder": "encoder", "paper": "paper's"}


def runs_table(study: Study) -> Table:
    """Table 1: the runs of the plan that exist."""
    rows = tuple(_run_row(part.part, run) for part, run in study.parts() if run is not None)
    return Table(
        "Table 1. Runs of the study plan.",
        ("Part", "Run", "Utterances", "left out", "Speakers", "Systems", "Seeds", "Trainings"),
        rows,
        note=f"Parts: {'; '.join(f'{part}, {what}' for part, what in PARTS.items())}. Four classes (angry, happy, "
        "neutral, sad), five folds. Left out: utterances of these classes in the "
        "complete release that are in no fold. Trainings: finished of all that the run has.",
    )


def _run_row(part: str, run: Run) -> tuple[str, ...]:
    results = run.results
    speakers = results.predictions["speaker"].replace("", None).nunique()
    finished = len(results.jobs)
    trainings = f"{numbers.count(finished)} of {numbers.count(finished + len(results.missing))}"
    counts = (str(len(run.systems)), str(len(results.seeds)), trainings)
    return (part, run.name, numbers.count(len(run.utterances)), _left_out(run), str(speakers), *counts)


def _left_out(run: Run) -> str:
    """Utterances of the release that no fold holds; unknown for a corpus that affekt does not know."""
    corpus = CORPORA.get(run.results.corpus)
    expected = sum(corpus.expected_counts(LABEL_SETS["iemocap4"]).values()) if corpus else 0
    used = len(run.utterances)
    return numbers.count(expected - used) if expected >= used else numbers.NONE


def headline_table(analyses: Analyses) -> Table:
    """Table 2: the gain of each proposal over corpora."""
    rows = [
        _headline_row(analysis, estimate)
        for analysis in analyses.values()
        for estimate in analysis.proposals()
        if estimate.combined
    ]
    return Table(
        "Table 2. Gain of each proposal over softmax and attention, over corpora.",
        (
            "Network",
            "Split",
            "Proposal",
            "Corpora",
            "UA gain (points)",
            "prediction interval",
            "I² (%)",
            "p (Holm)",
            "Effect",
            "Size",
        ),
        tuple(rows),
        note=_headline_note(analyses),
    )


def _headline_row(analysis: Analysis, estimate: EffectOverCorpora) -> tuple[str, ...]:
    found = estimate.combined
    assert found is not None
    prediction = numbers.NONE
    if found.prediction is not None:
        prediction = numbers.interval(found.prediction.low, found.prediction.high, signed=True)
    return (
        NETWORKS[analysis.network],
        analysis.protocol,
        estimate.name,
        str(found.studies),
        quantity(found.effect, "signed points"),
        prediction,
        numbers.decimal(100 * found.i_squared, 0),
        numbers.p_value(estimate.p_holm),
        effect_verdict(found.effect),
        size_verdict(found.effect),
    )


def _headline_note(analyses: Analyses) -> str:
    note = (
        "Random-effects meta-analysis of the corpora's effects; [95 % Hartung-Knapp interval]. The prediction interval "
        "is for the true gain on a further corpus. I²: share of the variance that is between corpora. p: "
        "Holm-corrected over the three proposals of an analysis. Effect and size follow from the interval, as the plan "
        "fixed them: as large as reported means no more than that the interval reaches the 4 points reported."
    )
    few = [
        f"{NETWORKS[analysis.network]} network, {analysis.protocol} ({len(analysis.runs)})"
        for analysis in analyses.values()
        if not any(estimate.combined for estimate in analysis.proposals())
    ]
    return f"{note} Fewer than {LEAST_CORPORA} corpora, so Table 3 alone: {'; '.join(few)}." if few else note


def corpora_table(analyses: Analyses) -> Table:
    """Table 3: the gain of each proposal on each corpus."""
    rows = [row for analysis in analyses.values() for run in analysis.runs for row in _corpus_rows(analysis, run)]
    return Table(
        "Table 3. Gain of each proposal on each corpus (points of UA).",
        ("Network", "Split", "Corpus", "Recipe", "baseline UA (%)", *PROPOSALS),
        tuple(rows),
        note="Baseline: mean ± standard deviation over trainings. Gain: mean over folds, seeds averaged first, with "
        "the 95 % interval of the corrected resampled t-test. A verdict on one corpus is about that corpus alone; no "
        "correction for the number of corpora.",
    )


def _corpus_rows(analysis: Analysis, run: Run) -> list[tuple[str, ...]]:
    effects = [
        {effect.corpus: effect for effect in estimate.corpora}.get(run.results.corpus)
        for estimate in analysis.proposals()
    ]
    if not any(effects):
        return []
    cells = [numbers.NONE if effect is None else quantity(effect[1:4], "signed points") for effect in effects]
    ua = run.summary["systems"][run.baseline]["ua"]
    level = numbers.spread(ua["mean"], ua["sd_jobs"])
    names = (NETWORKS[analysis.network], analysis.protocol, corpus_name(run.results.corpus), run.results.recipe)
    return [(*names, level, *cells)]


def secondary_table(rows: Sequence[Secondary]) -> Table:
    """Table 4: the secondary questions, a row for each quantity and network."""
    groups: dict[tuple[str, str, str], list[Secondary]] = {}
    for row in rows:
        groups.setdefault((row.question, row.network, row.quantity), []).append(row)
    return Table(
        "Table 4. Secondary questions.",
        ("Question", "Quantity", "Network", "random splits", "speaker splits"),
        tuple(_secondary_row(group) for group in groups.values()),
        note="Points, unless stated otherwise. Differences: as in Table 2. Standard deviations and epochs: mean over "
        "corpora with Student's interval. Random minus speaker: random-effects meta-analysis of the corpora's gaps, "
        "each with the variance that drawing its speakers gives. Correlations: over trainings, centered within folds, "
        "combined on Fisher's z scale; trainings of one fold share their data, so the intervals of single corpora are "
        f"somewhat too narrow. With fewer than {LEAST_CORPORA} corpora, every corpus has its own interval. p: of no "
        "difference or no correlation, Holm-corrected over this table.",
    )


def _secondary_row(rows: Sequence[Secondary]) -> tuple[str, ...]:
    first = rows[0]
    cells = {row.protocol: _answer(row.estimate, row.unit) for row in rows}
    both = cells.get("", "")
    answers = (f"both: {both}", "") if both else (cells.get("random", numbers.NONE), cells.get("speaker", numbers.NONE))
    return (first.question, first.quantity, NETWORKS[first.network], *answers)


def _answer(estimate: EffectOverCorpora, unit: str) -> str:
    if estimate.combined is not None:
        tested = "" if estimate.p_holm is None else f", p {probability(estimate.p_holm)}"
        count = len(estimate.corpora)
        return f"{quantity(estimate.combined.effect, unit)}{tested} ({count} corpora)"
    return "; ".join(
        f"{corpus_name(effect.corpus)} {_single(Interval(*effect[1:4]), unit)}" for effect in estimate.corpora
    )


def _single(interval: Interval, unit: str) -> str:
    """The effect on one corpus; without an interval where its ends are the value itself."""
    text = quantity(interval, unit)
    return text.partition(" ")[0] if interval.low == interval.high else text


def rest_table(study: Study) -> Table:
    """Table 5: what the plan asks for and is not finished, with its hours."""
    rows = [remaining(part, run) for part, run in study.parts()]
    left = [row for row in rows if row["finished"] < row["expected"]]
    finished, expected = (sum(row[key] for row in rows) for key in ("finished", "expected"))
    return Table(
        f"Table 5. Not run: {numbers.count(expected - finished)} of the plan's {numbers.count(expected)} trainings.",
        ("Part", "Run", "finished", "left", "hours, usual stopping", "hours at most", "measured on"),
        tuple(_rest_row(study, row) for row in left),
        note="Hours of all trainings in sequence, from step times that affekt experiment ... --plan measured; where "
        "it did not, from the mean time of the finished trainings of the same corpus. A cost under one split is used "
        "for the other too, whose folds have the same size. No hours: not measured.",
    )


def _rest_row(study: Study, row: Mapping[str, Any]) -> tuple[str, ...]:
    part, left = row["part"], row["expected"] - row["finished"]
    device, hours = next(iter(row["hours"].items()), ("", [None, None]))
    mean = study.mean_hours(part)
    if not device and mean is not None:
        device, hours = "finished trainings", [left * mean, None]
    cells = [numbers.decimal(each, 1) for each in hours]
    return (part.part, part.name, numbers.count(row["finished"]), numbers.count(left), *cells, device)
