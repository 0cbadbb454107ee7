"""Sentences of the study, composed from its estimates: each is chosen by a verdict, and no figure is typed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from affekt.measures.statistics import Interval
from affekt.report import numbers, quoted
from affekt.report.corpus_names import corpus_name
from affekt.results.study import ENCODER_CORPORA, PROTOCOLS, Study
from affekt.results.study_analysis import (
    LEAST_CORPORA,
    Analysis,
    Effect,
    EffectOverCorpora,
    Secondary,
    effect_verdict,
    size_verdict,
)

SPLITS = {"random": "under random splits", "speaker": "with speakers held out"}
Analyses = dict[tuple[str, str], Analysis]


def quantity(interval: Interval | tuple[float, float, float], unit: str) -> str:
    """An estimate with its interval, in the unit of a secondary question.

    >>> quantity((0.012, -0.004, 0.03), "signed points"), quantity((0.31, 0.2, 0.4), "correlation")
    ('+1.2 [−0.4, +3.0]', '0.31 [0.20, 0.40]')
    >>> quantity((0.031, 0.02, 0.04), "points"), quantity((31.33, 29.0, 34.0), "epochs")
    ('3.1 [2.0, 4.0]', '31.3 [29.0, 34.0]')
    """
    value, low, high = interval
    if unit == "signed points":
        return f"{numbers.points(value)} {numbers.interval(low, high, signed=True)}"
    if unit == "points":
        return f"{numbers.percent(value)} {numbers.interval(low, high)}"
    digits = 1 if unit == "epochs" else 2
    return f"{numbers.decimal(value, digits)} [{numbers.decimal(low, digits)}, {numbers.decimal(high, digits)}]"


def listed(parts: Sequence[str]) -> str:
    """Parts of a sentence, the last two joined by "and".

    >>> listed(["a", "b", "c"]), listed(["a"])
    ('a, b and c', 'a')
    """
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def abstract(study: Study, analyses: Analyses, secondary: Sequence[Secondary]) -> str:
    """Four sentences: the question, the answer on the encoder, the answer with the paper's network, the rest."""
    sentences = (
        _opening(study),
        _encoder([analyses["encoder", protocol] for protocol in PROTOCOLS]),
        _paper([analyses["paper", protocol] for protocol in PROTOCOLS]),
        _rest(secondary),
    )
    return " ".join(sentences)


def _opening(study: Study) -> str:
    runs = [run for _, run in study.parts() if run is not None] or study.runs
    jobs, corpora = sum(len(run.results.jobs) for run in runs), {run.results.corpus for run in runs}
    return (
        "Zhou & Liu (2020) report that AM-softmax, focal loss and combined attentive pooling each raise the unweighted "
        f"accuracy (UA) of a compact network by at least {quoted.CLAIM_POINTS:.0f} points, on one corpus and one "
        f"random split; {numbers.count(jobs)} trainings on {len(corpora)} {_plural('corpus', len(corpora))} test this "
        "with their network and on a frozen pretrained encoder, under random splits and with speakers held out."
    )


def power(analyses: Analyses) -> str:
    """How far the combined intervals reach, against the gain reported."""
    found = [row.combined.effect for each in analyses.values() for row in each.proposals() if row.combined]
    reaches = sorted((interval.high - interval.low) / 2 for interval in found)
    short = sum(100 * reach < quoted.CLAIM_POINTS for reach in reaches)
    count = len(reaches)
    which = f"All {count}" if short == count else f"{short or 'None'} of the {count}"
    return (
        f"The intervals of Table 2 extend {numbers.percent(reaches[0])} to {numbers.percent(reaches[-1])} points to "
        f"either side of the estimates. {which} {'is' if short == 1 else 'are'} narrow enough to tell a mean gain of "
        f"the {quoted.CLAIM_POINTS:.0f} points reported from 0."
    )


def _plural(word: str, count: int) -> str:
    return word if count == 1 else {"corpus": "corpora"}.get(word, f"{word}s")


def _encoder(analyses: Sequence[Analysis]) -> str:
    rows = {analysis.protocol: analysis.proposals() for analysis in analyses}
    known = {protocol: own for protocol, own in rows.items() if all(row.combined for row in own)}
    if not known:
        return (
            f"On the encoder fewer than {LEAST_CORPORA} of {len(ENCODER_CORPORA)} corpora are finished, so no estimate "
            f"over corpora is given; {_decided([row for own in rows.values() for row in own])}."
        )
    return f"On the encoder, {_changes(known)}; {_summed(known.values())}."


def _changes(groups: Mapping[str, Sequence[EffectOverCorpora]]) -> str:
    """What each proposal changes, by protocol: "over 7 corpora, AM-softmax changes UA by ..., focal loss by ..."."""
    corpora = dict.fromkeys(str(max(len(row.corpora) for row in rows)) for rows in groups.values())
    clauses: list[str] = []
    for own in zip(*groups.values(), strict=True):
        if clauses:
            clauses.append(f"{own[0].name} by {' and by '.join(_value(row) for row in own)}")
        else:
            values = [f"{_value(row, ' points')} {SPLITS[split]}" for row, split in zip(own, groups, strict=True)]
            clauses.append(f"{own[0].name} changes UA by {' and by '.join(values)}")
    return f"over {' and '.join(corpora)} corpora, {', '.join(clauses)}"


def _value(row: EffectOverCorpora, unit: str = "") -> str:
    assert row.interval is not None
    return f"{quantity(row.interval, 'signed points')}{unit}{_held(row)}"


