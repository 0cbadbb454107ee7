"""Fault injection: an experiment is killed, its disk filled, its files removed and changed. No result may be lost.

    python scripts/faults.py [--kills 25] [--damages 60] [--full 6] [--pairs 2] [--seed 0] [-o results/reliability]

A small experiment on synthetic voices runs once without faults. Then copies of it, each in its own folder, get a fault
and are restarted with the same command. Either `summary.json` is then equal to the original, bit for bit
("recovered"), or the command refuses and names the damaged file ("refused"). Everything else is a loss, with exit code
1.

The command is `affekt experiment` in a forked process, so that libraries are imported once and not two hundred times.
Times of kills, files and bits are drawn from the seed.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import multiprocessing
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from affekt import cli
from affekt.cli import experiment as _imported  # noqa: F401  # before the forks, with all that it needs
from affekt.data.corpora import synthetic
from affekt.runtime.atomic_files import write_bytes
from affekt.runtime.environment import environment

SYSTEMS = """
[baseline]
features = { mels = 12, clip_seconds = 0.8 }
network = { filters = [16, 16], pools = [2, 2], lstm_cells_per_direction = 8 }
[focal]
loss = "focal"
features = { mels = 12, clip_seconds = 0.8 }
network = { filters = [16, 16], pools = [2, 2], lstm_cells_per_direction = 8 }
"""
SPEAKERS, SENTENCES, EPOCHS = 4, 2, 3
JOB = "run/focal/fold-1/seed-0"
STATE = "run/**/state.pt"
FILES = (
    f"{JOB}/result.json",
    f"{JOB}/predictions.csv",
    "cache/*/index.jsonl",
    "cache/*/waveforms.f32",
    f"{JOB}/embeddings.npy",
    STATE,
    f"{JOB}/model.safetensors",
    "corpus/synthetic-02/synthetic-02-s01-sad-01.wav",
    "run/folds.json",
    "run/config.toml",
    f"{JOB}/history.csv",
    "corpus/manifest.csv",
    "run/summary.json",
    "run/environment.json",
    "run/.utterances.json",
)
"""What is damaged in a finished experiment; `STATE` in an unfinished one."""
NAMED = {"manifest.csv": r"manifest\.csv|row \d+|as it was begun"}
"""How refusals name what is damaged, if not by its file: of a manifest also by its row, or what it says now."""
WAYS = ("changed in one bit", "removed", "cut in half")
LIBRARIES = ("torch._dynamo", "affekt.report.plots", "matplotlib.backends.backend_svg", "sklearn.metrics", "PIL.Image")
"""Imported while an experiment runs: here before, so that no fork has to."""
RECOVERED, REFUSED, LOST = "recovered", "refused", "lost"


@dataclass(frozen=True)
class Ended:
    """Exit code and output of a command."""

    code: int
    said: str


@dataclass
class Bench:
    """Folders of the experiments, and outcomes.

    Attributes:
        root: holds the corpus, the undisturbed experiment (`finished`), one killed in its training (`unfinished`), and
            those that are disturbed.
        seconds: how long the undisturbed one took.
        expected: its summary.
        outcomes: how often each fault ended how.
        losses: what happened then.
    """

    root: Path
    rng: np.random.Generator
    seconds: float = 0.0
    expected: bytes = b""
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    pending: deque[tuple[str, Path, str, BaseProcess]] = field(default_factory=deque)

    def prepare(self) -> None:
        """The corpus and the original experiment; a second run must give the same summary."""
        empty = self.root / "empty"
        synthetic.write(empty / "corpus", SPEAKERS, SENTENCES)
        write_bytes(empty / "systems.toml", SYSTEMS.encode())
        for name in ("finished", "again"):
            folder = Path(shutil.copytree(empty, self.root / name))
            started = time.monotonic()
            ended = self.run(folder)
            self.seconds = time.monotonic() - started
            summary = folder / "run" / "summary.json"
            if ended.code or (self.expected and summary.read_bytes() != self.expected):
                raise SystemExit(f"the undisturbed experiment does not come back: {ended.said}")
            self.expected = summary.read_bytes()
        unfinished = Path(shutil.copytree(empty, self.root / "unfinished"))
        process = self.start(unfinished)
        while process.is_alive() and not any(unfinished.glob(STATE)):
            time.sleep(0.002)
        stop(process)

    def copy(self, name: str) -> Path:
        """A copy of `empty`, `finished` or `unfinished`, to be damaged."""
        return Path(shutil.copytree(self.root / name, self.root / f"{next(self.numbers):03d}"))

    def start(self, folder: Path, largest_bytes: int | None = None) -> BaseProcess:
        """Start `affekt experiment` in its own process; `largest_bytes` limits the size of its files."""
        process = multiprocessing.get_context("fork").Process(target=command, args=(folder, largest_bytes))
        process.start()
        return process

    def run(self, folder: Path, largest_bytes: int | None = None) -> Ended:
        """The command from start to end."""
        return ended(self.start(folder, largest_bytes), folder)

    def judge(self, fault: str, folder: Path, damaged: str = "") -> None:
        """Restart the damaged experiment; `settle` records the outcome while the next one is damaged."""
        self.pending.append((fault, folder, damaged, self.start(folder)))
        self.settle(leave=1)

    def settle(self, leave: int = 0) -> None:
        """Wait for restarted experiments, except for the last `leave`."""
        while len(self.pending) > leave:
            self._conclude(*self.pending.popleft())

    def _conclude(self, fault: str, folder: Path, damaged: str, process: BaseProcess) -> None:
        again, summary = ended(process, folder), folder / "run" / "summary.json"
        whole = summary.exists() and summary.read_bytes() == self.expected
        if again.code == 0 and whole:
            outcome = RECOVERED
        elif again.code in (1, 2) and damaged and re.search(damaged, again.said) and (whole or not summary.exists()):
            outcome = REFUSED
        else:
            outcome = LOST
        self.note(fault, outcome, f"exit code {again.code}: {again.said[-2_000:]}")
        shutil.rmtree(folder, ignore_errors=True)

    def note(self, fault: str, outcome: str, what_happened: str) -> None:
        self.outcomes[fault, outcome] += 1
        if outcome == LOST:
            self.losses.append(f"{fault}: {what_happened}")


def command(folder: Path, largest_bytes: int | None) -> None:
    """Entry point of a forked process: `affekt experiment`, with its output in a file beside its folder."""
    log = os.open(log_of(folder), os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if largest_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_bytes, largest_bytes))
    os.chdir(folder)
    words = ["corpus/manifest.csv", "-o", "run", "--cache", "cache", "--systems", "systems.toml", "--folds", "2"]
    words += ["--recipe", "quick", "--train.max-epochs", str(EPOCHS), "--device", "cpu", "--jobs", "1"]
    code = cli.main(["experiment", *words])
    sys.stdout.flush()
    os._exit(code)  # without what the parent would do at its end


def log_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.log")


def ended(process: BaseProcess, folder: Path) -> Ended:
    process.join()
    return Ended(process.exitcode or 0, log_of(folder).read_text(encoding="utf-8", errors="replace"))


def stop(process: BaseProcess) -> None:
    """SIGKILL."""
    process.kill()
    process.join()


def kill(bench: Bench) -> None:
    """Kill the command at any time, from the first file of the cache to the last of the report."""
    folder = bench.copy("empty")
    process = bench.start(folder)
    process.join(bench.rng.uniform(0, 0.95) * bench.seconds)
    stop(process)
    bench.judge("killed at a random moment", folder)


def kill_two(bench: Bench) -> None:
    """Two processes on one run directory; one is killed, the other must finish, and a third must accept the result."""
    folder = bench.copy("empty")
    victim, other = bench.start(folder), bench.start(folder)
    victim.join(bench.rng.uniform(0.2, 0.9) * bench.seconds)
    stop(victim)
    finished = ended(other, folder)
    if finished.code:
        bench.note("two on one run directory, one killed", LOST, finished.said)
    bench.judge("two on one run directory, one killed", folder)


def run_two(bench: Bench) -> None:
    """Two processes on one run directory; both must succeed."""
    folder = bench.copy("empty")
    both = [bench.start(folder), bench.start(folder)]
    codes = [ended(process, folder).code for process in both]
    if any(codes):
        bench.note("two on one run directory", LOST, log_of(folder).read_text())
    bench.judge("two on one run directory", folder)


def leave_a_lock(bench: Bench) -> None:
    """A stale lock of a killed job whose file holds the text of another program."""
    folder = bench.copy("unfinished")
    locks = list(folder.glob("run/**/.lock"))
    if not locks:
        bench.note("stale lock", LOST, "no lock was left by the process that was killed")
    for lock in locks:
        lock.write_text("4194304\n")
    bench.judge("stale lock", folder)


def damage(bench: Bench, pattern: str, how: str) -> None:
    """Remove a file, cut it in half, or flip one bit."""
    folder = bench.copy("unfinished" if pattern == STATE else "finished")
    (path, *_) = folder.glob(pattern)
    content = bytearray(path.read_bytes())
    if how == "removed":
        path.unlink()
    elif how == "cut in half":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[bench.rng.integers(len(content))] ^= 1 << bench.rng.integers(8)
        path.write_bytes(content)
    name = "a recording" if path.suffix == ".wav" else path.name
    bench.judge(
        f"{name} {how}", folder, path.stem if path.suffix == ".wav" else NAMED.get(path.name, re.escape(path.name))
    )


def fill(bench: Bench, mounted: bool) -> None:
    """A full disk during the run; then enough space again."""
    folder, fault = bench.copy("empty"), "disk full"
    with small_disk(folder, bench.rng.uniform(0.05, 0.95) * size_of(bench.root / "finished"), mounted) as (limit, grow):
        full = bench.run(folder, limit)
        reason = "No space left on device" if mounted else "File too large"
        if full.code not in (0, 1, 2) or "Traceback" in full.said or (full.code and reason not in full.said):
            bench.note(fault, LOST, f"exit code {full.code}: {full.said}")
        grow()
        bench.judge(fault, folder)
        bench.settle()


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def small_disk(folder: Path, size_bytes: float, mounted: bool) -> Iterator[tuple[int | None, Callable[[], object]]]:
    """Mount a small disk at `folder`, with its contents, and a way to enlarge it; or limit file sizes instead."""
    if not mounted:
        yield max(4_096, int(size_bytes / 8)), lambda: None
        return
    room = size_bytes + size_of(folder)
    with tempfile.TemporaryDirectory() as aside:
        shutil.copytree(folder, aside, dirs_exist_ok=True)
        mount(folder, f"size={room / 1024:.0f}k")
        try:
            shutil.copytree(aside, folder, dirs_exist_ok=True)
            yield None, lambda: mount(folder, "remount,size=1g")
        finally:
            subprocess.run(["umount", str(folder)], check=True)


def mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True, capture_output=True)


def can_mount() -> bool:
    """Whether this process may mount a small disk."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            mount(Path(folder), "size=64k")
        except (OSError, subprocess.CalledProcessError):
            return False
        subprocess.run(["umount", folder], check=True)
        return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--damages", type=int, default=60, help="files removed, cut or changed, one at a time")
    parser.add_argument("--full", type=int, default=6, help="disks filled")
    parser.add_argument("--pairs", type=int, default=2, help="two processes on one folder, with and without a death")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, help="write faults.json here")
    options = parser.parse_args()
    started, mounted = time.monotonic(), can_mount()
    for name in LIBRARIES:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), np.random.default_rng(options.seed))
        bench.prepare()
        disturb(bench, options, mounted)
        bench.settle()
    facts = summary(bench, options, mounted, time.monotonic() - started)
    report(facts)
    if options.out:
        write_bytes(options.out / "faults.json", f"{json.dumps(facts, indent=1)}\n".encode())
    return int(bool(bench.losses))


