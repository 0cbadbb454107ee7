"""CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from affekt.recognition.timeline import Timeline


def to_csv(timeline: Timeline) -> str:
    """One row a segment."""
    text = io.StringIO()
    print_csv(prediction_columns(timeline.labels), (segment.to_row() for segment in timeline.segments), text)
    return text.getvalue()


def to_json(timeline: Timeline) -> str:
    """Everything: segments, windows and how they were made."""
    return json.dumps(timeline.to_dict(), indent=1, ensure_ascii=False) + "\n"


def prediction_columns(labels: Iterable[str]) -> list[str]:
    """Columns of tables of predictions: where, what, how sure, and `prob.<class>` for each class."""
    facts = ["source", "start_seconds", "end_seconds", "label", "confidence", "unsure", "truncated"]
    return [*facts, *(f"prob.{label}" for label in labels)]


def print_csv(columns: Iterable[str], rows: Iterable[Mapping[str, Any]], file: TextIO, header: bool = True) -> None:
    """Rows as CSV, each as it comes; seconds and probabilities have six digits.

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
