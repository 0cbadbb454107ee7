"""The content of a report in reading order: the result, the paper's figures beside it, and the details."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from affekt.report import cells, comparison, numbers, plots, quoted, verdicts
from affekt.report.document import (
    Block,
    Document,
    Facts,
    Figure,
    Heading,
    Listing,
    Notice,
    Panel,
    Paragraph,
    Table,
)
from affekt.report.terminal import SYNTHETIC
from affekt.results import JobKey, Results
from affekt.results.run_directory import LEFT_OUT, RunDirectory
from affekt.results.run_results import codes
from affekt.results.study_questions import HARD_CLASS
from affekt.results.summary import LEAST_UTTERANCES

Summary = Mapping[str, Any]
MOST_NAMED = 50
"""Recordings left out that the report names; the run directory names all."""
GEOMETRY = {
    "fisher_ratio": "Fisher ratio",
    "silhouette": "silhouette",
    "cosine_within": "cosine within classes",
    "cosine_between": "cosine between classes",
}


def describe(results: Results, summary: Summary, projection: str = "pca") -> Document:
    """The report on a run.

    Args:
        results: the run, for its histories and deep features.
        summary: of the same run.
        projection: `pca` or `tsne`.
    """
    sections = (
        _opening(summary),
        comparison.recognition(summary),
        _paper(summary),
        _classes(summary),
        _spread(summary),
        _geometry(results, summary, projection),
        _calibration(summary),
        _curves(results, summary),
        _reading(summary),
        _left_out(results),
    )
    title = f"Speech emotion recognition on {summary['corpus']}"
    return Document(title, summary["protocol_line"], tuple(block for section in sections for block in section))


def _left_out(results: Results) -> Iterator[Block]:
    """The recordings that could not be decoded, by name."""
    lines = RunDirectory(results.path).read_left_out()
    if lines:
        more = [f"{len(lines) - MOST_NAMED:,} more in {LEFT_OUT}"] if len(lines) > MOST_NAMED else []
        yield Listing(f"Recordings left out ({len(lines):,})", (*lines[:MOST_NAMED], *more))


def _opening(summary: Summary) -> Iterator[Block]:
    if summary["synthetic"]:
        yield Notice(f"{SYNTHETIC}. The voices are computed. The figures show that the program works, nothing else.")
    jobs = summary["jobs"]
    if jobs["missing"]:
        yield Notice(
            f"{jobs['finished']} of {jobs['expected']} jobs are finished. Systems may have been measured on different "
            "folds. Differences use the jobs that both systems have finished."
        )
    yield Facts(tuple(comparison.facts(summary)))
    yield from comparison.verdict_sentences(summary)


def _paper(summary: Summary) -> Iterator[Block]:
    tables = list(paper_tables(summary))
    if not tables:
        return
    yield Heading("Beside the paper")
    if not summary["corpus"].startswith("iemocap"):
        yield Paragraph(
            f"The quoted figures are from IEMOCAP, the measured ones from {summary['corpus']}: their levels cannot be "
            "compared, only whether the systems rank alike and whether the gains are of the same size."
        )
    yield from tables


def paper_tables(summary: Summary) -> Iterator[Table]:
    """The paper's two tables beside the measured rows, where more than the baseline was measured."""
    shown = [row for row in quoted.TABLE_2 if _first(row.systems, summary)]
    prior = [row for row in quoted.TABLE_1 if _first(row.systems, summary)]
    if shown:  # the baseline alone has a WA to compare
        yield _table_2(summary, shown)
    if any(row.systems != ("baseline",) for row in prior):
        yield _table_1(summary, prior)


def _table_2(summary: Summary, rows: Sequence[quoted.Row]) -> Table:
    left_out = len(quoted.TABLE_2) - len(rows)
    return Table(
        "Table 2 of the paper, measured here and as quoted.",
        ("System", "UA (%)", "WA (%)", "UA gain", "UA (%), quoted", "WA (%), quoted", "UA gain, quoted"),
        tuple(_table_2_row(summary, row) for row in rows),
        quoted=frozenset({4, 5, 6}),
        note=quoted.SOURCE
        + f" The paper claims a gain of at least {quoted.CLAIM_POINTS:.1f} points for its three proposals."
        + (f" {left_out} further rows of the paper were not run." if left_out else ""),
    )


def _table_2_row(summary: Summary, row: quoted.Row) -> tuple[str, ...]:
    system = summary["systems"][_first(row.systems, summary)]
    gain = verdicts.gain_over_folds(system["comparison"]["ua"]) if system["comparison"] else numbers.NONE
    printed = (f"{row.ua:.1f}", f"{row.wa:.1f}", f"+{row.gain:.1f}" if row.gain else numbers.NONE)
    return (row.name, cells.spread_of(system, "ua"), cells.spread_of(system, "wa"), gain, *printed)