def disturb(bench: Bench, options: argparse.Namespace, mounted: bool) -> None:
    """All faults; first every file is damaged once in every way, then single bits."""
    for _ in range(options.kills):
        kill(bench)
    ways = [(name, WAYS[(turn + place) % len(WAYS)]) for turn in range(len(WAYS)) for place, name in enumerate(FILES)]
    bits = itertools.cycle((name, WAYS[0]) for name in FILES)
    for pattern, how in itertools.islice(itertools.chain(ways, bits), options.damages):
        damage(bench, pattern, how)
    for _ in range(options.full):
        fill(bench, mounted)
    for _ in range(options.pairs):
        run_two(bench)
        kill_two(bench)
        leave_a_lock(bench)


def summary(bench: Bench, options: argparse.Namespace, mounted: bool, seconds: float) -> dict[str, Any]:
    kinds = list(dict.fromkeys(fault for fault, _ in bench.outcomes))
    return {
        "machine": {name: environment()[name] for name in ("cpu", "cores", "platform", "python", "affekt")},
        "seed": options.seed,
        "seconds": round(seconds, 1),
        "undisturbed_seconds": round(bench.seconds, 2),
        "full_disk": "a small tmpfs" if mounted else "a limit on the size of files, as no disk could be mounted",
        "faults": {
            kind: {outcome: bench.outcomes[kind, outcome] for outcome in (RECOVERED, REFUSED, LOST)} for kind in kinds
        },
        "losses": bench.losses,
    }


def report(facts: dict[str, Any]) -> None:
    width = max(map(len, facts["faults"]))
    print(f"{'':<{width}}  {RECOVERED:>10}{REFUSED:>10}{LOST:>10}")
    for kind, counts in facts["faults"].items():
        print(f"{kind:<{width}}  {''.join(f'{count:>10}' for count in counts.values())}")
    totals = {outcome: sum(counts[outcome] for counts in facts["faults"].values()) for outcome in counts}
    print(f"full disk: {facts['full_disk']}")
    print(f"faults injected {sum(totals.values())}, recovered identically {totals[RECOVERED]}, ", end="")
    print(f"refusals {totals[REFUSED]}, losses {totals[LOST]}; {facts['seconds']:.0f} s")
    print("\n".join(facts["losses"]))


if __name__ == "__main__":
    sys.exit(main())
