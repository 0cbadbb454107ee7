"""Answers as rows of CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from typing import Any, TextIO


def prediction_columns(labels: Iterable[str]) -> list[str]:
    """Columns of tables of predictions: source, times, label, confidence, `prob.<class>` for each class, and model."""
    facts = ["source", "start_seconds", "end_seconds", "label", "confidence", "unsure", "truncated"]
    return [*facts, *(f"prob.{label}" for label in labels), "reason", "speech", "model"]


def print_csv(columns: Iterable[str], rows: Iterable[Mapping[str, Any]], file: TextIO, header: bool = True) -> None:
    """Write rows as CSV; seconds and probabilities have six digits.

    >>> import sys
    >>> print_csv(["label", "confidence"], [{"label": "sad, mostly", "confidence": 0.123456789}], sys.stdout)
    label,confidence
    "sad, mostly",0.123457
    """
    writer = csv.DictWriter(file, list(columns), extrasaction="ignore", lineterminator="\n")
    if header:
        writer.writeheader()
    for row in rows:
        writer.writerow({key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()})
        file.flush()
