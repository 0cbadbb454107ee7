"""Subtitles, which video players show over a recording: SubRip (SRT) and WebVTT (W3C)."""

from __future__ import annotations

from collections.abc import Iterator

from affekt.recognition.timeline import Timeline


def to_srt(timeline: Timeline) -> str:
    """One numbered subtitle per segment: its label and confidence."""
    return "\n".join(f"{number}\n{cue}" for number, cue in enumerate(_cues(timeline, ","), start=1))


def to_vtt(timeline: Timeline) -> str:
    """One cue per segment: its label and confidence."""
    return "\n".join(["WEBVTT\n", *_cues(timeline, ".")])


def _cues(timeline: Timeline, point: str) -> Iterator[str]:
    for segment in timeline.segments:
        times = " --> ".join(_clock(seconds, point) for seconds in (segment.start_seconds, segment.end_seconds))
        label = " ".join(segment.label.replace("<", "(").replace(">", ")").replace("&", "and").split())
        doubt = " (unsure)" if segment.unsure else ""
        yield f"{times}\n{label} {segment.confidence:.0%}{doubt}\n"


def _clock(seconds: float, point: str) -> str:
    """Hours, minutes, seconds and milliseconds.

    >>> _clock(3_725.5, ",")
    '01:02:05,500'
    """
    milliseconds = round(1_000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest // 1_000:02d}{point}{rest % 1_000:03d}"
