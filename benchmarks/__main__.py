"""Run all benchmarks, each in its own process, and write one table.

    python -m benchmarks [NAME ...] [-o results/benchmarks] [--core PYTHON] [--checkpoint M.safetensors] [--again]

Results are written as they come. An interrupted run resumes if code and versions are the same. A benchmark that fails
is named, does not affect the others, and is repeated by the next run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any

from affekt.audio import opus
from affekt.runtime.atomic_files import write_bytes
from affekt.runtime.environment import cpu_flags, environment
from benchmarks.rows import Row
from benchmarks.setting import REPOSITORY, Setting
from benchmarks.table import markdown, plot, text

BENCHMARKS = {
    "limits": "limits:rows",
    "training": "training:rows",
    "one clip": "recognition:rows",
    "log-mel": "features:rows",
    "cold start": "cold_start:rows",
    "throughput": "throughput:rows",
    "agreement": "agreement:rows",
    "manifests": "growth:manifests",
    "recordings": "growth:recordings_row",
    "corpora": "growth:corpora",
    "workers": "growth:workers",
}
"""Names and the functions that measure: (Setting) -> list of rows."""
LONGEST_SECONDS = 600
PEERS = (
    "keras",
    "tensorflow-cpu",
    "transformers",
    "librosa",
    "kaldi-native-fbank",
    "scipy",
    "onnxruntime",
    "openvino",
    "nncf",
)
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimddp", "bf16", "i8mm")
"""Instruction sets that decide how fast this can be."""

Record = dict[str, Any]


def main() -> int:
    """Run the missing benchmarks, print the table, write JSON, Markdown and plots."""
    options = parse()
    if options.only:
        return measure_one(options)
    stem = options.out / slug(environment()["cpu"], Setting().cores)
    record = begin(stem.with_suffix(".json"), options)
    for name in options.names or BENCHMARKS:
        if name not in record["rows"]:
            measure(record, name, options)
            write_bytes(stem.with_suffix(".json"), json.dumps(record, indent=1).encode())
    record["complete"] = set(record["rows"]) == set(BENCHMARKS)
    deliver(record, stem)
    return int(bool(record["failures"]))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(BENCHMARKS)}")
    parser.add_argument("-o", "--out", type=Path, default=REPOSITORY / "results" / "benchmarks")
    parser.add_argument("--core", type=Path, help="the Python of an environment with the core install alone")
    parser.add_argument("--checkpoint", type=Path, action="append", default=[], help="for agreement; repeatable")
    parser.add_argument("--again", action="store_true", help="measure anew what is there already")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # one benchmark, in this process
    parser.add_argument("--limits", default="{}", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = sorted({*options.names} - BENCHMARKS.keys())
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known are: {', '.join(BENCHMARKS)}")
    return options


def measure_one(options: argparse.Namespace) -> int:
    """Run one benchmark in this process and write its rows."""
    module, _, function = BENCHMARKS[options.only].partition(":")
    run: Callable[[Setting], Sequence[Row]] = getattr(import_module(f"benchmarks.{module}"), function)
    rows = run(Setting(json.loads(options.limits), options.core, tuple(options.checkpoint)))
    write_bytes(options.out, json.dumps([row.to_dict() for row in rows]).encode())
    return 0


def begin(path: Path, options: argparse.Namespace) -> Record:
    """The record to continue: the existing one if it is unfinished and of the same code, else an empty one."""
    fresh: Record = {"identity": identity(options), "complete": False, "facts": facts(), "seconds": {}}
    fresh |= {"rows": {}, "failures": {}}
    try:
        found: Record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return fresh
    if options.again or (found["complete"] and not options.names):
        return fresh
    if found.get("identity") != fresh["identity"]:
        earlier = path.with_suffix(".json.earlier")
        path.replace(earlier)
        print(f"other code, versions or options measured what was there; it is kept as {earlier}", flush=True)
        return fresh
    for name in options.names:
        found["rows"].pop(name, None)
    return found


def measure(record: Record, name: str, options: argparse.Namespace) -> None:
    """Run one benchmark in its own process; add its rows, or the reason why there are none, to the record."""
    print(f"{name} ...", end=" ", flush=True)
    limits = {row["work"]: row["ours"]["median"] for row in record["rows"].get("limits", ())}
    start = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        words = [sys.executable, "-m", "benchmarks", "--only", name, "-o", str(path), "--limits", json.dumps(limits)]
        words += ["--core", str(options.core)] if options.core else []
        words += [word for checkpoint in options.checkpoint for word in ("--checkpoint", str(checkpoint))]
        problem = run(words)
        if not problem:
            record["rows"][name] = json.loads(path.read_bytes())
    record["failures"].pop(name, None)
    record["failures"] |= {name: problem} if problem else {}
    record["seconds"][name] = round(perf_counter() - start, 1)
    print(f"{record['seconds'][name]:.0f} s{f', FAILED: {problem}' if problem else ''}", flush=True)


def run(words: Sequence[str]) -> str:
    """Run a command in the repository's root; return "" or the last line of its error output."""
    options: Record = {"cwd": REPOSITORY, "capture_output": True, "text": True, "timeout": LONGEST_SECONDS}
    try:
        done = subprocess.run(words, check=False, **options)
    except subprocess.TimeoutExpired:
        return f"took longer than {LONGEST_SECONDS} s"
    if done.returncode == 0:
        return ""
    print(done.stderr, file=sys.stderr)
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return said[-1].replace(str(REPOSITORY), ".")[-300:]


