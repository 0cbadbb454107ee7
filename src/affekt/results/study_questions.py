"""Questions that the paper leaves open, answered from the runs of a study as rows of numbers.

(a) Do the paper's three proposals gain what it claims? (b) Does alpha matter under Adam? (c) Where does the spread come
from? (d) How optimistic is a random split? (e) Are the features more compact, and does that predict recognition?
(f) Which systems are best for their size and time?

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
from affekt.results.study import Run
from affekt.results.summary import GEOMETRY, LEAST_FOLDS, TESTED, shares
from affekt.training.systems import GROUPS

PROPOSALS = {
    "AM-softmax": ("am-softmax", "am-softmax-s10-m0.4"),
    "focal": ("focal", "focal-g2-a2"),
    "combined": ("combined",),
}
"""The paper's three proposals with its best settings: names of systems, of which the first that was run counts."""

CLAIM = 0.04
"""Section 4.3: at least 4 points of UA above the baseline."""

GAMMAS, ALPHAS = (2, 5), (1, 2, 4)
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
        `difference`, `low`, `high`, `p`, `folds`; None for fewer than three shared folds.
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
    interval = statistics.corrected_resampled_interval(difference.to_numpy(), test, train)
    p_value = statistics.corrected_resampled_t_test(difference.to_numpy(), test, train).p_value
    return {"system": system, "other": other, **_ends(interval, "difference"), "p": p_value, "folds": len(difference)}


def _same_test(first: Run, second: Run, fold: int) -> bool:
    tested = []
    for run in (first, second):
        table = run.results.predictions
        tested.append(set(table.loc[table["fold"] == fold, "id"]))
    return tested[0] == tested[1]


def _ends(interval: statistics.Interval, name: str = "value") -> Row:
    return {name: interval.value, "low": interval.low, "high": interval.high}


def claims(run: Run) -> list[Row]:
    """(a) Gain of each proposal over the baseline; verdict: 4 points are reached, refuted, or open."""
    rows = []
    for proposal, names in PROPOSALS.items():
        found = gain(run, run.first(names), run, "baseline") if run.first(names) and "baseline" in run.systems else None
        if found:
            verdict = "reached" if found["low"] >= CLAIM else "refuted" if found["high"] < CLAIM else "open"
            rows.append({"proposal": proposal, **found, "verdict": verdict})
    return _corrected(rows)


def alphas(run: Run) -> list[Row]:
    """(b) Differences of all pairs of focal systems that differ in alpha alone."""
    rows = []
    for gamma in GAMMAS:
        for less, more in combinations(ALPHAS, 2):
            pair = f"focal-g{gamma}-a{more}", f"focal-g{gamma}-a{less}"
            if found := gain(run, pair[0], run, pair[1]) if set(pair) <= set(run.systems) else None:
                rows.append({"gamma": gamma, **found})
    return _corrected(rows)


def _corrected(rows: list[Row], test: str = "p") -> list[Row]:
    """Rows with a p-value that is Holm-corrected over all rows."""
    adjusted = statistics.holm([row[test] for row in rows]) if rows else []
    return [row | {f"{test}_holm": p} for row, p in zip(rows, adjusted, strict=True)]


def spreads(run: Run) -> list[Row]:
    """(c) Standard deviations of UA by their source, for each system.

    Folds and seeds are variance components of the UA on test parts. `sampling` is the deviation from drawing the test
    utterances of a fold anew, a part of `folds`. The effect of early stopping is measured on validation parts, since
    test parts are scored once: see :func:`stopping`.
    """
    rows = []
    for system in run.systems:
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
                **_mean_stopping(run, system),
            }
        )
    return rows


def _deviation(variance: statistics.Interval | None) -> Row | None:
    return None if variance is None else _ends(statistics.Interval(*np.sqrt(variance).tolist()))


def sampling_deviation(run: Run, system: str) -> float:
    """Square root of the mean over jobs of sum_c r_c (1 - r_c) / n_c / classes^2, the variance of a mean of recalls."""
    variances = []
    for job in run.results.finished(system):
        table = run.results.of(*job)
        confusion = metrics.confusion_matrix(codes(table, "label"), codes(table, "predicted"), len(run.results.classes))
        said = confusion.sum(1)
        recall = metrics.recall(confusion)[said > 0]
        variances.append(float((recall * (1 - recall) / said[said > 0]).sum() / len(recall) ** 2))
    return float(np.sqrt(np.mean(variances)))


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


def _mean_stopping(run: Run, system: str) -> Row:
    """Means of both over the jobs of a system, with Student's interval."""
    kept = run.results.jobs.set_index(["system", "fold", "seed"])["best_epoch"]
    found = [stopping(run.results.history(*job), int(kept[job])) for job in run.results.finished(system)]
    known = [values for values in found if values is not None]
    intervals = [statistics.mean_interval(column) for column in zip(*known, strict=True)] or [None, None]
    return {
        name: None if interval is None else _ends(interval)
        for name, interval in zip(("stopping", "lost"), intervals, strict=True)
    }


def flattery(random: Run, speaker: Run) -> list[Row]:
    """(d) UA under the random split minus UA with held-out speakers, with an interval by resampling speakers."""
    rows = []
    for system in random.systems:
        if system not in speaker.systems:
            continue
        tables = [run.results.predictions for run in (random, speaker)]
        tables = [table[table["system"] == system] for table in tables]
        counts = _counts_by_speaker(tables, len(random.results.classes))
        values = _ua_and_difference(counts.sum(0)[None])[0]
        bounds = statistics.cluster_bootstrap(counts, _ua_and_difference, seed=0)
        ends = statistics.Interval(float(values[2]), float(bounds[0, 2]), float(bounds[1, 2]))
        rows.append({"system": system, "random": float(values[0]), "speaker": float(values[1])} | _ends(ends, "gap"))
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


def compactness(run: Run) -> dict[str, Any]:
    """(e) Change of feature geometry by each proposal, and rank correlation of geometry with UA over jobs.

    Values are centered within each fold before ranking: an easy fold has well separated features and a high UA with any
    system.
    """
    changes = [
        {"proposal": proposal, "measure": measure, **found}
        for measure in GEOMETRY
        for proposal, names in PROPOSALS.items()
        if run.first(names) and "baseline" in run.systems
        if (found := gain(run, run.first(names), run, "baseline", measure))
    ]
    association = {}
    for measure in GEOMETRY:
        table = run.measures[["fold", "ua", measure]].dropna()
        centered = table[["ua", measure]] - table.groupby("fold")[["ua", measure]].transform("mean")
        several = table["fold"].map(table.groupby("fold").size()) > 1
        ua, values = (centered.loc[several, name].tolist() for name in ("ua", measure))
        centers = table.loc[several, "fold"].nunique()
        interval = statistics.rank_correlation_interval(ua, values, means_removed=centers)
        association[measure] = None if interval is None else _ends(interval) | {"jobs": int(several.sum())}
    return {"changes": changes, "association": association}


def trade_offs(run: Run) -> list[Row]:
    """(f) UA, parameters and milliseconds of each system, and whether it lies on the Pareto front."""
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
