"""The four analyses of the study plan, and the secondary questions, over corpora.

An analysis takes one network (the paper's, or the back end on the encoder) under one protocol. The effect of a system
on a corpus is paired over folds (:func:`affekt.results.study_questions.gain`); corpora are combined by
:func:`affekt.measures.meta_analysis.random_effects` where there are three or more. With fewer, every corpus stands for
itself. Verdicts follow from intervals alone, as the plan fixed them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import norm

from affekt.measures import statistics
from affekt.measures.meta_analysis import MetaAnalysis, random_effects
from affekt.measures.statistics import Interval
from affekt.results import study_questions as asked
from affekt.results.study import PROTOCOLS, Run, Study
from affekt.training.systems import TABLE2

NETWORKS: dict[str, tuple[str, ...]] = {"encoder": ("encoder",), "paper": ("paper-steps", "paper")}
"""The networks with their recipes; the first recipe that a corpus was run with counts."""

LEAST_CORPORA = 3
NORMAL = float(norm.ppf(0.975))

Effect = Literal["helps", "hurts", "no difference shown"]
Size = Literal["as large as reported", "smaller than reported"]


class CorpusEffect(NamedTuple):
    """An effect on one corpus, with its 95 % interval and its standard error."""

    corpus: str
    value: float
    low: float
    high: float
    error: float


@dataclass(frozen=True)
class EffectOverCorpora:
    """An effect on every corpus, and over all of them.

    Attributes:
        name: what was compared.
        corpora: effects by corpus.
        combined: over corpora; None for fewer than three, or where one has the same effect in all folds and so no
            variance.
        p: of the combined effect being 0; None where it is not combined, or where 0 means nothing.
        p_holm: the same, Holm-corrected over the estimates that it stands with.
    """

    name: str
    corpora: tuple[CorpusEffect, ...]
    combined: MetaAnalysis | None = None
    p: float | None = None
    p_holm: float | None = None

    @property
    def interval(self) -> Interval | None:
        """The combined effect with its interval; that of the only corpus if there is one; else None."""
        if self.combined is not None:
            return self.combined.effect
        return Interval(*self.corpora[0][1:4]) if len(self.corpora) == 1 else None


def effect_verdict(interval: Interval) -> Effect:
    """Whether an interval lies above 0, below 0, or contains it.

    >>> effect_verdict(Interval(0.02, 0.01, 0.03)), effect_verdict(Interval(0.02, -0.01, 0.05))
    ('helps', 'no difference shown')
    """
    if interval.low > 0:
        return "helps"
    return "hurts" if interval.high < 0 else "no difference shown"


def size_verdict(interval: Interval) -> Size:
    """Whether an interval reaches the 4 points that the paper reports.

    >>> size_verdict(Interval(0.02, 0.01, 0.03)), size_verdict(Interval(0.02, -0.01, 0.05))
    ('smaller than reported', 'as large as reported')
    """
    return "smaller than reported" if interval.high < asked.CLAIM else "as large as reported"


def combine(name: str, effects: Iterable[CorpusEffect], tested: bool = True) -> EffectOverCorpora:
    """Combine the effects of corpora, if there are enough.

    Args:
        name: of the estimate.
        effects: one per corpus.
        tested: whether an effect of 0 is a hypothesis worth a p-value.
    """
    corpora = tuple(effects)
    if len(corpora) < LEAST_CORPORA or min(effect.error for effect in corpora) <= 0:
        return EffectOverCorpora(name, corpora)
    combined = random_effects([effect.value for effect in corpora], [effect.error**2 for effect in corpora])
    return EffectOverCorpora(name, corpora, combined, combined.p_value if tested else None)


def corrected(estimates: Iterable[EffectOverCorpora]) -> list[EffectOverCorpora]:
    """Estimates with p-values that are Holm-corrected over all that have one."""
    rows = list(estimates)
    adjusted = iter(statistics.holm([row.p for row in rows if row.p is not None]))
    return [replace(row, p_holm=next(adjusted)) if row.p is not None else row for row in rows]


@dataclass(frozen=True)
class Analysis:
    """One network under one protocol, on all corpora that it was run on.

    Attributes:
        network: a key of :data:`NETWORKS`.
        protocol: `random` or `speaker`.
        runs: the run of every corpus, in the order of their names.
    """

    network: str
    protocol: str
    runs: tuple[Run, ...]

    @classmethod
    def of(cls, study: Study, network: str, protocol: str) -> Analysis:
        """The runs of a study that belong to an analysis: those with a baseline, one per corpus."""
        chosen: dict[str, Run] = {}
        for recipe in NETWORKS[network]:
            for run in study.runs:
                if (run.recipe, run.results.protocol) == (recipe, protocol) and run.baseline:
                    chosen.setdefault(run.results.corpus, run)
        return cls(network, protocol, tuple(chosen[corpus] for corpus in sorted(chosen)))

    def gains(
        self, names: Sequence[str], measure: str = "ua", other: Sequence[str] = ("baseline",)
    ) -> EffectOverCorpora:
        """The gain of a system over another, on every corpus and combined.

        Args:
            names: names of the system in the paper's tables, of which the first that was run counts.
            measure: a column of :attr:`affekt.results.study.Run.measures`.
            other: names of the system to compare with; by default softmax and attention.
        """
        return combine(names[0], [effect for run in self.runs if (effect := _effect(run, names, measure, other))])

    def proposals(self) -> list[EffectOverCorpora]:
        """The primary comparisons: each proposal against the baseline, Holm-corrected over the proposals."""
        rows = [replace(self.gains(names), name=name) for name, names in asked.PROPOSALS.items()]
        return corrected(rows)

    def alpha(self, gamma: int, more: int, less: int) -> EffectOverCorpora:
        """Focal loss with two values of alpha at one gamma."""
        pairs = [_focal_names(gamma, alpha) for alpha in (more, less)]
        return replace(self.gains(pairs[0], other=pairs[1]), name=f"alpha {more} against {less}, gamma = {gamma}")

    def happy(self) -> EffectOverCorpora:
        """The recall of *happy* under focal loss against softmax."""
        return self.gains(asked.PROPOSALS["focal loss"], f"recall.{asked.HARD_CLASS}")

    def best_of_the_others(self) -> EffectOverCorpora | None:
        """The largest gain of the ten other settings of Table 2, chosen by these results: an optimistic bound."""
        primary = {name for names in asked.PROPOSALS.values() for name in names}
        names = [system.name for system in TABLE2[1:] if system.name not in primary]
        found = [self.gains([name]) for name in names]
        usable = [row for row in found if row.interval is not None]
        largest = max((len(row.corpora) for row in usable), default=0)  # the same corpora for all
        fair = [row for row in usable if len(row.corpora) == largest]
        return max(fair, key=lambda row: row.interval.value if row.interval else 0.0, default=None)

    def association(self, within: Sequence[str] = ("fold",)) -> EffectOverCorpora:
        """Rank correlation of the Fisher ratio with UA over trainings; combined on Fisher's z scale."""
        effects = []
        for run in self.runs:
            row = asked.association(run, within=within)
            if row and row["pairs"] > LEAST_CORPORA:
                error = math.sqrt((1 + row["value"] ** 2 / 2) / (row["pairs"] - 3))  # Bonett & Wright 2000
                effects.append(CorpusEffect(run.results.corpus, row["value"], row["low"], row["high"], error))
        return _on_z_scale(effects)

    def compactness_points(self) -> dict[str, list[tuple[float, float]]]:
        """By proposal, one pair per corpus: the Fisher ratio over that of the baseline, and the gain in UA."""
        points: dict[str, list[tuple[float, float]]] = {}
        for run in self.runs:
            for name in asked.PROPOSALS:
                system = asked.proposal(run, name)
                means = [run.table(each, "fisher_ratio").mean() for each in (system, run.baseline)]
                if system and np.isfinite(means).all():
                    gained = run.table(system).mean() - run.table(run.baseline).mean()
                    points.setdefault(name, []).append((float(means[0] / means[1]), float(gained)))
        return points

    def spread(self, source: str) -> EffectOverCorpora:
        """The standard deviation of UA from a source, by corpus: the mean over systems of its variance.

        Over corpora: the mean with Student's interval, since the deviations are of other corpora and not one effect.

        Args:
            source: `folds`, `seeds`, or `sampling`.
        """
        found = {run.results.corpus: _mean_deviation(run, source) for run in self.runs}
        return _mean_over_corpora({corpus: row for corpus, row in found.items() if row is not None})

    def stopping(self, what: str) -> EffectOverCorpora:
        """What early stopping rests on, for the baseline: `stopping`, `lost` or `epochs`; mean over corpora."""
        rows = {
            run.results.corpus: asked.epochs(run, run.baseline)
            if what == "epochs"
            else asked.mean_stopping(run, run.baseline)[what]
            for run in self.runs
        }
        found = {corpus: Interval(row["value"], row["low"], row["high"]) for corpus, row in rows.items() if row}
        return _mean_over_corpora(found)