def _table_1(summary: Summary, rows: Sequence[quoted.Row]) -> Table:
    systems = summary["systems"]
    return Table(
        "Table 1 of the paper, all systems measured here under one protocol, and as quoted.",
        ("System", "UA (%)", "UA (%), quoted"),
        tuple(
            (row.name, f"{cells.spread_of(system, 'ua')} {cells.interval_of(system, 'ua')}", f"{row.ua:.1f}")
            for row in rows
            for system in [systems[_first(row.systems, summary)]]
        ),
        quoted=frozenset({2}),
        note=f"{quoted.SOURCE} Its figures for other systems come from their own papers: other subsets, other splits.",
    )


def _first(names: Sequence[str], summary: Summary) -> str:
    """The first of some systems that was run; empty if none was."""
    return next((name for name in names if name in summary["systems"]), "")


def _classes(summary: Summary) -> Iterator[Block]:
    systems, baseline = summary["systems"], summary["baseline"]
    yield Heading("Classes")
    yield recall_table(summary)
    shown = [baseline, *_focal(summary)]
    drawn = {name: plots.confusion(systems[name]["confusion"], summary["classes"], name) for name in shown}
    yield Figure(
        "Confusion matrices (the paper's Figure 2): percent of the utterances of each class, and counts.",
        tuple(Panel(f"confusion-{name}", name, drawing) for name, drawing in drawn.items()),
    )
    if changes := _changes(summary):
        yield Paragraph(changes)


def recall_table(summary: Summary) -> Table:
    """The recall of each class of every system."""
    return Table(
        "Recall of each class (%), all test utterances together.",
        ("System", *summary["classes"]),
        tuple(
            (name, *(numbers.percent(system["recall"][label]) for label in summary["classes"]))
            for name, system in summary["systems"].items()
        ),
    )


def _focal(summary: Summary) -> list[str]:
    """The focal system of Figure 2: the paper's best setting, else the first one that was run."""
    names = [name for name in summary["systems"] if name.startswith(("focal", "encoder-focal"))]
    names = [name for name in names if name != summary["baseline"]]
    preferred = [name for name in ("focal", "focal-g2-a2", "encoder-focal-g2-a2") if name in names]
    return (preferred or names)[:1]


def _changes(summary: Summary) -> str:
    """The change of the hardest class's recall, in words; empty where it has too few test utterances."""
    systems = summary["systems"]
    known = {name: part for name, part in systems[summary["baseline"]]["recall"].items() if part is not None}
    label = HARD_CLASS if HARD_CLASS in known else min(known, key=lambda name: known[name])
    changes = [
        f"{name} {numbers.points(change)}\u00a0%"
        for name, system in systems.items()
        if system["comparison"] and (change := system["comparison"]["relative_recall"][label]) is not None
    ]
    if not changes:
        return ""
    return (
        f"Relative change of the recall of {label} against {summary['baseline']}: {', '.join(changes)}. "
        f"The paper reports that focal loss improves the recall of happy by up to "
        f"{quoted.HAPPY_RELATIVE_PERCENT:.0f}\u00a0% relative. Relative changes are given only for classes of at least "
        f"{LEAST_UTTERANCES} test utterances."
    )


def _spread(summary: Summary) -> Iterator[Block]:
    yield Heading("Sources of variation")
    yield Table(
        "Standard deviation of UA (points), and the epoch whose weights were kept.",
        ("System", "over jobs", "over folds", "over seeds", "kept epoch"),
        tuple(
            (
                name,
                *(numbers.percent(system["ua"][f"sd_{unit}"]) for unit in ("jobs", "folds", "seeds")),
                numbers.decimal_spread(system["best_epoch"], digits=1),
            )
            for name, system in summary["systems"].items()
        ),
        note="Over folds: seeds averaged first. Over seeds: folds averaged first.",
    )


def _geometry(results: Results, summary: Summary, projection: str) -> Iterator[Block]:
    systems = {name: system for name, system in summary["systems"].items() if system["geometry"]}
    if not systems:
        return
    yield Heading("Deep features: compactness and separation")
    yield Table(
        "Geometry of the deep features of test utterances; mean ± standard deviation over jobs.",
        ("System", *GEOMETRY.values(), "p (t) of the Fisher ratio", "Verdict"),
        tuple(_geometry_row(name, system) for name, system in systems.items()),
        note="Fisher ratio: scatter between classes over scatter within. Larger is more separated for the first two. "
        f"p: against {summary['baseline']}, corrected t-test, Holm-corrected." + _association(summary),
    )
    panels = tuple(panel for job in _one_job_each(results, systems) for panel in _projected(results, job, projection))
    if panels:
        words = {"pca": "their two principal components", "tsne": "t-SNE, seeded"}[projection]
        yield Figure(f"Deep features of the test utterances of one job of each system: {words}.", panels)


