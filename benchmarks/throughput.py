"""`affekt predict FOLDER` on a real corpus, a breakdown of its time, and the CPU utilization of preparing a corpus."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from affekt import audio
from affekt.recognition.recognizer import Recognizer
from affekt.runtime.processes import WorkerProcesses
from benchmarks.rows import Figure, Row, Target
from benchmarks.setting import NO_CORPUS, Setting, corpus, recordings

REPEATS = 3
SAMPLED = 500
"""Recordings that the shares are measured on."""
CHUNK = 16
"""Recordings that a process decodes at a time."""


def rows(setting: Setting) -> list[Row]:
    """Rows for all of nEMO."""
    folder = corpus("nemo")
    if folder is None:
        works = ("affekt predict FOLDER, nemo", "preparing nemo: cores kept busy")
        return [Row(work, note=NO_CORPUS.format("nemo")) for work in works]
    paths = recordings(folder)
    return [predict_row(folder, paths, setting), *preparation_rows(folder, setting)]


def predict_row(folder: Path, paths: Sequence[Path], setting: Setting) -> Row:
    """Speed as a multiple of real time, including start-up; the limit is decoding alone on all cores."""
    python = setting.core or Path(sys.executable)
    command = [str(python.absolute()), "-m", "affekt", "predict", str(folder), "--format", "jsonl"]
    speeds, alone, heard_seconds = [], [], 0.0
    for _ in range(REPEATS):
        start = perf_counter()
        answers = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        heard_seconds = sum(json.loads(line)["end_seconds"] for line in answers)
        speeds.append(heard_seconds / (perf_counter() - start))
        alone.append(heard_seconds / decoding_seconds(paths[::4], setting.cores) / 4)
    note = f"{len(answers):,} recordings, {heard_seconds / 3_600:.2f} h; {shares(paths)}"
    limit = {"limit": f"decoding alone, {setting.cores} processes", "limit_value": float(np.median(alone))}
    target = Target("ours", at_least=1_200)
    return Row(
        "affekt predict FOLDER, nemo (Opus)", Figure.of(speeds, "x real time"), target=target, note=note, **limit
    )


def decoding_seconds(paths: Sequence[Path], processes: int) -> float:
    """Seconds of decoding in processes that are already running."""
    work = "lambda paths: sum(len(load(path)) for path in paths)"
    with WorkerProcesses(eval, processes, work, {"load": audio.load}) as decoders:
        list(decoders.map([list(paths[:1])] * 4 * processes))
        groups = [list(paths[start : start + CHUNK]) for start in range(0, len(paths), CHUNK)]
        start = perf_counter()
        list(decoders.map(groups))
        return perf_counter() - start


def shares(paths: Sequence[Path]) -> str:
    """Milliseconds per recording on one thread: decoding, and the model with its features."""
    chosen = [paths[index] for index in np.random.default_rng(0).choice(len(paths), min(SAMPLED, len(paths)), False)]
    recognizer = Recognizer.load(threads=1)
    start = perf_counter()
    waveforms = [recognizer.waveform(path) for path in chosen]
    decoding = perf_counter() - start
    start = perf_counter()
    for waveform in waveforms:
        recognizer.probabilities([waveform])
    model = perf_counter() - start
    parts = {"decoding": decoding, "model": model}
    total = sum(parts.values())
    named = [f"{name} {1_000 * one / len(chosen):.2f} ms ({one / total:.0%})" for name, one in parts.items()]
    return f"a recording on one thread: {', '.join(named)}"


STORE = """
import sys
from affekt.data.manifest import Manifest
from affekt.data.waveform_store import WaveformStore
WaveformStore.open(Manifest.read(sys.argv[1]), sys.argv[2])
"""


def preparation_rows(folder: Path, setting: Setting) -> list[Row]:
    """CPU utilization of checking a release and of decoding it into the cache."""
    target, limit = Target("ours", at_least=95), {"limit": f"{setting.cores} cores", "limit_value": 100.0}
    with tempfile.TemporaryDirectory() as scratch:
        manifest = str(Path(scratch) / "nemo.csv")
        prepare = [sys.executable, "-m", "affekt", "prepare", "nemo", str(folder), "-o", manifest]
        works = {"affekt prepare": prepare, "decoding into the cache": [sys.executable, "-c", STORE, manifest, scratch]}
        found = []
        for work, command in works.items():
            wall, busy = busy_seconds(command)
            note = f"{wall:.1f} s, {busy:.1f} s of CPU, the start of the program included"
            share = Figure.of(100 * busy / wall / setting.cores, "%")
            found.append(Row(f"{work}, nemo: cores kept busy", share, target=target, note=note, **limit))
    return found


def busy_seconds(command: Sequence[str]) -> tuple[float, float]:
    """Wall seconds and CPU seconds of a command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall, after = perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