def _focal_names(gamma: int, alpha: int) -> list[str]:
    name = f"focal-g{gamma}-a{alpha}"
    return list(asked.PROPOSALS["focal loss"]) if name in asked.PROPOSALS["focal loss"] else [name]


def _effect(run: Run, names: Sequence[str], measure: str, other: Sequence[str]) -> CorpusEffect | None:
    system, reference = run.first(run.own_names(names)), run.first(run.own_names(other))
    reference = run.baseline if list(other) == ["baseline"] else reference
    row = asked.gain(run, system, run, reference, measure) if system and reference else None
    if row is None:
        return None
    return CorpusEffect(run.results.corpus, row["difference"], row["low"], row["high"], row["error"])


def _on_z_scale(effects: Sequence[CorpusEffect]) -> EffectOverCorpora:
    """Correlations, combined as their inverse hyperbolic tangents."""
    name = "rank correlation"
    if any(abs(effect.value) >= 1 for effect in effects):
        return EffectOverCorpora(name, tuple(effects))
    found = combine(name, [effect._replace(value=math.atanh(effect.value)) for effect in effects])
    if found.combined is None:
        return EffectOverCorpora(name, tuple(effects))
    effect = Interval(*map(math.tanh, found.combined.effect))
    return replace(found, corpora=tuple(effects), combined=replace(found.combined, effect=effect, prediction=None))


