"""What a report says, in reading order: the result, the paper beside it, and what lies behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from affekt.report import numbers, plots, quoted
from affekt.report.document import (
    Block,
    Document,
    Fact,
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
from affekt.results import Job, Results
from affekt.results.reading import codes

Summary = Mapping[str, Any]
HARD_CLASS = "happy"
"""The class that the paper looks at closely (section 4.3, Figure 2)."""

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
        _recognition(summary),
        _paper(summary),
        _classes(summary),
        _spread(summary),
        _geometry(results, summary, projection),
        _calibration(summary),
        _curves(results, summary),
        _reading(summary),
    )
    title = f"Speech emotion recognition on {summary['corpus']}"
    return Document(title, summary["protocol_line"], tuple(block for section in sections for block in section))


def _opening(summary: Summary) -> Iterator[Block]:
    if summary["synthetic"]:
        yield Notice(f"{SYNTHETIC}. The voices are computed; the figures show that the program works, and no more.")
    jobs = summary["jobs"]
    if jobs["missing"]:
        yield Notice(
            f"{jobs['finished']} of {jobs['expected']} jobs are finished. Systems may have been measured on different "
            "folds; differences are taken over the jobs that both systems have."
        )
    yield Facts(tuple(_facts(summary)))


def _facts(summary: Summary) -> Iterator[Fact]:
    systems, baseline = summary["systems"], summary["baseline"]
    yield Fact(f"UA of {baseline}", f"{_spread_of(systems[baseline], 'ua')} %", _interval_of(systems[baseline], "ua"))
    compared = {name: system["comparison"]["ua"] for name, system in systems.items() if system["comparison"]}
    if compared:
        best = max(compared, key=lambda name: compared[name]["difference"])
        ua = compared[best]
        interval = numbers.interval(ua["low"], ua["high"], signed=True)
        note = f"points {interval}; p = {numbers.p_value(ua.get('t_p_holm'))} (corrected t, Holm)"
        yield Fact(f"Largest gain in UA: {best}", numbers.points(ua["difference"]), note)
    jobs = summary["jobs"]
    numbered = {"system": len(systems), "fold": summary["folds"], "seed": len(summary["seeds"])}
    design = ", ".join(f"{count} {name}{'s' if count != 1 else ''}" for name, count in numbered.items())
    yield Fact("Jobs finished", f"{jobs['finished']} of {jobs['expected']}", design)


def recognition_table(summary: Summary) -> Table:
    """UA, WA and F1 of every system, and its gain over the baseline with the paired tests."""
    return Table(
        "Recognition and comparison with the baseline, on the test parts.",
        ("System", "UA (%)", "WA (%)", "Macro-F1 (%)", "UA gain (points)", "p (t)", "p (perm.)", "Parameters", "Jobs"),
        tuple(_recognition_row(name, system) for name, system in summary["systems"].items()),
        note=_recognition_note(summary),
    )


def _recognition(summary: Summary) -> Iterator[Block]:
    yield Heading("Recognition")
    yield recognition_table(summary)
    drawing = plots.intervals(summary["systems"], summary["baseline"])
    yield Figure(
        f"UA of all test utterances with its {_level(summary)} interval; the dashed line is {summary['baseline']}.",
        (Panel("intervals", "UA and interval of each system", drawing),),
    )
    yield Table(
        f"Paired comparison with {summary['baseline']}, before and after Holm's correction.",
        ("System", "Measure", "Gain (points)", "p (t)", "p (t), Holm", "p (perm.)", "p (perm.), Holm", "Jobs"),
        tuple(
            _comparison_row(name, measure, system["comparison"])
            for name, system in summary["systems"].items()
            if system["comparison"]
            for measure in ("ua", "wa")
        ),
    )


def _recognition_row(name: str, system: Mapping[str, Any]) -> tuple[str, ...]:
    recognized = (
        f"{_spread_of(system, measure)} {_interval_of(system, measure)}" for measure in ("ua", "wa", "macro_f1")
    )
    compared = ("", "", "")
    if system["comparison"]:
        ua = system["comparison"]["ua"]
        compared = (_gain(ua), numbers.p_value(ua.get("t_p_holm")), numbers.p_value(ua.get("permutation_p_holm")))
    return (name, *recognized, *compared, numbers.count(system["parameters"]), str(system["jobs"]))


def _comparison_row(name: str, measure: str, comparison: Mapping[str, Any]) -> tuple[str, ...]:
    figures = comparison[measure]
    tests = ("t_p", "t_p_holm", "permutation_p", "permutation_p_holm")
    p_values = (numbers.p_value(figures.get(test)) for test in tests)
    return (name, measure.upper(), _gain(figures), *p_values, str(comparison["jobs"]))


def _recognition_note(summary: Summary) -> str:
    bootstrap = summary["bootstrap"]
    return (
        f"Mean ± standard deviation over jobs; [{_level(summary)} interval] of all test utterances together, "
        f"{numbers.count(bootstrap['replicates'])} bootstrap draws of {bootstrap['clusters']} clusters "
        f"({bootstrap['unit']}). p: Holm-corrected over the systems."
    )


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
    """The paper's two tables beside what was measured of their rows, where that is more than the baseline."""
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
    gain = _gain(system["comparison"]["ua"]) if system["comparison"] else numbers.NONE
    printed = (f"{row.ua:.1f}", f"{row.wa:.1f}", f"+{row.gain:.1f}" if row.gain else numbers.NONE)
    return (row.name, _spread_of(system, "ua"), _spread_of(system, "wa"), gain, *printed)


