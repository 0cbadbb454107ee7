"""Questions on one run, or on a pair of runs, answered as rows of numbers; :mod:`affekt.results.study_analysis` joins
corpora.

Every answer has an interval. Intervals of differences between systems are over folds (Nadeau & Bengio 2003): they are
about methods. Intervals of the level of a system, and of the difference of two protocols, resample speakers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Num
from numpy.typing import NDArray

from affekt.measures import metrics, statistics
from affekt.results.run_results import codes
from affekt.results.study import ALIASES, Run
from affekt.results.summary import GEOMETRY, LEAST_FOLDS, TESTED, shares
from affekt.training.systems import GROUPS

PROPOSALS: dict[str, tuple[str, ...]] = {
    "AM-softmax": ALIASES[0],
    "focal loss": ALIASES[1],
    "combined pooling": ("combined",),
}
"""The paper's three proposals with its best settings: names of systems, of which the first that was run counts."""

CLAIM = 0.04
"""Section 4.3: at least 4 points of UA above the baseline."""

GAMMAS, ALPHAS = (2, 5), (1, 2, 4)
HARD_CLASS = "happy"
"""The class that the paper looks at closely (section 4.3, Figure 2)."""

PARTS = ("train", "validation", "test")
NEAR_EPOCHS = 3
"""Epochs around the best one within which early stopping could as well have stopped."""

CANDIDATES, MOST_PARAMETERS = ("compact", "am-focal-combined", "combined", "baseline"), 400_000
"""Systems that represent the robust recipe: the first of these that was run, and the fused system if it is small."""

FUSED = "fused"
RIVALS = ("functionals-svm", "descriptors-svm", *(system.name for system in GROUPS["table1"]))

Floats = NDArray[np.float64]
Row = dict[str, Any]


def gain(first: Run, system: str, second: Run, other: str, measure: str = "ua") -> Row | None:
    """Gain of one system over another on shared folds and seeds, with interval and p-value over folds.

    Seeds are averaged in each fold. Folds of two runs are shared if their test parts are equal.

    Args:
        first, system: a run and its system.
        second, other: the run and the system to compare with.
        measure: a column of :attr:`affekt.results.study.Run.measures`.

    Returns:
        `difference`, `low`, `high`, `p`, `error`, `folds`; None for fewer than three shared folds.
    """
    one, two = first.table(system, measure), second.table(other, measure)
    shared = one.index.intersection(two.index)
    if first is not second:
        one, two = one.groupby("fold").mean(), two.groupby("fold").mean()
        shared = pd.Index([fold for fold in one.index.intersection(two.index) if _same_test(first, second, fold)])
    difference = (one.loc[shared] - two.loc[shared]).groupby("fold").mean()
    if len(difference) < LEAST_FOLDS:
        return None
    sizes = [fold for fold in first.results.folds if fold.index in difference.index]
    test, train = (float(np.mean([getattr(fold, part) for fold in sizes])) for part in ("test", "train"))
    values = difference.to_numpy()
    interval = statistics.corrected_resampled_interval(values, test, train)
    tested = {
        "p": statistics.corrected_resampled_t_test(values, test, train).p_value,
        "error": statistics.corrected_resampled_error(values, test, train),
    }
    return {"system": system, "other": other, **ends(interval, "difference"), **tested, "folds": len(difference)}


def _same_test(first: Run, second: Run, fold: int) -> bool:
    tested = []
    for run in (first, second):
        table = run.results.predictions
        tested.append(set(table.loc[table["fold"] == fold, "id"]))
    return tested[0] == tested[1]


def ends(interval: statistics.Interval, name: str = "value") -> Row:
    """An estimate and its interval as entries of a row."""
    return {name: interval.value, "low": interval.low, "high": interval.high}


def proposal(run: Run, name: str) -> str:
    """The run's system for one of :data:`PROPOSALS`; empty if it was not run."""
    return run.first(run.own_names(PROPOSALS[name]))


def claims(run: Run) -> list[Row]:
    """Gain of each proposal over the baseline, Holm-corrected over the proposals."""
    rows = []
    for name in PROPOSALS:
        system = proposal(run, name)
        if found := gain(run, system, run, run.baseline) if system and run.baseline else None:
            rows.append({"proposal": name, **found})
    return _corrected(rows)


