"""The result of a run: the level of every system, and its difference to the baseline with test and verdict.

Two tests answer two questions and are never mixed in one table: over folds (is the method better?) and over speakers
(are these trained models better?). Every gain stands with the interval and the p-value of the same test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from affekt.report import cells, numbers, plots, verdicts
from affekt.report.document import Block, Fact, Figure, Heading, Panel, Paragraph, Table
from affekt.results.summary import LEAST_FOLDS

Summary = Mapping[str, Any]
SHORT, SHOWN = verdicts.SHORT, ("larger", "smaller")


def facts(summary: Summary) -> Iterator[Fact]:
    """The figures at the top of a report: the baseline's level, the largest gain with its verdict, the jobs."""
    systems, baseline = summary["systems"], summary["baseline"]
    interval = (
        f"{cells.level(summary)} interval {cells.interval_of(systems[baseline], 'ua')}, drawing {cells.unit(summary)}"
    )
    yield Fact(f"UA of {baseline}", f"{cells.spread_of(systems[baseline], 'ua')} %", interval)
    compared = _compared(summary)
    if compared:
        best = max(compared, key=lambda name: compared[name]["difference"])
        yield Fact(
            f"Largest gain in UA: {best}", numbers.points(compared[best]["difference"]), _gain_note(summary, best)
        )
    jobs = summary["jobs"]
    numbered = {"system": len(systems), "fold": summary["folds"], "seed": len(summary["seeds"])}
    design = ", ".join(f"{count} {name}{'s' if count != 1 else ''}" for name, count in numbered.items())
    yield Fact("Jobs finished", f"{jobs['finished']} of {jobs['expected']}", design)


def _compared(summary: Summary) -> dict[str, Mapping[str, Any]]:
    """The comparison in UA of every system that has one."""
    systems = summary["systems"].items()
    return {name: system["comparison"]["ua"] for name, system in systems if system["comparison"]}


def _gain_note(summary: Summary, name: str) -> str:
    """The interval, the p-value and the verdict of one test, that over folds."""
    ua = _compared(summary)[name]
    if ua["verdict"] == "not tested":
        return f"points; {verdicts.UNTESTED}"
    tested = f"points, {cells.level(summary)} interval {verdicts.interval_over_folds(ua)} over folds"
    return f"{tested}; {verdicts.probability(ua)} (corrected t-test, Holm): {verdicts.SHORT[ua['verdict']]}"


def verdict_sentences(summary: Summary) -> Iterator[Block]:
    """The verdict on every system: those that differ from the baseline, those that do not, those without a test."""
    compared, baseline = _compared(summary), summary["baseline"]
    by_verdict = {verdict: [name for name in compared if compared[name]["verdict"] == verdict] for verdict in SHORT}
    clauses = [verdicts.sentence(name, baseline, compared[name]) for verdict in SHOWN for name in by_verdict[verdict]]
    if alike := by_verdict["not shown"]:
        listed = ", ".join(f"{name} ({verdicts.probability(compared[name])})" for name in alike)
        clauses.append(f"no difference to {baseline} shown for {listed}")
    if untested := by_verdict["not tested"]:
        clauses.append(f"{', '.join(untested)}: {verdicts.UNTESTED}")
    if clauses:
        yield Paragraph(f"Verdict (UA, test over folds): {'; '.join(clauses)}.")


def recognition_table(summary: Summary) -> Table:
    """UA, WA and F1 of every system, and its gain over the baseline with the test over folds and its verdict."""
    return Table(
        "Recognition and comparison with the baseline, on the test parts.",
        ("System", "UA (%)", "WA (%)", "Macro-F1 (%)", "UA gain (points)", "p (t)", "Verdict", "Parameters", "Jobs"),
        tuple(_recognition_row(name, system) for name, system in summary["systems"].items()),
        note=_recognition_note(summary),
    )