def _table_1(summary: Summary, rows: Sequence[quoted.Row]) -> Table:
    systems = summary["systems"]
    return Table(
        "Table 1 of the paper, all systems measured here under one protocol, and as quoted.",
        ("System", "UA (%)", "UA (%), quoted"),
        tuple(
            (row.name, f"{_spread_of(system, 'ua')} {_interval_of(system, 'ua')}", f"{row.ua:.1f}")
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
    yield Table(
        "Recall of each class (%), all test utterances together.",
        ("System", *summary["classes"]),
        tuple(
            (name, *(numbers.percent(system["recall"][label]) for label in summary["classes"]))
            for name, system in systems.items()
        ),
    )
    shown = [baseline, *_focal(summary)]
    drawn = {name: plots.confusion(systems[name]["confusion"], summary["classes"], name) for name in shown}
    yield Figure(
        "Confusion matrices (the paper's Figure 2): percent of the utterances of each class, and counts.",
        tuple(Panel(f"confusion-{name}", name, drawing) for name, drawing in drawn.items()),
    )
    if changes := _changes(summary):
        yield Paragraph(changes)


def _focal(summary: Summary) -> list[str]:
    """The focal system of Figure 2: the paper's best setting, else the first one that was run."""
    names = [name for name in summary["systems"] if name.startswith("focal") and name != summary["baseline"]]
    preferred = [name for name in ("focal", "focal-g2-a2") if name in names]
    return (preferred or names)[:1]


def _changes(summary: Summary) -> str:
    """What became of the hardest class, in words."""
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
        f"The paper: focal loss improves happy by up to {quoted.HAPPY_RELATIVE_PERCENT:.0f}\u00a0% relative."
    )


def _spread(summary: Summary) -> Iterator[Block]:
    yield Heading("Where the spread comes from")
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
        ("System", *GEOMETRY.values(), "p (t) of the Fisher ratio"),
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
    return (name, *figures, numbers.p_value(compared["t_p_holm"]) if compared.get("t_p") is not None else "")


def _association(summary: Summary) -> str:
    known = {GEOMETRY[name]: rho for name, rho in summary["association"].items() if rho is not None}
    if not known:
        return ""
    listed = ", ".join(f"{name} {numbers.decimal(rho, 2)}" for name, rho in known.items())
    return f" Rank correlation with UA over the systems (Spearman): {listed}."


def _one_job_each(results: Results, systems: Iterable[str]) -> list[Job]:
    """The first fold and seed that all systems have finished; where there is none, the first job of each."""
    finished = [results.finished(name) for name in systems]
    shared = set.intersection(*({(job.fold, job.seed) for job in jobs} for jobs in finished))
    return [next(job for job in jobs if not shared or (job.fold, job.seed) == min(shared)) for jobs in finished]


def _projected(results: Results, job: Job, method: str) -> Iterator[Panel]:
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
        "How far the posteriors can be believed, all test utterances together.",
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
        note="Posteriors as stored: after the temperature that was fitted on the validation part. "
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
        yield Figure("Accuracy by epoch, a line per job.", tuple(panels))


def _reading(summary: Summary) -> Iterator[Block]:
    yield Heading("How to read this")
    yield Paragraph(
        "WA is accuracy, UA the mean recall over the classes, so that each class counts alike whatever its size. "
        "Intervals come from drawing whole speakers, since utterances of one speaker are not independent; with few "
        "speakers they are somewhat too narrow. They hold for the models that were trained."
    )
    yield Paragraph(
        "p (t) is the corrected resampled t-test of Nadeau & Bengio (2003) over folds, seeds averaged: would the gain "
        "come back on other splits and trainings? p (perm.) exchanges the two systems' predictions within speakers: "
        "would these very models win on other speakers? A claim about a method needs the first. Before correction, "
        f"p (perm.) cannot fall below 2 / 2^n for n clusters; here n = {summary['bootstrap']['clusters']}."
    )
    if missing := summary["jobs"]["missing"]:
        yield Listing(f"Jobs that are not finished ({len(missing)})", tuple(missing))


def _spread_of(system: Mapping[str, Any], measure: str) -> str:
    return numbers.spread(system[measure]["mean"], system[measure]["sd_jobs"])


def _interval_of(system: Mapping[str, Any], measure: str) -> str:
    pooled = system["pooled"][measure]
    return numbers.interval(pooled["low"], pooled["high"])


def _gain(figures: Mapping[str, float]) -> str:
    interval = numbers.interval(figures["low"], figures["high"], signed=True)
    return f"{numbers.points(figures['difference'])} {interval}"


def _level(summary: Summary) -> str:
    return f"{100 * summary['bootstrap']['level']:.0f} %"
