"""The secondary questions of the study in words, from their estimates over corpora; a verdict chooses every clause."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from affekt.report import numbers
from affekt.report.corpus_names import corpus_name
from affekt.report.study_sentences import SPLITS, listed, quantity
from affekt.results.study_analysis import Secondary, effect_verdict

Rows = Sequence[Secondary]
SHOWN = {"helps": "higher", "hurts": "lower", "no difference shown": "no difference shown"}
RELATED = {
    "helps": "they rise together",
    "hurts": "one falls as the other rises",
    "no difference shown": "no association shown",
}


def answers(secondary: Rows) -> list[str]:
    """One item for each question that is answered over corpora on the encoder, in the order of the table."""
    groups: dict[str, list[Secondary]] = {}
    for row in secondary:
        if row.network == "encoder" and row.estimate.combined is not None:
            groups.setdefault(row.question, []).append(row)
    return [f"{question} {_WRITERS[question](rows)}" for question, rows in groups.items()]


def _said(row: Secondary) -> str:
    assert row.estimate.combined is not None
    return quantity(row.estimate.combined.effect, row.unit)


def _verdict(row: Secondary, words: Mapping[str, str]) -> str:
    assert row.estimate.combined is not None
    return words[effect_verdict(row.estimate.combined.effect)]


def _alpha(rows: Rows) -> str:
    contain = sum(_verdict(row, SHOWN) == SHOWN["no difference shown"] for row in rows)
    largest = max(rows, key=lambda row: abs(row.estimate.combined.effect.value if row.estimate.combined else 0.0))
    some = f"{contain or 'none'} {'contain' if contain > 1 else 'contains'}"
    return (
        f"Of {len(rows)} intervals of pairs of alpha, {some} 0; the "
        f"largest difference is {_said(largest)} points ({largest.quantity}, {SPLITS[largest.protocol]})."
    )


def _spread(rows: Rows) -> str:
    clauses = []
    for protocol in dict.fromkeys(row.protocol for row in rows):
        own = {row.quantity: row for row in rows if row.protocol == protocol}
        parts = [f"{_said(row)} ({name.removeprefix('SD of UA ')})" for name, row in own.items()]
        clauses.append(f"{SPLITS[protocol]} {listed(parts)}")
    return f"Standard deviation of UA in points: {'; '.join(clauses)}."


def _stopping(rows: Rows) -> str:
    return _by_split(rows, lambda row: f"{_said(row)}{' points' if row.unit == 'points' else ''}")


def _flattery(rows: Rows) -> str:
    corpora = sorted(rows[0].estimate.corpora, key=lambda effect: effect.value)
    lowest, highest = (
        f"{numbers.points(each.value)} on {corpus_name(each.corpus)}" for each in (corpora[0], corpora[-1])
    )
    return f"{_said(rows[0])} points of UA: {_verdict(rows[0], SHOWN)} under random splits, from {lowest} to {highest}."


def _compactness(rows: Rows) -> str:
    return _by_split(rows, _said, RELATED)


def _gains(rows: Rows) -> str:
    return _by_split(rows, lambda row: f"{_said(row)} points", SHOWN)


def _by_split(rows: Rows, said: Callable[[Secondary], str], words: Mapping[str, str] | None = None) -> str:
    """Each quantity under both splits, with a verdict in these words."""
    clauses = []
    for name in dict.fromkeys(row.quantity for row in rows):
        own = [row for row in rows if row.quantity == name]
        verdicts = ["" if words is None else f" ({_verdict(row, words)})" for row in own]
        values = [f"{said(row)} {SPLITS[row.protocol]}{end}" for row, end in zip(own, verdicts, strict=True)]
        clauses.append(f"{name}: {listed(values)}")
    return f"{'; '.join(clauses)}."


_WRITERS: dict[str, Callable[[Rows], str]] = {
    "Does alpha matter under Adam?": _alpha,
    "Where does the spread come from?": _spread,
    "What does early stopping contribute?": _stopping,
    "What does a random split flatter?": _flattery,
    "Does compactness predict accuracy?": _compactness,
    "Is focal loss good for happy?": _gains,
    "Do all three together help?": _gains,
    "Is another setting of Table 2 better?": _gains,
}
"""By the questions of :func:`affekt.results.study_analysis.secondary`."""