def recognition(summary: Summary) -> Iterator[Block]:
    """The section on recognition: levels, then each of the two comparisons with the interval of its own test."""
    yield Heading("Recognition")
    yield recognition_table(summary)
    drawing = plots.intervals(summary["systems"], summary["baseline"])
    yield Figure(
        f"UA of all test utterances with its {cells.level(summary)} interval; dashed line: {summary['baseline']}.",
        (Panel("intervals", "UA and interval of each system", drawing),),
    )
    if _compared(summary):
        yield _comparison_over_folds(summary)
        yield _comparison_over_speakers(summary)


def _comparison_over_folds(summary: Summary) -> Table:
    return Table(
        f"Comparison with {summary['baseline']} over folds: is the method better on other splits and trainings?",
        ("System", "Measure", "Gain (points)", "p (t)", "p (t), Holm", "Verdict", "Folds"),
        tuple(
            (name, measure.upper(), verdicts.gain_over_folds(figures), *_p_values(figures, "t_p"), *_verdict(figures))
            for name, measure, figures in _comparisons(summary)
        ),
        note=f"Mean over folds, seeds averaged; [{cells.level(summary)} interval] and p of one test, the corrected "
        f"resampled t-test. Verdict: Holm-corrected p below {1 - summary['bootstrap']['level']:.2f}. "
        f"{LEAST_FOLDS} folds are the least for a test.",
    )


def _comparison_over_speakers(summary: Summary) -> Table:
    bootstrap = summary["bootstrap"]
    return Table(
        f"Comparison with {summary['baseline']} over {bootstrap['unit']}: are these trained models better on others?",
        ("System", "Measure", "Gain (points)", "p (perm.)", "p (perm.), Holm"),
        tuple(
            (name, measure.upper(), verdicts.gain_over_speakers(figures), *_p_values(figures, "permutation_p"))
            for name, measure, figures in _comparisons(summary)
        ),
        note=f"All test utterances together; [{cells.level(summary)} interval] from drawing {bootstrap['clusters']} "
        f"clusters ({bootstrap['unit']}), p from exchanging the two systems' predictions within clusters. "
        "Says nothing about another training of the same method.",
    )


def _comparisons(summary: Summary) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for name, system in summary["systems"].items():
        for measure in ("ua", "wa") if system["comparison"] else ():
            yield name, measure, system["comparison"][measure]


def _p_values(figures: Mapping[str, Any], test: str) -> tuple[str, str]:
    return numbers.p_value(figures.get(test)), numbers.p_value(figures.get(f"{test}_holm"))


def _verdict(figures: Mapping[str, Any]) -> tuple[str, str]:
    return verdicts.SHORT[figures["verdict"]], str(figures["folds"])


def _recognition_row(name: str, system: Mapping[str, Any]) -> tuple[str, ...]:
    recognized = (
        f"{cells.spread_of(system, measure)} {cells.interval_of(system, measure)}"
        for measure in ("ua", "wa", "macro_f1")
    )
    compared = ("", "", "")
    if system["comparison"]:
        ua = system["comparison"]["ua"]
        compared = (verdicts.gain_over_folds(ua), numbers.p_value(ua.get("t_p_holm")), verdicts.SHORT[ua["verdict"]])
    return (name, *recognized, *compared, numbers.count(system["parameters"]), str(system["jobs"]))


def _recognition_note(summary: Summary) -> str:
    bootstrap = summary["bootstrap"]
    return (
        f"UA, WA, F1: mean ± standard deviation over jobs; [{cells.level(summary)} interval] of all test utterances "
        f"together, {numbers.count(bootstrap['replicates'])} bootstrap draws of {bootstrap['clusters']} clusters "
        f"({bootstrap['unit']}). Gain: mean over folds with the [{cells.level(summary)} interval] of the corrected "
        "t-test that p (t) is from. p and verdict: Holm-corrected over the systems; the interval is not."
    )
