"""The summary of a run: all figures of tables and plots in one dictionary, reproducible bit for bit.

It holds no times and does not depend on the order of files. Shares are in [0, 1]; numbers are rounded to eight digits.

Means and deviations are over jobs, over folds (seeds averaged) and over seeds (folds averaged). Intervals belong to the
*pooled* measure, of one confusion matrix over all jobs, and resample speakers: a single fold may have too few of them.
A comparison uses the jobs that both systems have finished and has two halves, which answer two questions and are never
mixed:

- over folds: `difference`, its interval `t_low` to `t_high` and `t_p` are all of the corrected resampled t-test;
- over speakers: `pooled_difference`, its interval `low` to `high` and `permutation_p` are all from the pooled answers.

`verdict` follows from the Holm-corrected p of the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Num
from numpy.typing import NDArray

from affekt.errors import ConfigError
from affekt.measures import metrics, statistics
from affekt.results import geometry
from affekt.results.run_directory import JobKey
from affekt.results.run_results import Results, codes

FORMAT = 1
RECOGNITION = tuple(metrics.MEASURES)
GEOMETRY = geometry.MEASURES
TESTED = ("wa", "ua")
"""Measures whose difference is a sum over speakers, which the permutation test requires."""
LEAST_FOLDS = 3
"""A t-test on fewer folds has one degree of freedom or none: its interval spans the whole scale."""

BASELINES = ("baseline", "encoder")
"""Softmax and attention on the paper's network, and on the encoder."""

LEAST_UTTERANCES = 20
"""Fewest test utterances of a class for a relative change of its recall: below, one utterance is 5 % or more."""

DIGITS = 8

Verdict = Literal["larger", "smaller", "not shown", "not tested"]
"""Of a difference to the baseline: shown with its sign, not shown, or without a test (too few folds)."""

Floats = NDArray[np.float64]


