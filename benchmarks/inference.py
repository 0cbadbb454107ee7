"""How fast recognition is, beside what it replaces: one clip, cold start, folders, long recordings, streams.

    python benchmarks/inference.py [--checkpoint M.safetensors] [--folder RECORDINGS] [-o results/benchmarks]

Times are the best of several runs that take turns, so that a busy machine slows all of them down alike; ratios are
what to read. Without a checkpoint the paper's network runs with random weights, which take as long as trained ones.
The peer is what users would do otherwise: torch.onnx's export of the same network in float32, on features that are
already computed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import soundfile
import torch

from affekt import __version__
from affekt.atomic import write_bytes
from affekt.checkpoint import Checkpoint
from affekt.export import Description, Pipeline, export, noise
from affekt.features import FeatureConfig, Normalizer
from affekt.inference import Recognizer
from affekt.nn import Network, NetworkConfig

RATE_HZ = 16_000
CLIP_SECONDS = 7.5
RUNS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="a trained model; by default random weights")
    parser.add_argument("--folder", type=Path, help="recordings to measure the throughput on")
    parser.add_argument("--hours", type=float, default=3.0, help="length of the recording for the timeline")
    parser.add_argument("-o", "--out", type=Path, help="write inference.json here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options, Path(folder))
    print_table(rows)
    if options.out:
        machine = {"cpu": cpu_name(), "cores": os.cpu_count(), "python": platform.python_version()}
        versions = {"affekt": __version__, "onnxruntime": onnxruntime.__version__, "torch": torch.__version__}
        content = json.dumps({"machine": machine, "versions": versions, "rows": rows}, indent=1)
        write_bytes(options.out / "inference.json", content.encode())


def measure(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    pipeline = Pipeline.from_checkpoint(Checkpoint.load(options.checkpoint)) if options.checkpoint else untrained()
    models = {name: folder / f"{name}.onnx" for name in ("float32", "int8")}
    for name, path in models.items():
        export(pipeline, Description(("angry", "happy", "neutral", "sad")), path, name, noise(pipeline.features, 8))
    peer, rows = plain_export(pipeline), []
    for threads in sorted({1, os.cpu_count() or 1}):
        rows += clip_rows(peer, models, threads)
    rows += [cold_start_row(models["int8"], folder), help_row(), stream_row(models["int8"])]
    rows.append(timeline_row(models["int8"], folder, options.hours))
    if options.folder:
        rows.append(folder_row(models["int8"], options.folder))
    return rows


def untrained() -> Pipeline:
    torch.manual_seed(0)
    network = Network(NetworkConfig(), mels=40, classes=4)
    return Pipeline(network, FeatureConfig(), Normalizer((-6.0,) * 40, (3.0,) * 40))


def clip_rows(plain: tuple[bytes, Any], models: Mapping[str, Path], threads: int) -> list[dict[str, Any]]:
    """One full clip, from waveform to probabilities; the peer starts from features."""
    waveform = np.random.default_rng(0).normal(scale=0.1, size=round(CLIP_SECONDS * RATE_HZ)).astype(np.float32)
    recognizers = {name: Recognizer.load(path, threads=threads) for name, path in models.items()}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    peer, features = onnxruntime.InferenceSession(plain[0], options), plain[1]
    seconds = best_in_turns(
        {
            "peer": lambda: peer.run(None, {"features": features}),
            **{name: (lambda r=r: r.probabilities([waveform])) for name, r in recognizers.items()},
        }
    )
    work = f"one {CLIP_SECONDS:g} s clip, {threads} thread{'s' * (threads > 1)}"
    return [
        row(
            f"{work}, {name}", 1_000 * seconds[name], "ms", "onnxruntime float32, no front end", 1_000 * seconds["peer"]
        )
        for name in models
    ]


def plain_export(pipeline: Pipeline) -> tuple[bytes, Any]:
    """The network as torch.onnx writes it, and features of one clip."""
    waveform = torch.from_numpy(noise(pipeline.features, 1)[0][None])
    features = pipeline.prepare(waveform, torch.tensor([waveform.shape[1]]))[0]
    features = torch.nn.functional.pad(features, (0, 0, 0, pipeline.features.clip_frames - features.shape[1]))
    scores = torch.nn.Module()
    scores.forward = lambda features: pipeline.network(features).scores  # type: ignore[method-assign]
    scores.network = pipeline.network
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plain.onnx"
        ports = {"input_names": ["features"], "output_names": ["scores"]}
        torch.onnx.export(scores.eval(), (features,), path, **ports, dynamo=True, external_data=False, verbose=False)
        return path.read_bytes(), features.numpy()


def best_in_turns(calls: Mapping[str, Callable[[], object]], runs: int = RUNS) -> dict[str, float]:
    """Seconds of the best run of each, the runs taking turns."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(runs):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def cold_start_row(model: Path, folder: Path) -> dict[str, Any]:
    """`affekt predict one.wav` in a fresh process: seconds and memory."""
    recording = folder / "one.wav"
    soundfile.write(recording, np.random.default_rng(0).normal(scale=0.1, size=3 * RATE_HZ), RATE_HZ)
    words = ["predict", str(recording), "--model", str(model)]
    seconds, megabytes = min(fresh_process(words) for _ in range(5))
    return row("cold start of `affekt predict one.wav`", seconds, "s", f"target; {megabytes:.0f} MB of 250", 0.8)