def _mean_deviation(run: Run, source: str) -> Interval | None:
    """Square root of the mean over systems of a variance component of UA, or of the sampling variance.

    The ends are the square roots of the mean ends: systems share folds, so their number does not narrow the interval.
    """
    variances = []
    for system in run.systems:
        if source == "sampling":
            variances.append(Interval(*[asked.sampling_deviation(run, system) ** 2] * 3))
            continue
        groups = [group.tolist() for _, group in run.table(system).groupby("fold")]
        parts = statistics.variance_components(groups)
        part = parts.between if source == "folds" else parts.within
        if part is not None:
            variances.append(part)
    return Interval(*np.sqrt(np.mean(variances, axis=0)).tolist()) if variances else None


def _mean_over_corpora(values: dict[str, Interval]) -> EffectOverCorpora:
    """A mean of corpora with Student's interval, in the form of an estimate; there is nothing to test."""
    effects = tuple(CorpusEffect(corpus, *interval, 0.0) for corpus, interval in values.items())
    if len(effects) < LEAST_CORPORA:
        return EffectOverCorpora("mean", effects)
    means = [interval.value for interval in values.values()]
    interval = statistics.mean_interval(means)
    assert interval is not None
    count, deviation = len(means), statistics.spread(means).sd or 0.0
    mean = MetaAnalysis(count, interval, 1.0, None, deviation, 0.0, 1.0, 0.0, (1 / count,) * count)
    return EffectOverCorpora("mean", effects, mean)