def alpha_pairs(run: Run) -> list[tuple[int, int, int, str, str]]:
    """Pairs of focal systems that differ in alpha alone: gamma, the larger and the smaller alpha, their names."""
    pairs = []
    for gamma in GAMMAS:
        for less, more in combinations(ALPHAS, 2):
            system, other = (_focal(run, gamma, alpha) for alpha in (more, less))
            if system and other:
                pairs.append((gamma, more, less, system, other))
    return pairs


def _focal(run: Run, gamma: int, alpha: int) -> str:
    names = [f"focal-g{gamma}-a{alpha}"]
    return run.first(run.own_names([*names, "focal"] if names[0] in PROPOSALS["focal loss"] else names))


def alphas(run: Run) -> list[Row]:
    """Differences of all pairs of focal systems that differ in alpha alone, Holm-corrected."""
    rows = []
    for gamma, more, less, system, other in alpha_pairs(run):
        if found := gain(run, system, run, other):
            rows.append({"gamma": gamma, "more": more, "less": less, **found})
    return _corrected(rows)


def _corrected(rows: list[Row], test: str = "p") -> list[Row]:
    """Rows with a p-value that is Holm-corrected over all rows."""
    adjusted = statistics.holm([row[test] for row in rows]) if rows else []
    return [row | {f"{test}_holm": p} for row, p in zip(rows, adjusted, strict=True)]


def spreads(run: Run, systems: Sequence[str] | None = None, stopped: Sequence[str] | None = None) -> list[Row]:
    """Standard deviations of UA by their source, for each system.

    Folds and seeds are variance components of the UA on test parts. `sampling` is the deviation from drawing the test
    utterances of a fold anew, a part of `folds`. The effect of early stopping is measured on validation parts, since
    test parts are scored once: see :func:`stopping`. `epochs` is the number of epochs that were trained.

    Args:
        run: a run.
        systems: names of systems; by default all.
        stopped: those whose histories are read for the effect of early stopping; by default all.
    """
    rows = []
    for system in run.systems if systems is None else systems:
        values = run.table(system)
        groups = [group.tolist() for _, group in values.groupby("fold")]
        parts = statistics.variance_components(groups)
        rows.append(
            {
                "system": system,
                "jobs": statistics.spread(values.to_numpy()).sd,
                "folds": _deviation(parts.between),
                "seeds": _deviation(parts.within),
                "sampling": sampling_deviation(run, system),
                "epochs": epochs(run, system),
                **(mean_stopping(run, system) if stopped is None or system in stopped else _UNREAD),
            }
        )
    return rows


def _deviation(variance: statistics.Interval | None) -> Row | None:
    return None if variance is None else ends(statistics.Interval(*np.sqrt(variance).tolist()))


def sampling_deviation(run: Run, system: str) -> float:
    """Square root of the mean over jobs of sum_c r_c (1 - r_c) / n_c / classes^2, the variance of a mean of recalls."""
    confusions = run.confusions(system).astype(np.float64)
    said = confusions.sum(2)
    recall = metrics.recall(confusions)
    known = said > 0
    parts = np.where(known, recall * (1 - recall) / np.maximum(said, 1), 0.0)
    return float(np.sqrt(np.mean(parts.sum(1) / known.sum(1) ** 2)))


def stopping(history: pd.DataFrame, best_epoch: int) -> tuple[float, float] | None:
    """Noise of the validation UA on which early stopping decides, and the loss after the best epoch.

    Args:
        history: one row per epoch.
        best_epoch: number of the best epoch.

    Returns:
        The standard deviation about a straight line through the epochs at most 3 from the best one, and the UA of the
        best epoch minus that of the last. None for fewer than four such epochs.

    >>> flat = pd.DataFrame({"epoch": range(1, 6), "validation_ua": [0.5, 0.5, 0.8, 0.5, 0.6]})
    >>> [round(value, 3) for value in stopping(flat, 3)]  # residuals of 0.58 + 0.02 (e - 3)
    [0.146, 0.2]
    """
    if "validation_ua" not in history:
        return None
    near = history[(history["epoch"] - best_epoch).abs() <= NEAR_EPOCHS]
    if len(near) < 4:
        return None
    epoch, ua = near["epoch"].to_numpy(np.float64), near["validation_ua"].to_numpy(np.float64)
    residuals = ua - np.polyval(np.polyfit(epoch, ua, 1), epoch)
    kept, last = float(ua[epoch == best_epoch][0]), float(history["validation_ua"].iloc[-1])
    return float(np.sqrt(np.square(residuals).sum() / (len(near) - 2))), kept - last