def summarize(
    results: Results,
    baseline: str | None = None,
    *,
    seed: int = 0,
    replicates: int = 2_000,
    level: float = 0.95,
    measures: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """Compute all figures of a run.

    Args:
        results: a run, complete or not.
        baseline: the reference of all comparisons; by default the first of :data:`BASELINES`, else the first system.
        seed: seed of the bootstrap and the permutations.
        replicates: number of bootstrap draws.
        level: confidence level of the intervals.
        measures: of this run, as :func:`measure_jobs` returns them; None: computed.

    Returns:
        Nested dictionaries of plain values, as in `summary.json`.

    Raises:
        ConfigError: a baseline that is not in the run.
    """
    systems = [name for name in results.systems if results.finished(name)]
    baseline = _baseline(results, systems, baseline)
    measures = measure_jobs(results) if measures is None else measures
    pool = _pool(results, systems, baseline, seed, replicates, level)
    figures = {
        name: _system(results, measures, name) | {"pooled": _intervals(pool.own[index], pool.own_bounds[:, index])}
        for index, name in enumerate(systems)
    }
    for index, name in enumerate(systems):
        pairs = _paired(measures, name, baseline)
        compared = None if name == baseline or pairs.empty else _comparison(results, pairs, pool, index)
        figures[name]["comparison"] = compared
    _correct([system["comparison"] for system in figures.values() if system["comparison"]], 1 - level)
    clusters = {"unit": pool.clusters.unit, "clusters": pool.clusters.count}
    summary = _facts(results, baseline) | {
        "bootstrap": clusters | {"replicates": replicates, "level": level},
        "association": _association(figures),
        "systems": figures,
    }
    return dict(plain(summary))


def _baseline(results: Results, systems: Sequence[str], wanted: str | None) -> str:
    if wanted is None:
        return next((name for name in BASELINES if name in systems), systems[0])
    if wanted not in systems:
        raise ConfigError("baseline", got=repr(wanted), expected=f"a system with a finished job: {', '.join(systems)}")
    return wanted


def _facts(results: Results, baseline: str) -> dict[str, Any]:
    done = len(results.jobs)
    return {
        "format": FORMAT,
        "corpus": results.corpus,
        "synthetic": results.synthetic,
        "protocol": results.protocol,
        "protocol_line": results.protocol_line,
        "recipe": results.recipe,
        "classes": results.classes,
        "folds": len(results.folds),
        "seeds": results.seeds,
        "baseline": baseline,
        "jobs": {
            "finished": done,
            "expected": done + len(results.missing),
            "missing": [str(job) for job in results.missing],
        },
    }


def measure_jobs(results: Results) -> pd.DataFrame:
    """Measures of every job: recognition, recomputed from the predictions, and geometry of the features."""
    rows = []
    jobs = map(JobKey._make, results.jobs[["system", "fold", "seed"]].itertuples(index=False, name=None))
    for job, confusion in zip(jobs, results.confusions, strict=True):
        rows.append(job._asdict() | metrics.scores(confusion) | geometry.geometry(results, job))
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Pool:
    """Pooled confusions by cluster, and the results of resampling the clusters.

    Attributes:
        counts: confusions of a system in all its jobs; in those that the baseline has too; the baseline's in these.
        own, own_bounds: WA, UA and F1 of each system, and the ends of their intervals.
        gain, gain_bounds: their differences to the baseline, and the ends of the intervals.
        level: of the intervals.
        permuted: p-values of the differences in WA and UA.
    """

    clusters: statistics.Clusters
    counts: Num[NDArray[np.int64], "clusters systems 3 classes classes"]
    own: Float[Floats, "systems recognition"]
    own_bounds: Float[Floats, "2 systems recognition"]
    gain: Float[Floats, "systems recognition"]
    gain_bounds: Float[Floats, "2 systems recognition"]
    level: float
    permuted: Float[Floats, "systems tested"]


def _pool(results: Results, systems: Sequence[str], baseline: str, seed: int, replicates: int, level: float) -> _Pool:
    table = results.predictions
    utterances = table[["id", "speaker"]].drop_duplicates("id")
    clusters = statistics.Clusters.of(utterances["speaker"].tolist(), utterances["id"].tolist())
    cluster = table["id"].map(dict(zip(utterances["id"], clusters.index, strict=True))).to_numpy(np.int64)
    counts = _counts(results, systems, baseline, cluster, clusters.count)
    bounds = statistics.cluster_bootstrap(counts, _own_and_gain, seed=seed, replicates=replicates, level=level)
    values = _own_and_gain(counts.sum(0)[None])[0]
    return _Pool(
        clusters,
        counts,
        own=values[:, 0],
        own_bounds=bounds[:, :, 0],
        gain=values[:, 1],
        gain_bounds=bounds[:, :, 1],
        level=level,
        permuted=statistics.sign_flip_test(shares(counts), seed=seed),
    )


def _counts(
    results: Results, systems: Sequence[str], baseline: str, cluster: NDArray[np.int64], clusters: int
) -> Num[NDArray[np.int64], "clusters systems 3 classes classes"]:
    table, classes = results.predictions, len(results.classes)
    cells = (cluster * classes + codes(table, "label")) * classes + codes(table, "predicted")

    def count(keep: NDArray[np.bool_]) -> NDArray[np.int64]:
        flat = np.bincount(cells[keep], minlength=clusters * classes * classes)
        return flat.reshape(clusters, classes, classes)

    job = (table["fold"] * (max(results.seeds) + 1) + table["seed"]).to_numpy()
    of = {name: (table["system"] == name).to_numpy() for name in systems}
    counts = []
    for name in systems:
        shared = np.isin(job, np.intersect1d(job[of[name]], job[of[baseline]]))
        counts.append([count(of[name]), count(of[name] & shared), count(of[baseline] & shared)])
    return np.moveaxis(np.array(counts), 2, 0)


def _own_and_gain(
    totals: Num[Floats, "replicates systems 3 classes classes"],
) -> Float[Floats, "replicates systems 2 recognition"]:
    """WA, UA and F1 of each system; their differences to the baseline in the jobs that both have."""
    values = np.stack([measure(totals) for measure in metrics.MEASURES.values()], axis=-1)
    return np.stack([values[..., 0, :], values[..., 1, :] - values[..., 2, :]], axis=-2)


def _intervals(values: Floats, bounds: Float[Floats, "2 values"]) -> dict[str, dict[str, float]]:
    return {
        name: {"value": value, "low": low, "high": high}
        for name, value, low, high in zip(RECOGNITION, values, *bounds, strict=True)
    }


def _system(results: Results, measures: pd.DataFrame, name: str) -> dict[str, Any]:
    own = measures[measures["system"] == name]
    predictions = results.predictions[results.predictions["system"] == name]
    labels = codes(predictions, "label")
    confusion = metrics.confusion_matrix(labels, codes(predictions, "predicted"), len(results.classes))
    parameters = results.jobs.loc[results.jobs["system"] == name, "parameters"]
    return {
        "jobs": len(own),
        "parameters": int(parameters.sort_values().iloc[(len(parameters) - 1) // 2]),
        "best_epoch": statistics.spread(results.jobs.loc[results.jobs["system"] == name, "best_epoch"])._asdict(),
        **{measure: _spreads(own, measure) for measure in RECOGNITION},
        "recall": dict(zip(results.classes, metrics.recall(confusion), strict=True)),
        "confusion": confusion,
        "calibration": _calibration(results.probabilities(predictions), labels),
        "geometry": _geometry_spreads(own),
    }


def _spreads(own: pd.DataFrame, measure: str) -> dict[str, float | None]:
    """Mean over jobs, and deviations over jobs, over folds and over seeds."""
    return {
        "mean": statistics.spread(own[measure]).mean,
        "sd_jobs": statistics.spread(own[measure]).sd,
        "sd_folds": statistics.spread(own.groupby("fold")[measure].mean()).sd,
        "sd_seeds": statistics.spread(own.groupby("seed")[measure].mean()).sd,
    }


def _calibration(probabilities: Floats, labels: NDArray[np.int64]) -> dict[str, Any]:
    bins = metrics.reliability_bins(probabilities, labels)
    return {
        "ece": metrics.expected_calibration_error(probabilities, labels),
        "nll": metrics.negative_log_likelihood(probabilities, labels),
        "brier": metrics.brier_score(probabilities, labels),
        "bins": {"count": bins.count, "confidence": bins.confidence, "accuracy": bins.accuracy},
    }


def _geometry_spreads(own: pd.DataFrame) -> dict[str, Any] | None:
    """Mean and deviation over jobs of each measure that is finite; None if the run has no features."""
    known = {name: own[name].dropna() for name in GEOMETRY}
    if all(values.empty for values in known.values()):
        return None
    return {name: None if values.empty else statistics.spread(values)._asdict() for name, values in known.items()}


def _comparison(results: Results, pairs: pd.DataFrame, pool: _Pool, index: int) -> dict[str, Any]:
    """The system at `index` of the pool against the baseline; `pairs` holds their differences by job."""
    compared: dict[str, Any] = {"jobs": len(pairs)}
    for measure, gain, low, high in zip(RECOGNITION, pool.gain[index], *pool.gain_bounds[:, index], strict=True):
        pooled = {"pooled_difference": gain, "low": low, "high": high}
        compared[measure] = _difference(results, pairs, measure, pool.level) | pooled
    for measure, p_value in zip(TESTED, pool.permuted[index], strict=True):
        compared[measure]["permutation_p"] = p_value
    for measure in GEOMETRY:
        kept = pairs.dropna(subset=[measure])
        compared[measure] = None if kept.empty else _difference(results, kept, measure, pool.level)
    _, own, baseline = metrics.recall(pool.counts[:, index].sum(0))
    utterances = results.predictions.drop_duplicates("id")["label"].value_counts()
    compared["relative_recall"] = {
        name: after / before - 1 if before > 0 and utterances[name] >= LEAST_UTTERANCES else None
        for name, after, before in zip(results.classes, own, baseline, strict=True)
    }
    return compared


def _paired(measures: pd.DataFrame, name: str, baseline: str) -> pd.DataFrame:
    """Differences of all measures, indexed by the folds and seeds that both systems have."""
    columns = [*RECOGNITION, *GEOMETRY]
    one, other = (
        measures[measures["system"] == system].set_index(["fold", "seed"])[columns] for system in (name, baseline)
    )
    return one.sub(other).loc[one.index.intersection(other.index)].sort_index()


def _difference(results: Results, pairs: pd.DataFrame, measure: str, level: float) -> dict[str, float | None]:
    """Mean difference over folds, seeds averaged, with the interval and p-value of its corrected t-test.

    Neither is given below :data:`LEAST_FOLDS` folds.
    """
    by_fold = pairs.groupby("fold")[measure].mean()
    found: dict[str, float | None] = {"difference": by_fold.mean(), "folds": len(by_fold)}
    if len(by_fold) < LEAST_FOLDS:
        return found | {"t_low": None, "t_high": None, "t_p": None}
    sizes = [fold for fold in results.folds if fold.index in by_fold.index]
    test, train = (float(np.mean([getattr(fold, part) for fold in sizes])) for part in ("test", "train"))
    interval = statistics.corrected_resampled_interval(by_fold.to_numpy(), test, train, level)
    p_value = statistics.corrected_resampled_t_test(by_fold.to_numpy(), test, train).p_value
    return found | {"t_low": interval.low, "t_high": interval.high, "t_p": p_value}


def shares(
    counts: Num[NDArray[np.int64], "clusters systems 3 classes classes"],
) -> Float[Floats, "clusters systems tested"]:
    """The contribution of each cluster to the pooled differences in WA and UA, which are sums over clusters."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)  # [clusters, systems, 3, classes]
    gained = (hits[:, :, 1] - hits[:, :, 2]).astype(np.float64)  # [clusters, systems, classes]
    said = counts[:, :, 1].sum((0, -1))  # [systems, classes]
    weights = 1 / np.maximum(said, 1)
    present = np.maximum((said > 0).sum(-1), 1)  # [systems]
    wa = gained.sum(-1) / np.maximum(said.sum(-1), 1)
    return np.stack([wa, (gained * weights).sum(-1) / present], axis=-1)


def _correct(comparisons: Sequence[dict[str, Any]], level: float) -> None:
    """Add Holm's correction over all systems, test by test and measure by measure; and the verdict of the t-test."""
    for measure in (*RECOGNITION, *GEOMETRY):
        for test in ("t_p", "permutation_p"):
            found = [compared[measure] for compared in comparisons if compared[measure]]
            tested = [figures for figures in found if figures.get(test) is not None]
            for figures, adjusted in zip(tested, statistics.holm([each[test] for each in tested]), strict=True):
                figures[f"{test}_holm"] = adjusted
        for compared in comparisons:
            if compared[measure]:
                compared[measure]["verdict"] = verdict(compared[measure], level)


def verdict(figures: Mapping[str, Any], level: float = 0.05) -> Verdict:
    """The conclusion from a difference and its Holm-corrected p-value.

    Args:
        figures: with `difference`, and `t_p_holm` where it was tested.
        level: the p-value below which a difference counts as shown.

    >>> verdict({"difference": 0.04, "t_p_holm": 0.01}), verdict({"difference": 0.04, "t_p_holm": 0.2})
    ('larger', 'not shown')
    >>> verdict({"difference": 0.04})
    'not tested'
    """
    p_value = figures.get("t_p_holm")
    if p_value is None:
        return "not tested"
    if p_value >= level:
        return "not shown"
    return "larger" if figures["difference"] > 0 else "smaller"


def _association(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Spearman's rank correlation over systems of mean UA with each measure of geometry: do better features score?"""
    pairs = {
        name: [
            (system["ua"]["mean"], system["geometry"][name]["mean"])
            for system in figures.values()
            if system["geometry"] and system["geometry"][name]
        ]
        for name in GEOMETRY
    }
    return {
        name: statistics.rank_correlation([ua for ua, _ in both], [value for _, value in both])
        for name, both in pairs.items()
    }


def plain(value: Any) -> Any:
    """Values as JSON types: numbers rounded to eight digits, non-finite ones as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):  # numpy's float64 is one
        return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
