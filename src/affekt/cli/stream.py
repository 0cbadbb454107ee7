"""`affekt stream`: live emotions of a microphone or of raw samples on standard input."""

from __future__ import annotations

import json
import queue
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from affekt.audio.raw import RawGuard
from affekt.errors import ConfigError
from affekt.recognition.prediction import NO_SPEECH, SILENCE, Prediction
from affekt.recognition.recognizer import Recognizer

Floats = NDArray[np.float32]

CHUNK_SECONDS = 0.02
"""Longest piece of samples that is handed on, so that the end of a hop is noticed at once."""


def stream(
    source: str | None = None,
    *,
    model: Path | None = None,
    rate: int = 16_000,
    channels: int = 1,
    hop_seconds: float = 1.0,
    window_seconds: float = 3.0,
    activity: Literal["energy", "silero", "none"] = "energy",
    min_confidence: float | None = None,
    adapt: Literal["speaker"] | None = None,
    baseline: tuple[Path, ...] = (),
    format: Literal["lines", "jsonl"] = "lines",
) -> int:
    """Recognize emotion live, one line per hop, from the microphone or from raw samples on standard input.

    Each line describes the last `--window-seconds`. It appears at most a hop and 0.1 s after the speech it describes;
    the measured delay, from the arrival of a hop's last sample to its line, is printed at the end.

        arecord -q -f S16_LE -r 16000 -t raw | affekt stream -
        ffmpeg -loglevel error -i call.m4a -f s16le -ac 1 -ar 16000 - | affekt stream -

    Args:
        source: `-` for standard input: 16-bit signed little-endian samples without a header. Nothing: the microphone.
        model: a file written by `affekt export`; by default the model that comes with affekt.
        rate: sample rate of the input in Hz.
        channels: number of interleaved channels of the input; they are averaged.
        hop_seconds: step between lines.
        window_seconds: length of the audio that a line describes, at most the model's clip.
        activity: speech detector.
        min_confidence: mark predictions below this as unsure; by default the model's own threshold.
        adapt: adapt to the speaker while listening: one person speaks.
        baseline: a recording in which the speaker is calm, to adapt to this voice; may be given several times.
        format: `lines` for people or `jsonl` for programs.
    """
    if source not in (None, "-"):
        remedy = f"`affekt predict {source} --timeline` reads files"
        raise ConfigError("source", got=repr(source), expected="- for standard input, or nothing", remedy=remedy)
    if channels < 1:
        raise ConfigError("channels", got=str(channels), expected="at least 1")
    if adapt and baseline:
        raise ConfigError("baseline", got="--adapt with it", expected="one of the two")
    recognizer = Recognizer.load(model)
    if baseline:
        recognizer = recognizer.adapted(baseline=baseline)
    live = recognizer.stream(rate, hop_seconds, window_seconds, activity, min_confidence, adapt=adapt is not None)
    chunks = _pcm(sys.stdin.buffer, rate, channels) if source == "-" else _microphone(rate, channels)
    delays_seconds = []
    for chunk in chunks:
        arrived = time.perf_counter()
        for prediction in live.feed(chunk):
            print(_json(prediction) if format == "jsonl" else _line(prediction), flush=True)
            delays_seconds.append(time.perf_counter() - arrived)
    print(_measured(delays_seconds, hop_seconds), file=sys.stderr)
    return 0


def _pcm(file: BinaryIO, rate: int, channels: int) -> Iterator[Floats]:
    """Mono samples in [-1, 1) as they arrive; the bytes of an incomplete sample wait for the rest.

    Raises:
        AudioError: the stream is a media file instead of raw samples.
    """
    frame_bytes = 2 * channels
    most = max(1, round(CHUNK_SECONDS * rate)) * frame_bytes
    guard, rest, ended = RawGuard(), b"", False
    while not ended:
        data = file.read1(most)  # type: ignore[attr-defined]  # a BufferedReader: what is there, without waiting
        ended = not data
        rest += guard.rest() if ended else guard.feed(data)
        whole = len(rest) - len(rest) % frame_bytes
        frames = np.frombuffer(rest[:whole], "<i2").reshape(-1, channels)
        rest = rest[whole:]
        if len(frames):
            yield frames.mean(axis=1, dtype=np.float32) / 32_768


def _microphone(rate: int, channels: int) -> Iterator[Floats]:
    """Mono samples of the default input device, until Ctrl-C."""
    import sounddevice

    heard: queue.Queue[Floats] = queue.Queue()

    def hear(data: Floats, frames: int, when: object, status: object) -> None:
        heard.put(data.mean(axis=1, dtype=np.float32))

    size = round(CHUNK_SECONDS * rate)
    try:
        device = sounddevice.InputStream(rate, size, channels=channels, dtype="float32", callback=hear)
    except sounddevice.PortAudioError as error:
        raise ConfigError(
            "microphone", got=str(error), expected="an input device", remedy="pipe samples in: -"
        ) from error
    with device:
        while True:
            yield heard.get()


def _line(prediction: Prediction) -> str:
    """One line for people.

    >>> print(_line(Prediction("sad", 0.75, {"happy": 0.25, "sad": 0.75}, False, "stream", 1.0, 4.0)))
        4.00 s  sad         75%          happy 0.25  sad 0.75
    """
    probabilities = "  ".join(f"{label} {value:.2f}" for label, value in prediction.probabilities.items())
    start = f"{prediction.end_seconds:8.2f} s  {prediction.label:<12}"
    if prediction.label == NO_SPEECH:
        return start.rstrip() + f" ({SILENCE})" * prediction.silent
    return f"{start}{prediction.confidence:<5.0%}{'unsure' if prediction.unsure else '':<8}{probabilities}"


def _json(prediction: Prediction) -> str:
    return json.dumps(prediction.to_dict())


def _measured(delays_seconds: list[float], hop_seconds: float) -> str:
    if not delays_seconds:
        return f"affekt: note: the input ended before its first hop of {hop_seconds:g} s"
    median, most = np.percentile(delays_seconds, [50, 100]) * 1_000
    return f"affekt: note: from the last sample of a hop to its line: median {median:.1f} ms, at most {most:.1f} ms"
