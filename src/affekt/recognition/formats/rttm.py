"""RTTM, NIST's Rich Transcription Time Marked format (RT-09 evaluation plan, appendix A), for diarization tools."""

from __future__ import annotations

from pathlib import PurePath

from affekt.recognition.timeline import Timeline


def to_rttm(timeline: Timeline) -> str:
    """One SPEAKER line per segment; the "speaker" is the emotion, with `_?` where it is unsure.

    Fields may hold no white space, so it becomes `_`.
    """
    recording = _field(PurePath(timeline.source).stem)
    lines = []
    for segment in timeline.segments:
        duration = segment.end_seconds - segment.start_seconds
        times = f"{segment.start_seconds:.3f} {duration:.3f}"
        label = _field(segment.marked_label)
        lines.append(f"SPEAKER {recording} 1 {times} <NA> <NA> {label} {segment.confidence:.3f} <NA>\n")
    return "".join(lines)


def _field(text: str) -> str:
    return "_".join(text.split()) or "_"
