"""A timeline as a picture: waveform, probability bands and segments. HTML with inline SVG, or PNG by matplotlib."""

from __future__ import annotations

import html
import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from affekt.recognition.timeline import Timeline
from affekt.recognition.windows import ENVELOPE_SECONDS

Floats = NDArray[np.float64]

COLOURS = ("#d55e00", "#e69f00", "#999999", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#f0e442")
"""Okabe & Ito's palette, which readers with any color vision can tell apart."""

WIDTH, MARGIN = 1_000, 60
WAVE_TOP, WAVE_HEIGHT = 40, 90
BANDS_TOP, BANDS_HEIGHT = 145, 160
SEGMENTS_TOP, SEGMENTS_HEIGHT = 320, 26
HEIGHT = 400
COLUMNS = 1_200
"""Longer recordings are drawn with this many points."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: #222;
       background: #fff }
svg { width: 100%; height: auto } text { font: 12px system-ui, sans-serif; fill: #444 }
table { border-collapse: collapse } th, td { text-align: left; padding: .2rem 1rem .2rem 0 }
td.number { text-align: right; font-variant-numeric: tabular-nums } .unsure { color: #767676 }
"""


def colors(labels: tuple[str, ...]) -> dict[str, str]:
    """A color for each class; with more classes than colors they repeat."""
    return {label: COLOURS[index % len(COLOURS)] for index, label in enumerate(labels)}


def to_html(timeline: Timeline) -> str:
    """One page that needs nothing else: the picture, a legend and the segments as a table."""
    title = html.escape(timeline.source)
    rows = "\n".join(_rows(timeline))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}: emotion over time</title><style>{STYLE}</style></head><body>
<h1>{title}</h1>
{to_svg(timeline)}
<table><thead><tr><th>start</th><th>end</th><th>label</th><th>confidence</th></tr></thead><tbody>
{rows}
</tbody></table></body></html>
"""


def to_svg(timeline: Timeline) -> str:
    """The picture alone."""
    parts = [*_waveform(timeline), *_bands(timeline), *_segments(timeline), *_axis(timeline), *_legend(timeline)]
    body = "\n".join(parts)
    label = html.escape(f"Waveform and emotion probabilities of {timeline.source}", quote=True)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
    return f"{head}\n{body}\n</svg>"


def to_png(timeline: Timeline) -> bytes:
    """The picture drawn by matplotlib (of the training extra)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    wave, bands = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    seconds, peaks = envelope(timeline)
    wave.fill_between(seconds, -peaks, peaks, color="#666666", linewidth=0)
    wave.set_ylabel("waveform")
    wave.set_yticks([])
    for run in runs(timeline):
        centers, stacked = _stacked(timeline, run)
        for index, (label, color) in enumerate(colors(timeline.labels).items()):
            bands.fill_between(centers, stacked[:, index], stacked[:, index + 1], color=color, label=label, linewidth=0)
    bands.set(xlim=(0, timeline.duration_seconds), ylim=(0, 1), xlabel="seconds", ylabel="probability")
    handles = dict(zip(*reversed(bands.get_legend_handles_labels()), strict=True))
    bands.legend(handles.values(), handles.keys(), loc="upper right", ncols=4)
    wave.set_title(timeline.source)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    return content.getvalue()


