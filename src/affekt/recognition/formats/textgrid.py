"""Praat's TextGrid, in its long text form (Boersma & Weenink, Praat manual, "TextGrid file formats")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from affekt.recognition.timeline import Timeline

Interval = tuple[float, float, str]


def to_textgrid(timeline: Timeline) -> str:
    """Two interval tiers over the whole recording, `emotion` and `confidence`; between segments they are empty."""
    end = round(timeline.duration_seconds, 6)
    spans = [(round(segment.start_seconds, 6), round(segment.end_seconds, 6)) for segment in timeline.segments]
    tiers = {
        "emotion": [segment.marked_label for segment in timeline.segments],
        "confidence": [f"{segment.confidence:.2f}" for segment in timeline.segments],
    }
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 ", f"xmax = {end:.6f} "]
    lines += ["tiers? <exists> ", f"size = {len(tiers)} ", "item []: "]
    for number, (name, texts) in enumerate(tiers.items(), start=1):
        marked = [(start, stop, text) for (start, stop), text in zip(spans, texts, strict=True)]
        lines += [f"    item [{number}]:", *_tier(name, list(_filled(marked, end)), end)]
    return "\n".join(lines) + "\n"


def _tier(name: str, intervals: Sequence[Interval], end: float) -> Iterator[str]:
    yield '        class = "IntervalTier" '
    yield f"        name = {_quoted(name)} "
    yield "        xmin = 0 "
    yield f"        xmax = {end:.6f} "
    yield f"        intervals: size = {len(intervals)} "
    for number, (start, stop, text) in enumerate(intervals, start=1):
        yield f"        intervals [{number}]:"
        yield f"            xmin = {start:.6f} "
        yield f"            xmax = {stop:.6f} "
        yield f"            text = {_quoted(text)} "


def _filled(intervals: Sequence[Interval], end: float) -> Iterator[Interval]:
    """The intervals and the gaps between them, so that they cover everything from 0 to the end.

    >>> list(_filled([(1.0, 2.0, "sad")], end=3.0))
    [(0.0, 1.0, ''), (1.0, 2.0, 'sad'), (2.0, 3.0, '')]
    """
    position = 0.0
    for start, stop, text in intervals:
        if start > position:
            yield position, start, ""
        yield start, stop, text
        position = stop
    if position < end:
        yield position, end, ""


def _quoted(text: str) -> str:
    """Praat doubles quotation marks inside a text."""
    return '"' + text.replace('"', '""') + '"'