_UNREAD: Row = {"stopping": None, "lost": None}


def epochs(run: Run, system: str) -> Row | None:
    """Mean number of epochs that the trainings of a system took, with Student's interval; None for a single one."""
    jobs = run.results.jobs
    mean = statistics.mean_interval(jobs.loc[jobs["system"] == system, "epochs"])
    return None if mean is None else ends(mean)


def mean_stopping(run: Run, system: str) -> Row:
    """Means of :func:`stopping` over the trainings of a system with Student's intervals, as `stopping` and `lost`."""
    kept = run.results.jobs.set_index(["system", "fold", "seed"])["best_epoch"].to_dict()
    found = [stopping(run.results.history(*job), int(kept[tuple(job)])) for job in run.results.finished(system)]
    known = [values for values in found if values is not None]
    intervals = [statistics.mean_interval(column) for column in zip(*known, strict=True)] or [None, None]
    return {
        name: None if interval is None else ends(interval)
        for name, interval in zip(("stopping", "lost"), intervals, strict=True)
    }


def flattery(random: Run, speaker: Run, systems: Sequence[str] | None = None) -> list[Row]:
    """UA under the random split minus UA with held-out speakers, with an interval by resampling speakers.

    Args:
        random, speaker: runs of one corpus.
        systems: names of systems; by default all. Those that one run lacks are left out.
    """
    rows = []
    for system in random.systems if systems is None else systems:
        if not {system} <= {*random.systems} & {*speaker.systems}:
            continue
        tables = [run.results.predictions for run in (random, speaker)]
        tables = [table[table["system"] == system] for table in tables]
        counts = _counts_by_speaker(tables, len(random.results.classes))
        values = _ua_and_difference(counts.sum(0)[None])[0]
        bounds = statistics.cluster_bootstrap(counts, _ua_and_difference, seed=0)
        gap = statistics.Interval(float(values[2]), float(bounds[0, 2]), float(bounds[1, 2]))
        rows.append({"system": system, "random": float(values[0]), "speaker": float(values[1])} | ends(gap, "gap"))
    return rows


def _counts_by_speaker(
    tables: Sequence[pd.DataFrame], classes: int
) -> Num[NDArray[np.int64], "clusters runs classes classes"]:
    """Confusions of each speaker (or utterance, where speakers are unknown) in each of two runs."""
    known = pd.concat(tables)[["id", "speaker"]].drop_duplicates("id")
    clusters = statistics.Clusters.of(known["speaker"].tolist(), known["id"].tolist())
    place = dict(zip(known["id"], clusters.index.tolist(), strict=True))
    counts = []
    for table in tables:
        cell = (table["id"].map(place).to_numpy(np.int64) * classes + codes(table, "label")) * classes
        flat = np.bincount(cell + codes(table, "predicted"), minlength=clusters.count * classes**2)
        counts.append(flat.reshape(clusters.count, classes, classes))
    return np.stack(counts, axis=1)


def _ua_and_difference(totals: Num[Floats, "replicates 2 classes classes"]) -> Float[Floats, "replicates 3"]:
    ua = metrics.unweighted_accuracy(totals)
    return np.column_stack([ua, ua[:, 0] - ua[:, 1]])


def compactness(run: Run) -> list[Row]:
    """Change of the geometry of the deep features by each proposal, with the interval over folds."""
    return [
        {"proposal": name, "measure": measure, **found}
        for measure in GEOMETRY
        for name in PROPOSALS
        if (system := proposal(run, name)) and run.baseline
        if (found := gain(run, system, run, run.baseline, measure))
    ]


