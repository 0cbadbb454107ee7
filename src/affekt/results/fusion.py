"""Late fusion: the mean of the calibrated posteriors of several systems of a run.

This is the sum rule of Kittler, Hatef, Duin & Matas 1998, "On Combining Classifiers", with equal weights: nothing is
trained or tuned. Each member has seen the training part of its fold, and the validation part for its epoch and
temperature, so the fused system keeps the protocol of its members.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from affekt.errors import ConfigError, Fault
from affekt.measures import metrics
from affekt.results.packed_tables import PROBABILITY_PREFIX
from affekt.results.run_directory import (
    HISTORY,
    HISTORY_COLUMNS,
    NEEDED,
    PREDICTION_COLUMNS,
    PREDICTIONS,
    JobKey,
)
from affekt.results.run_results import Results, codes


def fuse(path: str | Path, members: Sequence[str], name: str = "fused") -> Results:
    """Add a fused system to a run directory, with a job for every fold and seed that all members have finished.

    Its jobs have the usual files except weights and deep features; the history is empty. Repeated calls add jobs that
    have become possible and rewrite the others unchanged.

    Args:
        path: run directory.
        members: at least two trained systems of the run.
        name: name of the fused system.

    Returns:
        The run, read back with the fused system.

    Raises:
        ConfigError: unknown, fused or repeated members, a name that is taken, or no job that all members have finished.
        CheckpointError: a damaged run.
    """
    path = Path(path)
    results = Results.read(path)
    faults = list(_faults(results, members, name))
    if faults:
        raise ConfigError.of(faults)
    shared = _shared_jobs(results, members)
    if not shared:
        got, remedy = "no fold and seed that all members have finished", "resume the experiment"
        raise ConfigError(f"system {name}", got=got, expected="at least one", remedy=remedy)
    for fold, seed in shared:
        _write_job(results, [JobKey(member, fold, seed) for member in members], JobKey(name, fold, seed))
    results.directory.add_fusion(name, members)
    return Results.read(path)


def _faults(results: Results, members: Sequence[str], name: str) -> Iterator[Fault]:
    trained = [system for system in results.systems if system not in results.fusions]
    for member, times in Counter(members).items():
        if member not in trained:
            yield Fault(f"member {member}", "no trained system of this run", f"one of {', '.join(trained)}")
        if times > 1:
            yield Fault(f"member {member}", f"{times} times", "once: all members have the same weight")
    if len(members) < 2:
        yield Fault("members", ", ".join(members) or "none", "at least 2 systems")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        yield Fault("name", repr(name), "letters, digits, '-', '.' and '_'")
    if name in trained or results.fusions.get(name, tuple(members)) != tuple(members):
        got = "a trained system" if name in trained else "another fusion"
        yield Fault(f"name {name}", f"{got} of this run", "a new name", "choose another --name")


def _shared_jobs(results: Results, members: Sequence[str]) -> list[tuple[int, int]]:
    """Folds and seeds that all members have finished."""
    finished = [{(job.fold, job.seed) for job in results.finished(member)} for member in members]
    return sorted(set.intersection(*finished))


def _write_job(results: Results, members: Sequence[JobKey], job: JobKey) -> None:
    """Write the files of one fused job, `result.json` last."""
    directory = results.directory.job(job)
    table = _voted(results, members)
    history = pd.DataFrame(columns=list(HISTORY_COLUMNS))
    directory.write({HISTORY: history.to_csv(index=False).encode(), PREDICTIONS: table.to_csv(index=False).encode()})
    rows = results.jobs.set_index(["system", "fold", "seed"]).loc[list(map(tuple, members))]
    result = {
        **job._asdict(),
        "protocol": results.protocol_line,
        "members": [member.system for member in members],
        "parameters": int(rows["parameters"].sum()),
        "best_epoch": 0,
        "epochs": 0,
        "seconds": round(float(rows["seconds"].sum()), 3),
        **metrics.described(_confusion(results, table), results.classes),
    }
    directory.write_result(result, NEEDED)


def _voted(results: Results, members: Sequence[JobKey]) -> pd.DataFrame:
    """The predictions by the mean posterior, in the row order of the first member."""
    tables = [results.of(*member).set_index("id") for member in members]
    ids = tables[0].index
    posteriors = np.mean([results.probabilities(table.loc[ids]) for table in tables], axis=0).astype(np.float32)
    voted = tables[0].reset_index()[list(PREDICTION_COLUMNS)]
    voted["predicted"] = np.array(results.classes)[posteriors.argmax(1)]
    voted[[PROBABILITY_PREFIX + label for label in results.classes]] = posteriors
    return voted


def _confusion(results: Results, table: pd.DataFrame) -> Any:
    typed = {name: pd.Categorical(table[name], categories=list(results.classes)) for name in ("label", "predicted")}
    numbers = pd.DataFrame(typed)
    return metrics.confusion_matrix(codes(numbers, "label"), codes(numbers, "predicted"), len(results.classes))
