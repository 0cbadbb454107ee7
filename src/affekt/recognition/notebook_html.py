"""Predictions and timelines in notebooks: HTML with a picture, and with sound where the recording is a file.

The HTML needs no script and no network. Nothing heavy is imported; the cells stay readable in light and dark themes,
since each has a white background of its own.
"""

from __future__ import annotations

import base64
import html
import io
import mimetypes
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from affekt.errors import AffektError
from affekt.recognition.formats.picture import colors, to_svg
from affekt.recognition.prediction import NO_SPEECH, SILENCE, Prediction
from affekt.recognition.timeline import Timeline

PLAYABLE = (".wav", ".mp3", ".ogg", ".oga", ".opus", ".flac", ".m4a", ".webm")
"""Suffixes of files that browsers play as they are."""

MOST_BYTES = 4 * 2**20
"""Larger files are not embedded as they are: a notebook keeps its output, a third larger as base64."""

MOST_SECONDS = 300.0
"""Longer recordings are not embedded at all."""

RATE_HZ = 16_000
CELL = "font: 14px/1.5 system-ui, sans-serif; color: #222; background: #fff; padding: .75rem; max-width: 60rem"


def prediction_html(prediction: Prediction) -> str:
    """A prediction as HTML: the answer, its reason where it is unsure, and a bar for each class."""
    return f'<div style="{CELL}">{_headline(prediction)}{_bars(prediction.probabilities)}</div>'


def timeline_html(timeline: Timeline) -> str:
    """A timeline as HTML: the overall answer, the recording to play, waveform, probability bands and segments.

    The sound is embedded where `timeline.source` is a file that is still there and not longer than five minutes.
    """
    parts = [_headline(timeline.overall), to_svg(timeline), _player(timeline)]
    return f'<div style="{CELL}">{"".join(parts)}</div>'


def _headline(prediction: Prediction) -> str:
    source = html.escape(Path(prediction.source).name)
    times = f"{prediction.start_seconds:.1f}–{prediction.end_seconds:.1f} s"
    if prediction.label == NO_SPEECH:
        answer = f"{NO_SPEECH} ({SILENCE})" if prediction.silent else NO_SPEECH
    else:
        answer = f"{html.escape(prediction.label)} {100 * prediction.confidence:.0f} %"
    doubt = f" <span>unsure: {html.escape(prediction.reason or '')}</span>" if prediction.unsure else ""
    doubt = "" if prediction.label == NO_SPEECH else doubt
    return f'<p style="margin: 0 0 .5rem"><b>{answer}</b>{doubt} <span style="color: #666">{source}, {times}</span></p>'


def _bars(probabilities: Mapping[str, float]) -> str:
    rows = []
    for label, color in colors(tuple(probabilities)).items():
        value = probabilities[label]
        bar = f'<div style="width: {100 * value:.1f}%; height: .7rem; background: {color}"></div>'
        cells = (
            f'<td style="text-align: left; padding: 0 1rem 0 0">{html.escape(label)}</td>',
            f'<td style="width: 12rem; background: #eee; padding: 0">{bar}</td>',
            f'<td style="text-align: right; padding: 0 0 0 1rem">{value:.2f}</td>',
        )
        rows.append(f'<tr style="background: #fff">{"".join(cells)}</tr>')
    return f'<table style="border-collapse: collapse; margin: 0; color: #222">{"".join(rows)}</table>'


def _player(timeline: Timeline) -> str:
    """An audio element with the recording, or the reason why there is none."""
    try:
        sound = _sound(Path(timeline.source), timeline.duration_seconds)
    except (AffektError, OSError, ValueError):
        sound = None
    if sound is None:
        reason = f"a file of at most {MOST_SECONDS / 60:g} minutes can be played here"
        return f'<p style="margin: .5rem 0 0; color: #666">No player: {reason}.</p>'
    kind, content = sound
    data = base64.b64encode(content).decode("ascii")
    return f'<audio controls style="width: 100%" src="data:{kind};base64,{data}"></audio>'


def _sound(path: Path, seconds: float) -> tuple[str, bytes] | None:
    """Media type and bytes for a player: the file itself, or decoded to 16 kHz mono WAV; None where there is none."""
    if seconds > MOST_SECONDS or not path.is_file():
        return None
    if path.suffix.lower() in PLAYABLE and path.stat().st_size <= MOST_BYTES:
        return mimetypes.guess_type(path.name)[0] or "audio/wav", path.read_bytes()
    import soundfile

    from affekt import audio

    samples = audio.load(path, RATE_HZ)
    file = io.BytesIO()
    soundfile.write(file, np.asarray(samples), RATE_HZ, format="WAV", subtype="PCM_16")
    return "audio/wav", file.getvalue()