def help_row() -> dict[str, Any]:
    seconds, _ = min(fresh_process(["--help"]) for _ in range(5))
    return row("`affekt --help`", seconds, "s", "target", 0.3)


PROGRAM = """
import sys
from affekt.cli import main
code = main(sys.argv[1:])
with open("/proc/self/status") as status:  # not getrusage: its peak includes the process that started this one
    peak = next(line for line in status if line.startswith("VmHWM"))
print(peak.split()[1], file=sys.stderr)
sys.exit(code)
"""


def fresh_process(words: Sequence[str]) -> tuple[float, float]:
    """Seconds and peak megabytes of the command line in a process of its own."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=True)
    return time.perf_counter() - start, int(done.stderr.split()[-1]) / 1024


def stream_row(model: Path) -> dict[str, Any]:
    """From the last sample of a hop to its answer, samples coming in pieces of 20 ms; the worst of 30 hops."""
    live = Recognizer.load(model).stream(activity="none")
    pieces = np.split(np.random.default_rng(0).normal(scale=0.1, size=30 * RATE_HZ).astype(np.float32), 30 * 50)
    delays = []
    for piece in pieces:
        start = time.perf_counter()
        if live.feed(piece):
            delays.append(time.perf_counter() - start)
    return row("stream: last sample of a hop to its line", 1_000 * max(delays), "ms", "target", 100.0)


def timeline_row(model: Path, folder: Path, hours: float) -> dict[str, Any]:
    """A generated recording in a process of its own: times real time and peak memory."""
    recording = folder / "long.wav"
    rng = np.random.default_rng(0)
    beat = (np.arange(60 * RATE_HZ) % (RATE_HZ // 4) < RATE_HZ // 5) * 0.1
    with soundfile.SoundFile(recording, "w", RATE_HZ, 1) as file:
        for _ in range(round(60 * hours)):
            file.write(rng.normal(size=60 * RATE_HZ) * beat)
    seconds, megabytes = fresh_process(["predict", str(recording), "--timeline", "--model", str(model)])
    speed = hours * 3_600 / seconds
    return row(f"timeline of {hours:g} h", speed, "x real time", f"target; {megabytes:.0f} MB of 400", 200.0)


def folder_row(model: Path, folder: Path) -> dict[str, Any]:
    """Every recording in a folder: decoding, features, network. The peer is decoding alone, on as many threads."""
    from concurrent.futures import ThreadPoolExecutor

    from affekt import audio
    from affekt.cli.predict import SUFFIXES
    from affekt.prediction import Prediction

    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    recognizer = Recognizer.load(model)
    start = time.perf_counter()
    answers = [answer for answer in recognizer.predict_many(paths) if isinstance(answer, Prediction)]
    ours = time.perf_counter() - start
    start = time.perf_counter()
    with ThreadPoolExecutor(recognizer.threads) as pool:
        heard = sum(len(samples) for samples in pool.map(audio.load, paths)) / RATE_HZ
    alone = time.perf_counter() - start
    name = f"folder of {len(answers):,} recordings, {heard / 3_600:.2f} h"
    return row(name, heard / ours, "x real time", "decoding alone", heard / alone)


def row(work: str, ours: float, unit: str, peer: str, theirs: float) -> dict[str, Any]:
    return {"work": work, "ours": ours, "unit": unit, "peer": peer, "theirs": theirs, "ratio": ours / theirs}


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    width = max(len(line["work"]) for line in rows)
    print(f"{'work':<{width}}  {'ours':>10}  {'beside':>10}  {'ratio':>6}  what is beside")
    for line in rows:
        print(
            f"{line['work']:<{width}}  {line['ours']:>10.4g}  {line['theirs']:>10.4g}  {line['ratio']:>6.2f}  "
            f"{line['peer']} ({line['unit']})"
        )


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
