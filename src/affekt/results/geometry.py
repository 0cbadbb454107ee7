"""Geometry of deep features per job, and the table of it that replaces the features in a published run."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from affekt.errors import CheckpointError, Fault
from affekt.measures import metrics
from affekt.results.run_directory import GEOMETRY, JobKey
from affekt.results.run_results import Results, codes
from affekt.runtime.atomic_files import write_bytes

MEASURES = ("fisher_ratio", "silhouette", "cosine_within", "cosine_between")
COLUMNS = ("system", "fold", "seed", "features_sha256", *MEASURES)


def geometry(results: Results, job: JobKey) -> dict[str, float]:
    """Measures of compactness and separation of a job's deep features on the test part.

    Args:
        results: the run.
        job: a finished job.

    Returns:
        Values by :data:`MEASURES`; NaN where undefined or not published.

    Raises:
        CheckpointError: the published table belongs to other features.
    """
    embeddings = results.embeddings(*job)
    if embeddings is None:
        return _published(results, job)
    labels = codes(results.of(*job), "label")
    fisher = metrics.fisher_ratio(embeddings, labels)
    values = (fisher, metrics.silhouette(embeddings, labels), *metrics.mean_cosines(embeddings, labels))
    return dict(zip(MEASURES, np.where(np.isfinite(values), values, np.nan).tolist(), strict=True))


def write_geometry(results: Results, path: str | Path) -> None:
    """Write the geometry of every finished job with deep features, and the hash of the features."""
    rows = []
    for name in results.systems:
        for job in filter(results.features_sha256, results.finished(name)):
            values = geometry(results, job)
            rows.append(job._asdict() | {"features_sha256": results.features_sha256(job)} | values)
    text = io.StringIO()
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(text, index=False)
    write_bytes(path, text.getvalue().encode())


def _published(results: Results, job: JobKey) -> dict[str, float]:
    """The job's row of `geometry.csv`, if there is one."""
    path = results.path / GEOMETRY
    if not path.exists():
        return dict.fromkeys(MEASURES, float("nan"))
    stamp = path.stat()
    found = _read(path, stamp.st_mtime_ns, stamp.st_size).get(job)
    if found is None:
        return dict.fromkeys(MEASURES, float("nan"))
    digest, *values = found
    if digest != results.features_sha256(job):
        remedy = "collect the run again"
        raise CheckpointError.of([Fault(f"{path}: {job}", "other features", "those of its result.json", remedy)])
    return dict(zip(MEASURES, map(float, values), strict=True))


@lru_cache(maxsize=2)
def _read(path: Path, modified_ns: int, size_bytes: int) -> dict[JobKey, tuple[Any, ...]]:
    """The hash of the features and the measures, by job; read again when the file changes."""
    table = pd.read_csv(path)
    if list(table.columns) != list(COLUMNS):
        raise CheckpointError(str(path), got=f"columns {', '.join(table.columns)}", expected=", ".join(COLUMNS))
    rows = table.itertuples(index=False, name=None)
    return {JobKey(str(system), int(fold), int(seed)): tuple(rest) for system, fold, seed, *rest in rows}