def envelope(timeline: Timeline) -> tuple[Floats, Floats]:
    """Times and peaks of the waveform, relative to the loudest, at most :data:`COLUMNS` of them."""
    peaks = timeline.envelope.astype(np.float64)
    step = -(-len(peaks) // COLUMNS) or 1
    padded = np.pad(peaks, (0, -len(peaks) % step))
    thinned = padded.reshape(-1, step).max(1)
    loudest = max(float(thinned.max(initial=0)), 1e-9)
    return np.arange(len(thinned), dtype=np.float64) * step * ENVELOPE_SECONDS, thinned / loudest


def runs(timeline: Timeline) -> list[NDArray[np.int64]]:
    """Indices of windows that follow each other without a gap, thinned for long recordings."""
    if not len(timeline.starts_seconds):
        return []
    assert timeline.config.hop_seconds is not None
    starts, ends = timeline.starts_seconds, timeline.window_ends_seconds
    apart = (np.diff(starts) > 1.5 * timeline.config.hop_seconds) | (starts[1:] > ends[:-1])
    gaps = np.flatnonzero(apart) + 1
    step = -(-len(timeline.starts_seconds) // COLUMNS)
    return [run[::step] for run in np.split(np.arange(len(timeline.starts_seconds)), gaps)]


def _stacked(timeline: Timeline, run: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Times of a run's windows and the borders of its bands, [windows, classes + 1]; a single window has a width."""
    centers = (timeline.starts_seconds + timeline.window_ends_seconds)[run] / 2
    borders = np.pad(np.cumsum(timeline.probabilities[run], axis=1, dtype=np.float64), ((0, 0), (1, 0)))
    edges = timeline.starts_seconds[run[:1]], timeline.window_ends_seconds[run[-1:]]
    times = np.concatenate([edges[0], centers, edges[1]])
    return times.clip(0, timeline.duration_seconds), borders[[0, *range(len(run)), -1]]


def _x(timeline: Timeline, seconds: Floats | float) -> Floats:
    return np.asarray(MARGIN + (WIDTH - 2 * MARGIN) * np.asarray(seconds) / max(timeline.duration_seconds, 1e-9))


def _polygon(x: Floats, upper: Floats, lower: Floats, color: str, title: str) -> str:
    """The area between two lines."""
    along = np.concatenate([x, x[::-1]])
    heights = np.concatenate([upper, lower[::-1]])
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(along.tolist(), heights.tolist(), strict=True))
    return f'<polygon points="{points}" fill="{color}"><title>{html.escape(title)}</title></polygon>'


def _waveform(timeline: Timeline) -> Iterator[str]:
    seconds, peaks = envelope(timeline)
    middle = WAVE_TOP + WAVE_HEIGHT / 2
    if len(peaks):
        half = peaks * WAVE_HEIGHT / 2
        yield _polygon(_x(timeline, seconds), middle - half, middle + half, "#666666", "waveform")


def _bands(timeline: Timeline) -> Iterator[str]:
    for run in runs(timeline):
        seconds, stacked = _stacked(timeline, run)
        x, y = _x(timeline, seconds), BANDS_TOP + BANDS_HEIGHT * (1 - stacked)
        for index, (label, color) in enumerate(colors(timeline.labels).items()):
            yield _polygon(x, y[:, index + 1], y[:, index], color, label)


def _segments(timeline: Timeline) -> Iterator[str]:
    palette = colors(timeline.labels)
    for segment in timeline.segments:
        left, right = _x(timeline, np.array([segment.start_seconds, segment.end_seconds])).tolist()
        opacity = 0.4 if segment.unsure else 1
        title = f"{segment.label} {segment.confidence:.2f}, {segment.start_seconds:.2f}-{segment.end_seconds:.2f} s"
        yield (
            f'<rect x="{left:.1f}" y="{SEGMENTS_TOP}" width="{right - left:.1f}" height="{SEGMENTS_HEIGHT}" '
            f'fill="{palette[segment.label]}" opacity="{opacity}"><title>{html.escape(title)}</title></rect>'
        )


def _axis(timeline: Timeline) -> Iterator[str]:
    step = _tick_seconds(timeline.duration_seconds)
    for seconds in np.arange(0, timeline.duration_seconds + 1e-9, step).tolist():
        x = float(_x(timeline, seconds))
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{WAVE_TOP}" y2="{SEGMENTS_TOP + SEGMENTS_HEIGHT}" stroke="#ddd"/>'
        y = SEGMENTS_TOP + SEGMENTS_HEIGHT + 18
        yield f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{_clock(seconds)}</text>'


def _legend(timeline: Timeline) -> Iterator[str]:
    for index, (label, color) in enumerate(colors(timeline.labels).items()):
        x = MARGIN + 120 * (index % 7)
        y = 8 + 18 * (index // 7)
        yield f'<rect x="{x}" y="{y}" width="12" height="12" fill="{color}"/>'
        yield f'<text x="{x + 18}" y="{y + 10}">{html.escape(label)}</text>'


def _rows(timeline: Timeline) -> Iterator[str]:
    for segment in timeline.segments:
        style, doubt = (' class="unsure"', ", unsure") if segment.unsure else ("", "")
        times = "".join(
            f'<td class="number">{_clock(seconds, 2)}</td>' for seconds in (segment.start_seconds, segment.end_seconds)
        )
        label, certainty = html.escape(segment.label), f"{100 * segment.confidence:.0f} %{doubt}"
        yield f'<tr{style}>{times}<td>{label}</td><td class="number">{certainty}</td></tr>'


def _tick_seconds(duration_seconds: float) -> float:
    """Distance of the axis's ticks: at most twelve of them.

    >>> _tick_seconds(2.5), _tick_seconds(10_800)
    (0.5, 900.0)
    """
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400)
    return float(next((step for step in steps if duration_seconds / step <= 12), duration_seconds / 12))


def _clock(seconds: float, digits: int = 1) -> str:
    """Seconds as people read them.

    >>> _clock(2.5), _clock(61), _clock(3_725)
    ('2.5', '1:01', '1:02:05')
    """
    if seconds < 60:
        return f"{seconds:.{digits}f}".removesuffix(".0")
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
