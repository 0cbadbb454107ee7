"""CSV and JSON."""

from __future__ import annotations

import io
import json

from affekt.recognition.answer_rows import prediction_columns, print_csv
from affekt.recognition.timeline import Timeline


def to_csv(timeline: Timeline) -> str:
    """One row per segment."""
    text = io.StringIO()
    print_csv(prediction_columns(timeline.labels), (segment.to_row() for segment in timeline.segments), text)
    return text.getvalue()


def to_json(timeline: Timeline) -> str:
    """Segments, windows, the overall answer and the configuration."""
    return json.dumps(timeline.to_dict(), indent=1, ensure_ascii=False) + "\n"
