"""Audacity's label tracks: File > Import > Labels."""

from __future__ import annotations

from affekt.recognition.timeline import Timeline


def to_labels(timeline: Timeline) -> str:
    """One line per segment: start, end, label and confidence, with tabs between the three fields."""
    lines = []
    for segment in timeline.segments:
        label = " ".join(segment.label.split())
        doubt = " unsure" if segment.unsure else ""
        lines.append(
            f"{segment.start_seconds:.6f}\t{segment.end_seconds:.6f}\t{label} {segment.confidence:.2f}{doubt}\n"
        )
    return "".join(lines)