def deliver(record: Record, stem: Path) -> None:
    """Print the table and write the files."""
    rows = [Row.from_dict(row) for name in BENCHMARKS for row in record["rows"].get(name, ())]
    minutes = sum(record["seconds"].values()) / 60
    said = {**record["facts"], "minutes": f"{minutes:.1f}"}
    if record["failures"]:
        said["failed"] = "; ".join(f"{name}: {problem}" for name, problem in record["failures"].items())
    if any(row.points for row in rows):
        plot(rows, stem.with_name(f"{stem.name}-growth.svg"))
    write_bytes(stem.with_suffix(".json"), json.dumps(record, indent=1).encode())
    page = markdown(rows, said, f"Benchmarks on {record['facts']['cpu']}, {record['facts']['cores']} cores")
    write_bytes(stem.with_suffix(".md"), page.encode())
    print(f"\n{text(rows)}\n\n{minutes:.1f} minutes; {stem}.json, .md")


def facts() -> Record:
    """The machine, the versions, the command and the date."""
    here = environment()
    flags = ", ".join(flag for flag in FLAGS if flag in cpu_flags()) or "unknown"
    peers = {name: installed(name) for name in PEERS}
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    return {
        **here,
        "instruction sets": flags,
        "system's libopus": opus.version() or "not installed",
        **peers,
        "command": "make bench",
        "date": when,
    }


def installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def identity(options: argparse.Namespace) -> str:
    """A hash of code, versions and options, which determine the figures apart from the machine."""
    digest = hashlib.sha256(json.dumps({**facts(), "date": ""}, sort_keys=True).encode())
    digest.update(repr((options.core, os.environ.get("AFFEKT_CORPORA"))).encode())
    for folder in ("src/affekt", "benchmarks"):
        for path in sorted((REPOSITORY / folder).rglob("*")):
            if path.suffix in (".py", ".cpp", ".onnx", ".safetensors"):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def slug(cpu: str, cores: int) -> str:
    """A file name from a processor's name.

    >>> slug("AMD EPYC 9R14 (TM)", 2)
    'amd-epyc-9r14-tm-2-cores'
    """
    return f"{re.sub(r'[^a-z0-9]+', '-', cpu.lower()).strip('-')}-{cores}-cores"


if __name__ == "__main__":
    sys.exit(main())