def association(run: Run, measure: str = "fisher_ratio", within: Sequence[str] = ("fold",)) -> Row | None:
    """Spearman's rank correlation of a measure of geometry with UA over the trainings of a run.

    Values are centered within each group before ranking: an easy fold has well separated features and a high UA with
    any system. Each centering takes a degree of freedom.

    Args:
        run: a run.
        measure: one of :data:`affekt.results.summary.GEOMETRY`.
        within: columns of the groups: `fold`, and `system` to compare trainings of one system only.

    Returns:
        `value`, `low`, `high`, `jobs` and `pairs`, the jobs less the centers; None for too few jobs.
    """
    keys = list(within)
    table = run.measures[[*dict.fromkeys(["fold", "system", *keys]), "ua", measure]].dropna()
    centered = table[["ua", measure]] - table.groupby(keys)[["ua", measure]].transform("mean")
    several = table.groupby(keys)["ua"].transform("size") > 1
    ua, values = (centered.loc[several, name].tolist() for name in ("ua", measure))
    centers = len(table.loc[several, keys].drop_duplicates())
    interval = statistics.rank_correlation_interval(ua, values, means_removed=centers)
    jobs = int(several.sum())
    return None if interval is None else ends(interval) | {"jobs": jobs, "pairs": jobs - centers}


def trade_offs(run: Run) -> list[Row]:
    """UA, parameters and milliseconds of each system, and whether it lies on the Pareto front."""
    device = next(iter(run.costs), "")
    rows = []
    for name, system in run.summary["systems"].items():
        cost = run.costs.get(device, {}).get(name)
        milliseconds = 1e3 * (cost["front_end"] + cost["recognition"]) if cost else None
        ua = system["pooled"]["ua"]
        price = {"parameters": system["parameters"], "milliseconds": milliseconds, "device": device}
        rows.append({"system": name, "ua": ua["value"], "low": ua["low"], "high": ua["high"]} | price)
    for row in rows:
        row["best_for_parameters"] = _undominated(row, rows, "parameters")
        row["best_for_milliseconds"] = _undominated(row, rows, "milliseconds")
    return rows


def _undominated(row: Row, rows: Sequence[Row], price: str) -> bool | None:
    """Whether a row is on the Pareto front of UA and a price; None without a price."""
    if row[price] is None:
        return None
    known = [(other["ua"], other[price]) for other in rows if other[price] is not None]
    own = row["ua"], row[price]
    return not any(ua >= own[0] and cost <= own[1] and (ua, cost) != own for ua, cost in known)


def contest(robust: Run, rival: Run) -> list[Row]:
    """The robust recipe against rival systems of a run on the same folds, by two tests.

    `p` is from the corrected t-test over folds, `permutation_p` from exchanging the predictions of two systems within
    speakers. Each is Holm-corrected over the rivals of a system.
    """
    return [row for name in _candidates(robust) for row in _contest(robust, name, rival)]


def _candidates(robust: Run) -> list[str]:
    names = [name for name in (FUSED, robust.first(CANDIDATES)) if name in robust.systems]
    return [name for name in names if robust.summary["systems"][name]["parameters"] <= MOST_PARAMETERS]


def _contest(robust: Run, candidate: str, rival: Run) -> list[Row]:
    others = [name for name in RIVALS if name in rival.systems and (robust is not rival or name != candidate)]
    rows = [
        found | {"permutation_p": permutation_p(robust, candidate, rival, other)}
        for other in others
        if (found := gain(robust, candidate, rival, other))
    ]
    return _corrected(_corrected(rows), "permutation_p")


def permutation_p(first: Run, system: str, second: Run, other: str) -> float:
    """p-value of the gain in UA if the predictions of two systems may be exchanged within each speaker.

    It uses the folds and seeds that both have: :func:`affekt.measures.statistics.sign_flip_test` of speakers' gains.
    """
    jobs = set(first.table(system).index) & set(second.table(other).index)
    jobs = {(fold, seed) for fold, seed in jobs if first is second or _same_test(first, second, fold)}
    tables = []
    for run, name in ((first, system), (second, other)):
        table = run.results.predictions
        shared = pd.MultiIndex.from_frame(table[["fold", "seed"]]).isin(jobs)
        tables.append(table[(table["system"] == name) & shared])
    own, others = np.moveaxis(_counts_by_speaker(tables, len(first.results.classes)), 1, 0)
    gained = shares(np.stack([own, own, others], axis=1)[:, None])
    return float(statistics.sign_flip_test(gained, seed=0)[0, TESTED.index("ua")])
