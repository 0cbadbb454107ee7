"""Time and memory by size: manifests, recordings, corpora larger than memory, and workers.

Every size runs in its own process, so that its memory is measured alone: `python -m benchmarks.growth WORK SIZE ...`.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks.rows import Figure, Row, Target
from benchmarks.setting import NO_CORPUS, RATE_HZ, Setting, corpus, fresh_process, noise, recordings

UTTERANCES = (1_000, 10_000, 100_000, 1_000_000)
MINUTES = (1, 10, 60, 600)
CORPUS_GIB = (1, 2, 4)
MEMORY_GIB = 1
"""What a process may allocate while it reads a corpus of up to 4 GiB."""
FLAT = 1.25
"""A memory that grows by no more than this, over sizes from the first to the last, is flat."""

Points = Sequence[tuple[float, float, float]]


def manifests(setting: Setting) -> list[Row]:
    """Read a manifest and make audited folds."""
    with tempfile.TemporaryDirectory() as folder:
        found = {size: in_own_process("manifest", str(size), folder) for size in UTTERANCES}
    works = {"reading": "reading a manifest", "random": "random folds, audited", "speaker": "speaker folds, audited"}
    sizes = ", ".join(f"{size:,}" for size in UTTERANCES)
    return [
        grown(name, [(size, facts[key], facts["megabytes"]) for size, facts in found.items()], f"{sizes} rows")
        for key, name in works.items()
    ]


def recordings_row(setting: Setting) -> list[Row]:
    """`affekt predict LONG.wav --timeline` of generated audio."""
    points = []
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "long.wav"
        for minutes in MINUTES:
            write_recording(recording, minutes)
            points.append((float(minutes), *fresh_process(["predict", str(recording), "--timeline"])))
    megabytes = [point[2] for point in points]
    growth = Figure.of(max(megabytes) / megabytes[0], "times the memory of the shortest")
    speed = 60 * MINUTES[-1] / points[-1][1]
    note = f"{points[-1][1]:.0f} s and {megabytes[-1]:.0f} MB for {MINUTES[-1] // 60} h, {speed:,.0f} x real time"
    work = f"timeline of {MINUTES[0]} to {MINUTES[-1]} minutes"
    return [Row(work, growth, target=Target("ours", at_most=FLAT), note=note, points=tuple(points))]


def corpora(setting: Setting) -> list[Row]:
    """Read a cache of waveforms that is larger than the memory limit, in the order of training."""
    points = []
    with tempfile.TemporaryDirectory() as folder:
        for gib in CORPUS_GIB:
            facts = in_own_process("corpus", str(gib), folder)
            points.append((float(gib), facts["seconds"], facts["megabytes"]))
    growth = Figure.of(points[-1][2] / points[0][2], "times the memory of the smallest")
    note = (
        f"memory-mapped waveforms of {CORPUS_GIB[0]} to {CORPUS_GIB[-1]} GiB, every one read, in random order, and at "
        f"most {MEMORY_GIB} GiB allocated; training holds the features in memory, 58 MB an hour of audio"
    )
    work = f"reading a corpus of {CORPUS_GIB[0]} to {CORPUS_GIB[-1]} GiB"
    return [Row(work, growth, target=Target("ours", at_most=FLAT), note=note, points=tuple(points))]


def workers(setting: Setting) -> list[Row]:
    """One and two threads over the same recordings, and one and two processes over the same trainings."""
    folder = corpus("nemo")
    if folder is None:
        return [Row("2 workers beside 1", note=NO_CORPUS.format("nemo"))]
    paths = recordings(folder)[::8]
    found = []
    for work in ("predicting", "decoding"):
        seconds = [in_own_process(work, str(jobs), *map(str, paths))["seconds"] for jobs in (1, 2) for _ in range(2)]
        one, two = min(seconds[:2]), min(seconds[2:])
        found.append(speed_up(f"{work} {len(paths)} recordings", one, two))
    training = [in_own_process("training", str(jobs))["seconds"] for jobs in (1, 2)]
    return [*found, speed_up("an experiment of 2 short trainings", *training)]


def speed_up(work: str, one: float, two: float) -> Row:
    ratio = Figure.of(one / two)
    return Row(f"{work}, 2 workers", Figure.of(two, "s"), "1 worker", Figure.of(one, "s"), ratio, "2 workers", one / 2)


def grown(work: str, points: Points, note: str) -> Row:
    """A row with the exponent of the growth between the two largest sizes; 1 is linear."""
    (smaller, before, _), (larger, after, _) = sorted(points)[-2:]
    exponent = float(np.log(after / before) / np.log(larger / smaller))
    times = ", ".join(f"{seconds:.3g}" for _, seconds, _ in points)
    note = f"{note}: {times} s; at most {max(point[2] for point in points):,.0f} MB"
    return Row(
        f"{work}: exponent of its growth",
        Figure.of(exponent),
        target=Target("ours", at_most=1.2),
        note=note,
        points=tuple(points),
    )


def write_recording(path: Path, minutes: int) -> None:
    """Write bursts of noise, four per second, which the detector takes for speech."""
    import soundfile

    minute = noise(60.0) * (np.arange(60 * RATE_HZ) % (RATE_HZ // 4) < RATE_HZ // 5)
    with soundfile.SoundFile(path, "w", RATE_HZ, 1, "PCM_16") as file:
        for _ in range(minutes):
            file.write(minute)


# What runs in the processes


def in_own_process(work: str, *arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.growth", work, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{work} {' '.join(arguments[:1])}: {done.stderr[-2_000:]}")
    facts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return facts


def one_manifest(size: str, folder: str) -> dict[str, float]:
    """Seconds to read a manifest of this size, and to make random and speaker folds."""
    from affekt.data.manifest import Manifest
    from affekt.data.protocols import make_folds

    path = Path(folder) / f"{size}.csv"
    write_manifest(path, int(size))
    found: dict[str, float] = {}
    manifest = timed(found, "reading", lambda: Manifest.read(path))
    for protocol in ("random", "speaker"):
        timed(found, protocol, lambda protocol=protocol: make_folds(manifest, protocol))
    return found


def write_manifest(path: Path, size: int) -> None:
    """Utterances of 10 or, where there are many, size / 1000 speakers, in four classes."""
    speakers = max(10, size // 1_000)
    labels = ("angry", "happy", "neutral", "sad")
    file = io.StringIO()
    print("id,path,label,speaker,text_id,corpus", file=file)
    for row in range(size):
        print(f"u{row},a/{row}.wav,{labels[row % 4]},s{row % speakers},t{row % 97},made", file=file)
    path.write_text(file.getvalue())


def one_corpus(gib: str, folder: str) -> dict[str, float]:
    """Seconds to read every waveform of a cache in random order, with a memory limit."""
    import resource

    from affekt.data.waveform_store import WaveformStore

    count, samples = int(gib) * 1_024, (1 << 20) // 4  # a MiB each, 16 s
    path = Path(folder) / "waveforms.f32"
    with path.open("wb") as file:
        piece = noise(samples / RATE_HZ).tobytes()
        for _ in range(count):
            file.write(piece)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_GIB << 30, MEMORY_GIB << 30))
    waveforms = np.memmap(path, np.dtype("<f4"), "r")
    lengths = np.full(count, samples)
    store = WaveformStore(waveforms, np.cumsum(lengths) - lengths, lengths, ("",) * count, (None,) * count, RATE_HZ)
    order = np.random.default_rng(0).permutation(count)
    found: dict[str, float] = {}
    timed(found, "seconds", lambda: [float(np.square(store[int(row)]).sum()) for row in order])
    return found | {"megabytes": peak_megabytes()}  # while the file is still mapped


def some_predictions(jobs: str, *paths: str) -> dict[str, float]:
    from affekt.recognition.recognizer import Recognizer

    recognizer = Recognizer.load(threads=int(jobs))
    found: dict[str, float] = {}
    timed(found, "seconds", lambda: list(recognizer.predict_many(paths)))
    return found


def some_decoding(jobs: str, *paths: str) -> dict[str, float]:
    from affekt.data.manifest import Manifest
    from affekt.data.waveform_store import WaveformStore

    rows = [{"id": path, "path": path.lstrip("/"), "label": "neutral"} for path in paths]
    manifest = Manifest.from_rows(rows, "/")
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        timed(found, "seconds", lambda: WaveformStore.open(manifest, folder, jobs=int(jobs)))
    return found


def some_trainings(jobs: str) -> dict[str, float]:
    """Train twice for two epochs on the synthetic corpus, with one thread each."""
    from affekt import LABEL_SETS, prepare, resolve, run_experiment
    from affekt.data.corpora import synthetic
    from affekt.training.recipes import Recipe
    from affekt.training.train_config import TrainConfig

    recipe = Recipe("short", TrainConfig(max_epochs=2, batch_size=16, bucketed=True), masked=True)
    labels = LABEL_SETS["basic4"]
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        synthetic.write(folder / "corpus", speakers=6, sentences=4)
        manifest, _ = prepare("synthetic", folder / "corpus", labels, check_audio=False)
        options = {"folds": 2, "recipe": recipe, "labels": labels, "device": "cpu", "cache": folder / "cache"}
        run = folder / "run"
        timed(found, "seconds", lambda: run_experiment(manifest, resolve("compact"), run, workers=int(jobs), **options))
    return found


def timed(found: dict[str, float], name: str, work: Callable[[], object]) -> object:
    start = perf_counter()
    result = work()
    found[name] = perf_counter() - start
    return result


def peak_megabytes() -> float:
    """Peak anonymous memory of this process on Linux; elsewhere its peak memory."""
    status = Path("/proc/self/status").read_text().splitlines()
    facts = {line.split(":")[0]: line.split()[1] for line in status if line.endswith(" kB")}
    return (int(facts["VmHWM"]) - int(facts["RssFile"])) * 1_024 / 1e6


WORKS: dict[str, Callable[..., dict[str, float]]] = {
    "manifest": one_manifest,
    "corpus": one_corpus,
    "predicting": some_predictions,
    "decoding": some_decoding,
    "training": some_trainings,
}

if __name__ == "__main__":
    facts = WORKS[sys.argv[1]](*sys.argv[2:])
    print(json.dumps({"megabytes": peak_megabytes()} | facts))