def _geometry_row(name: str, system: Mapping[str, Any]) -> tuple[str, ...]:
    figures = (numbers.decimal_spread(system["geometry"][measure]) for measure in GEOMETRY)
    compared = (system["comparison"] or {}).get("fisher_ratio") or {}
    if not compared:
        return (name, *figures, "", "")
    return (name, *figures, numbers.p_value(compared.get("t_p_holm")), verdicts.SIZES[compared["verdict"]])


def _association(summary: Summary) -> str:
    known = {GEOMETRY[name]: rho for name, rho in summary["association"].items() if rho is not None}
    if not known:
        return ""
    listed = ", ".join(f"{name} {numbers.decimal(rho, 2)}" for name, rho in known.items())
    return f" Rank correlation with UA over the systems (Spearman): {listed}."


def _one_job_each(results: Results, systems: Iterable[str]) -> list[JobKey]:
    """The first fold and seed that all systems have finished; where there is none, the first job of each."""
    finished = [results.finished(name) for name in systems]
    shared = set.intersection(*({(job.fold, job.seed) for job in jobs} for jobs in finished))
    return [next(job for job in jobs if not shared or (job.fold, job.seed) == min(shared)) for jobs in finished]


def _projected(results: Results, job: JobKey, method: str) -> Iterator[Panel]:
    embeddings = results.embeddings(*job)
    if embeddings is not None:
        title = f"{job.system}, fold {job.fold}, seed {job.seed}"
        labels = codes(results.of(*job), "label")
        drawing = plots.projection(embeddings, labels, results.classes, method, title)
        yield Panel(f"projection-{job.system}", title, drawing)


def _calibration(summary: Summary) -> Iterator[Block]:
    systems = summary["systems"]
    yield Heading("Calibration")
    yield Table(
        "Reliability of the probabilities, all test utterances together.",
        ("System", "ECE (%)", "NLL (nats)", "Brier"),
        tuple(
            (
                name,
                numbers.percent(system["calibration"]["ece"]),
                numbers.decimal(system["calibration"]["nll"]),
                numbers.decimal(system["calibration"]["brier"]),
            )
            for name, system in systems.items()
        ),
        note="Probabilities as stored, after temperature scaling fitted on the validation part. "
        "ECE: expected calibration error, 15 bins. NLL: negative log-likelihood. Brier: 0 (best) to 2.",
    )
    drawn = {name: plots.reliability(system["calibration"]["bins"], name) for name, system in systems.items()}
    yield Figure(
        "Reliability: accuracy against confidence; the dashed diagonal is perfect calibration.",
        tuple(Panel(f"reliability-{name}", name, drawing) for name, drawing in drawn.items()),
    )


def _curves(results: Results, summary: Summary) -> Iterator[Block]:
    panels = []
    for name in summary["systems"]:
        kept = results.jobs.set_index(["system", "fold", "seed"])["best_epoch"]
        histories = [(results.history(*job), int(kept[job])) for job in results.finished(name)]
        histories = [(history, best) for history, best in histories if not history.empty]
        if histories:
            panels.append(Panel(f"curves-{name}", name, plots.learning_curves(histories, name)))
    if panels:
        yield Heading("Learning curves")
        yield Figure("Accuracy by epoch, one line per job.", tuple(panels))


def _reading(summary: Summary) -> Iterator[Block]:
    yield Heading("How to read this")
    yield Paragraph(
        "WA is accuracy. UA is the mean recall over the classes: each class has the same weight, whatever its size."
    )
    yield Paragraph(
        "Two tests answer two questions, and each gain stands with the interval of its own test. Over folds (p (t), "
        "the corrected resampled t-test of Nadeau & Bengio 2003, seeds averaged): does the method win on other splits "
        "and trainings? Over speakers (p (perm.), exchanging the two systems' predictions within speakers): do these "
        "trained models win on other speakers? A claim about a method needs the first; the verdict is its result. The "
        "two can disagree: the same models may be better on these speakers while folds vary too much for a claim."
    )
    yield Paragraph(
        "Intervals over speakers draw whole speakers, because the utterances of one speaker are not independent. With "
        f"few speakers they are somewhat too narrow. Before correction, p (perm.) cannot fall below 2 / 2^n for n "
        f"clusters; here n = {summary['bootstrap']['clusters']}."
    )
    if missing := summary["jobs"]["missing"]:
        yield Listing(f"Jobs that are not finished ({len(missing)})", tuple(missing))
