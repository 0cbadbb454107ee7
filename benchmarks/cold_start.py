"""`affekt predict one.wav` and `affekt --help` in a fresh process of the core install, beside onnxruntime alone."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import soundfile

from affekt.recognition.models import BUNDLED
from benchmarks.rows import Figure, Row, Target, seconds_in_turns
from benchmarks.setting import RATE_HZ, Setting, fresh_process, noise

TURNS = 9
BARE = """
import sys, numpy, onnxruntime, soundfile
samples, _ = soundfile.read(sys.argv[1], dtype="float32")
session = onnxruntime.InferenceSession(sys.argv[2])
print(session.run(["probabilities"], {"waveform": samples[None], "samples": numpy.array([len(samples)])}))
"""


def rows(setting: Setting) -> list[Row]:
    """Seconds and memory; no rows without an environment of the core install."""
    works = ("cold start: affekt predict one.wav", "memory of affekt predict one.wav", "cold start: affekt --help")
    if setting.core is None:
        return [Row(work, note="not measured: no environment with the core install, --core") for work in works]
    python = setting.core.absolute()  # not resolved: the link is what makes it an environment
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "one.wav"
        soundfile.write(recording, noise(3.0), RATE_HZ)
        program = str(python.with_name("affekt"))
        calls: dict[str, Callable[[], object]] = {
            "predict": command(program, "predict", str(recording)),
            "help": command(program, "--help"),
            "bare": command(str(python), "-c", BARE, str(recording), str(BUNDLED)),
            "python": command(str(python), "-c", "pass"),
        }
        seconds = seconds_in_turns(calls, TURNS, 2)
        megabytes = [fresh_process(["predict", str(recording)], python)[1] for _ in range(3)]
    bare, empty = (float(Figure.of(seconds[name]).median) for name in ("bare", "python"))
    limit = {"limit": "bare onnxruntime, same file", "limit_value": bare}
    note = "fresh processes, files in the page cache, no torch installed"
    return [
        Row(works[0], Figure.of(seconds["predict"], "s"), target=Target("ours", at_most=0.8), note=note, **limit),
        Row(works[1], Figure.of(megabytes, "MB"), target=Target("ours", at_most=250)),
        Row(
            works[2],
            Figure.of(seconds["help"], "s"),
            target=Target("ours", at_most=0.3),
            limit="Python that does nothing",
            limit_value=empty,
        ),
    ]


def command(*words: str) -> Callable[[], object]:
    return partial(subprocess.run, words, capture_output=True, check=True)
