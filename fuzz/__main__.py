"""Fuzz all targets for minutes.

    python -m fuzz [--seconds 300] [--targets audio,manifests,...] [--findings runs/fuzz] [-o results/reliability]

Every target runs in its own process, guided by the coverage of affekt's code if atheris is installed (extra `fuzz`),
else at random. An input with forbidden behavior is a finding: it is stored and listed at the end, with exit code 1.
Targets that are not run keep the counts of an earlier run.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ("audio", "manifests", "segments", "toml", "folds", "checkpoints", "models", "http", "websocket")
BEGINNINGS = 64  # inputs of chance that the guided search starts from
LONGEST_BYTES = 4_096
SAVE_SECONDS = 1.0
GRACE_SECONDS = 120  # for a target's process to begin and to end


@dataclass
class Tally:
    """Counts of a target's inputs by outcome."""

    target: str
    inputs: int = 0
    refused: int = 0
    slowest_seconds: float = 0.0
    seconds: float = 0.0
    findings: dict[str, str] = field(default_factory=dict)
    input: Any = None

    def note(self, seconds: float, refused: bool) -> None:
        self.inputs += 1
        self.refused += refused
        self.slowest_seconds = max(self.slowest_seconds, round(seconds, 3))

    def find(self, error: BaseException, folder: Path) -> None:
        """Store the input of a failure, once per failing place."""
        *_, place = traceback.extract_tb(error.__traceback__)
        name = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
        if name not in self.findings:
            digest = hashlib.sha256(name.encode()).hexdigest()[:8]
            path = folder / f"{self.target}-{digest}.txt"
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{self.input!r}\n\n{''.join(traceback.format_exception(error))}", encoding="utf-8")
            self.findings[name] = f"{' '.join(str(error).split())[:200]} ({path})"

    def save(self, path: Path, started: float) -> None:
        self.seconds = round(time.monotonic() - started, 1)
        facts = {name: value for name, value in asdict(self).items() if name != "input"}
        path.write_text(json.dumps(facts), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0, help="for each target")
    parser.add_argument("--targets", default=",".join(NAMES))
    parser.add_argument("--findings", type=Path, default=Path("runs/fuzz"), help="where inputs that fail are kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tally", type=Path, help=argparse.SUPPRESS)  # of one target's own process
    parser.add_argument("-o", "--out", type=Path, help="write fuzz.json here")
    options = parser.parse_args()
    if options.tally:
        attack(options.targets, options)
        return 0
    rows = [run(name, options) for name in options.targets.split(",")]
    facts = {"machine": machine(), "guided_by": guide(), "seconds_per_target": options.seconds, "targets": rows}
    report(facts)
    if options.out:
        from affekt.runtime.atomic_files import write_bytes

        path = options.out / "fuzz.json"
        facts["targets"] = joined(rows, json.loads(path.read_bytes())["targets"] if path.exists() else [])
        write_bytes(path, f"{json.dumps(facts, indent=1)}\n".encode())
    return int(any(row["findings"] for row in rows))


def run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one target in its own process; a crash or a hang is a finding too."""
    with tempfile.TemporaryDirectory() as folder:
        tally = Path(folder) / "tally.json"
        words = ["--targets", name, "--seconds", str(options.seconds), "--seed", str(options.seed)]
        words += ["--tally", str(tally), "--findings", str(options.findings)]
        command = [sys.executable, "-m", "fuzz", *words]
        try:
            limit = options.seconds + GRACE_SECONDS
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=limit, check=False)
            reason = f"exit code {done.returncode}: {done.stderr[-400:]}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            reason = f"no end within {limit:g} s"
        row: dict[str, Any] = json.loads(tally.read_text()) if tally.exists() else asdict(Tally(name))
    if reason:
        row["findings"]["the process"] = reason
    return row


def attack(name: str, options: argparse.Namespace) -> None:
    """Main loop of a target's process."""
    with tempfile.TemporaryDirectory() as work:
        tally = Tally(name)
        if guide() == "chance":
            one = attempt(name, tally, Path(work), options)
            rng, started = np.random.default_rng(options.seed), time.monotonic()
            while time.monotonic() < started + options.seconds or not tally.inputs:
                one(rng.bytes(int(rng.integers(64, LONGEST_BYTES))))
            tally.save(options.tally, started)
            return
        import atheris

        with atheris.instrument_imports(include=["affekt"]):
            one = attempt(name, tally, Path(work), options)
        beginnings = Path(work) / "beginnings"
        beginnings.mkdir()
        options.findings.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(options.seed)
        for number in range(BEGINNINGS):
            (beginnings / str(number)).write_bytes(rng.bytes(int(rng.integers(64, LONGEST_BYTES))))
        flags = [f"-max_total_time={options.seconds:.0f}", f"-max_len={LONGEST_BYTES}", "-timeout=60", "-verbosity=0"]
        flags += [f"-seed={options.seed + 1}", "-rss_limit_mb=8192", f"-artifact_prefix={options.findings}/"]
        atheris.Setup([sys.argv[0], *flags, str(beginnings)], one)
        atheris.Fuzz()


def attempt(name: str, tally: Tally, work: Path, options: argparse.Namespace) -> Callable[[bytes], None]:
    """Generate an input from bytes with hypothesis, use it and judge the outcome."""
    from hypothesis import HealthCheck, given, settings

    from fuzz.targets import TARGETS
    from fuzz.watch import watched

    target = TARGETS[name]
    for good in target.good():
        target.use(good, work)

    @settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(target.inputs())
    def use(value: Any) -> None:
        tally.input, before = value, time.process_time()
        with watched(work) as refusals:
            target.use(value, work)
        tally.note(time.process_time() - before, bool(refusals))

    started = time.monotonic()
    saved = started - SAVE_SECONDS

    def one(data: bytes) -> None:
        nonlocal saved
        try:
            use.hypothesis.fuzz_one_input(data)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            tally.find(error, options.findings)
        if time.monotonic() > saved + SAVE_SECONDS:
            saved = time.monotonic()
            tally.save(options.tally, started)

    return one


def guide() -> str:
    """Name of the method that chooses inputs."""
    if importlib.util.find_spec("atheris") is None:
        return "chance"
    from affekt.runtime.environment import version

    return f"coverage (atheris {version('atheris')})"


def machine() -> dict[str, str]:
    from affekt.runtime.environment import environment

    return {name: environment()[name] for name in ("cpu", "cores", "platform", "python", "affekt")}


def joined(rows: list[dict[str, Any]], earlier: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """This run's rows merged with those of earlier runs; findings that did not recur count as fixed."""
    known = {row["target"]: row for row in earlier}
    for row in rows:
        before = known.get(row["target"], {})
        found = dict.fromkeys([*before.get("mended", ()), *before.get("findings", ())])
        row["mended"] = [name for name in found if name not in row["findings"]]
    return list((known | {row["target"]: row for row in rows}).values())


def report(facts: dict[str, Any]) -> None:
    print(f"inputs chosen by {facts['guided_by']}, {facts['seconds_per_target']:g} s for each target")
    print(f"{'':<14}{'inputs':>10}{'refused':>10}{'slowest':>10}{'findings':>10}")
    for row in facts["targets"]:
        counts = f"{row['inputs']:>10,}{row['refused']:>10,}{row['slowest_seconds']:>8.2f} s{len(row['findings']):>10}"
        print(f"{row['target']:<14}{counts}")
    for row in facts["targets"]:
        for name, what in row["findings"].items():
            print(f"{row['target']}: {name}: {what}")


if __name__ == "__main__":
    sys.exit(main())