def _held(row: EffectOverCorpora) -> str:
    """The corrected p-value of an effect whose interval excludes 0: the interval itself is not corrected."""
    if row.interval is None or row.p_holm is None or effect_verdict(row.interval) == "no difference shown":
        return ""
    return f" (Holm-corrected p {probability(row.p_holm)})"


def probability(p: float) -> str:
    """A p-value as the rest of an equation.

    >>> probability(0.108), probability(0.0001)
    ('= 0.108', '< 0.001')
    """
    text = numbers.p_value(p)
    return f"< {text[1:]}" if text.startswith("<") else f"= {text}"


def _summed(groups: Iterable[Sequence[EffectOverCorpora]]) -> str:
    """How many intervals lie above 0, below 0, and below the claim."""
    intervals = [row.interval for rows in groups for row in rows if row.interval]
    effects = Counter(effect_verdict(interval) for interval in intervals)
    smaller = sum(size_verdict(interval) == "smaller than reported" for interval in intervals)
    count = len(intervals)
    words: dict[Effect, tuple[str, str]] = {
        "helps": ("lies above 0", "lie above 0"),
        "hurts": ("lies below 0", "lie below 0"),
        "no difference shown": ("contains 0", "contain 0"),
    }
    shown = [f"{_of(effects[key], count)} {pair[effects[key] > 1]}" for key, pair in words.items() if effects[key]]
    below = (
        f"{_of(smaller, count)} {'lies' if smaller < 2 else 'lie'} below the {quoted.CLAIM_POINTS:.0f} points reported"
    )
    return listed([*shown, below])


def _of(some: int, count: int) -> str:
    """How many of some intervals.

    >>> _of(3, 6), _of(0, 6), _of(6, 6)
    ('3 of 6 intervals', 'none of the 6 intervals', 'all 6 intervals')
    """
    return (
        f"all {count} intervals"
        if some == count
        else f"{some or 'none'} of {'the ' if not some else ''}{count} intervals"
    )


def _some(count: int, one: str = "lies", several: str = "lie") -> str:
    """A number of things with its verb.

    >>> _some(0), _some(1), _some(3)
    ('none lies', '1 lies', '3 lie')
    """
    return f"{count or 'none'} {one if count < 2 else several}"


def _decided(rows: Sequence[EffectOverCorpora]) -> str:
    """What the intervals of single corpora decide."""
    intervals = [Interval(*effect[1:4]) for row in rows for effect in row.corpora]
    if not intervals:
        return "nothing has been measured yet"
    smaller = sum(size_verdict(interval) == "smaller than reported" for interval in intervals)
    above = sum(effect_verdict(interval) == "helps" for interval in intervals)
    both = sum(
        effect_verdict(one) == "no difference shown" and one.high >= 0.01 * quoted.CLAIM_POINTS for one in intervals
    )
    undecided = f"{_some(both, 'contains', 'contain')} both and {'decides' if both == 1 else 'decide'} nothing"
    return (
        f"of {len(intervals)} intervals of single corpora, {_some(above)} above 0, {_some(smaller)} below "
        f"{quoted.CLAIM_POINTS:.0f} points, and {undecided}"
    )


def _paper(analyses: Sequence[Analysis]) -> str:
    rows = {analysis.protocol: analysis.proposals() for analysis in analyses}
    combined = {protocol: own for protocol, own in rows.items() if all(row.combined for row in own)}
    if combined:
        return f"With the paper's network, {_changes(combined)}; {_summed(combined.values())}."
    parts = [text for protocol, own in rows.items() for text in _by_corpus(SPLITS[protocol], own)]
    if not parts:
        return "With the paper's network no comparison of a proposal with the baseline is finished."
    decided = _decided([row for own in rows.values() for row in own])
    few = f"measured on fewer than {LEAST_CORPORA} corpora"
    return f"With the paper's network, {few}, {'; '.join(parts)}; {decided}."


def _by_corpus(split: str, rows: Sequence[EffectOverCorpora]) -> Iterator[str]:
    for corpus in sorted({effect.corpus for row in rows for effect in row.corpora}):
        own = [(row.name, effect) for row in rows for effect in row.corpora if effect.corpus == corpus]
        values = [f"{name} by {quantity(effect[1:4], 'signed points')}" for name, effect in own]
        first = values[0].replace(" by ", " changes UA by ", 1) + " points"
        yield f"on {corpus_name(corpus)} {split} {listed([first, *values[1:]])}"


_PHRASES = {
    "UA of the baseline, random minus speaker": "a random split flatters the baseline by {} points",
    "UA, alpha 4 minus 1, gamma = 2": "an alpha of 4 instead of 1 changes UA by {} points",
    "rank correlation of Fisher ratio and UA": "compactness correlates with UA by {}",
    "recall of happy, focal minus softmax": "focal loss changes the recall of happy by {} points",
}
"""Of the secondary answers that the abstract quotes: for the encoder, speakers held out."""


def _rest(secondary: Sequence[Secondary]) -> str:
    chosen = {
        row.quantity: row
        for row in secondary
        if row.network == "encoder" and row.protocol in ("", "speaker") and row.estimate.combined is not None
    }
    parts = [
        phrase.format(quantity(chosen[name].estimate.combined.effect, chosen[name].unit))  # type: ignore[union-attr]
        for name, phrase in _PHRASES.items()
        if name in chosen
    ]
    if not parts:
        return f"The secondary questions are answered by corpus until {LEAST_CORPORA} corpora are finished."
    return f"Secondary, on the encoder with speakers held out: {listed(parts)}."