def flattery(study: Study, network: str, names: Sequence[str] = ("baseline",)) -> EffectOverCorpora:
    """UA under `random` minus UA under `speaker`, by corpus with intervals from drawing speakers, and over corpora.

    Args:
        study: the study.
        network: a key of :data:`NETWORKS`.
        names: names of the system in the paper's tables; by default softmax and attention.
    """
    effects = []
    pairs = [{run.results.corpus: run for run in Analysis.of(study, network, each).runs} for each in PROTOCOLS]
    for corpus in sorted(pairs[0].keys() & pairs[1].keys()):
        random, speaker = pairs[0][corpus], pairs[1][corpus]
        system = random.baseline if list(names) == ["baseline"] else random.first(random.own_names(names))
        for row in asked.flattery(random, speaker, [system]) if random.recipe == speaker.recipe else ():
            error = (row["high"] - row["low"]) / (2 * NORMAL)
            effects.append(CorpusEffect(corpus, row["gap"], row["low"], row["high"], error))
    return combine("random minus speaker", effects)


class Secondary(NamedTuple):
    """A row of the table of secondary questions.

    Attributes:
        question: what is asked.
        quantity: what is estimated.
        unit: `points`, `signed points`, `epochs` or `correlation`.
        network, protocol: of the analysis; the protocol is empty where both enter.
        estimate: the answer.
    """

    question: str
    quantity: str
    unit: str
    network: str
    protocol: str
    estimate: EffectOverCorpora


def secondary(study: Study) -> list[Secondary]:
    """All secondary questions on all analyses, Holm-corrected together."""
    rows: list[Secondary] = []
    for network in NETWORKS:
        analyses = [Analysis.of(study, network, protocol) for protocol in PROTOCOLS]
        for question, quantity, unit, answer in _QUESTIONS:
            for analysis in analyses:
                if (found := answer(analysis)) is not None and found.corpora:
                    named = quantity.format(name=found.name)
                    rows.append(Secondary(question, named, unit, network, analysis.protocol, found))
        gap = flattery(study, network)
        if gap.corpora:
            question, quantity = "What does a random split flatter?", "UA of the baseline, random minus speaker"
            rows.append(Secondary(question, quantity, "signed points", network, "", gap))
    adjusted = corrected(row.estimate for row in rows)
    return [row._replace(estimate=estimate) for row, estimate in zip(rows, adjusted, strict=True)]


_Answer = Callable[[Analysis], EffectOverCorpora | None]
_ALPHA, _SPREAD = "Does alpha matter under Adam?", "Where does the spread come from?"
_STOPS = "What does early stopping contribute?"
_COMPACT = "Does compactness predict accuracy?"
_QUESTIONS: tuple[tuple[str, str, str, _Answer], ...] = (
    *(
        (_ALPHA, f"UA, alpha {more} minus {less}, gamma = {gamma}", "signed points", answer)
        for gamma in asked.GAMMAS
        for less, more in combinations(asked.ALPHAS, 2)
        for answer in [lambda analysis, g=gamma, a=more, b=less: analysis.alpha(g, a, b)]
    ),
    (_SPREAD, "SD of UA over folds", "points", lambda analysis: analysis.spread("folds")),
    (_SPREAD, "SD of UA over seeds", "points", lambda analysis: analysis.spread("seeds")),
    (_SPREAD, "SD of UA from the finite test part", "points", lambda analysis: analysis.spread("sampling")),
    (_STOPS, "SD of validation UA around the kept epoch", "points", lambda analysis: analysis.stopping("stopping")),
    (_STOPS, "epochs trained, baseline", "epochs", lambda analysis: analysis.stopping("epochs")),
    (_COMPACT, "rank correlation of Fisher ratio and UA", "correlation", lambda analysis: analysis.association()),
    (
        _COMPACT,
        "the same within each system",
        "correlation",
        lambda analysis: analysis.association(("fold", "system")),
    ),
    ("Is focal loss good for happy?", "recall of happy, focal minus softmax", "signed points", Analysis.happy),
    (
        "Do all three together help?",
        "UA, AM-softmax with focal loss and combined pooling, minus baseline",
        "signed points",
        lambda analysis: analysis.gains(["am-focal-combined"]),
    ),
    (
        "Is another setting of Table 2 better?",
        "UA, {name}, best of the ten others, optimistic, minus baseline",
        "signed points",
        Analysis.best_of_the_others,
    ),
)
