"""CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from affekt.timeline import Timeline


def to_csv(timeline: Timeline) -> str:
    """One row a segment: source, start_seconds, end_seconds, label, confidence, unsure, ... , prob.<class>."""
    probabilities = [f"prob.{label}" for label in timeline.labels]
    columns = ["source", "start_seconds", "end_seconds", "label", "confidence", "unsure", "truncated", *probabilities]
    return csv_text(columns, (segment.to_row() for segment in timeline.segments))


def to_json(timeline: Timeline) -> str:
    """Everything: segments, windows and how they were made."""
    return json.dumps(timeline.to_dict(), indent=1, ensure_ascii=False) + "\n"


def csv_text(columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV (RFC 4180) with a header; seconds and probabilities have six digits.

    >>> csv_text(["label", "confidence"], [{"label": "sad, mostly", "confidence": 0.75, "rest": 1}])
    'label,confidence\\r\\n"sad, mostly",0.75\\r\\n'
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()})
    return text.getvalue()
