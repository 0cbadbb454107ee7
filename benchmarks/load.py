"""A server under load, on loopback, in its own processes: valid requests, then all kinds at twice its capacity.

    python -m benchmarks.load [--clients 64] [--seconds 60] [--minutes 10] [--rate HZ] [--engine ray] [-o OUT]

1. *good*: clients that send the next request when they have their answer. This gives the capacity.
2. *mixed*: requests arrive at random times at twice that rate, independent of the answers; some are invalid, slow,
   aborted, huge or for timelines. The server has two workers, one of which is killed after a third of the time.

Every answer to a valid request is compared with the library's answer to the same recording, bit for bit. The
requirements (`CHECKS`) are checked; the exit code is 1 if one is not met. The clients share the server's machine; the
lag of their own event loop is reported beside the latencies.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from affekt.recognition.recognizer import Recognizer
from affekt.runtime.atomic_files import write_bytes
from affekt.runtime.environment import environment
from benchmarks.load_clients import Load, Tally, watch_lateness
from benchmarks.load_server import Server, kill_a_worker, serving, wait_until_ready, watch_workers

RATE_HZ = 16_000
RECORDINGS = 64
MIXED = {"good": 0.6, "timeline": 0.08, "bad": 0.12, "slow": 0.08, "aborted": 0.08, "huge": 0.04}
"""Shares of the kinds of requests."""
TIMES_CAPACITY = 2.0
WORKERS = 2
RECOVERED_SECONDS = 5.0
ANSWERED_SECONDS = 10.0
STEADY, STEADY_MIB = 1.1, 32.0  # how far memory may grow from the second third to the last,
STEADY_SECONDS = 60.0  # once the queues have had the time to fill


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="by default the bundled one")
    parser.add_argument("--folder", type=Path, help="recordings to send; by default noise of 1 to 8 s")
    parser.add_argument("--clients", type=int, default=64, help="in the first part")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the first part")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the second part; 0 leaves it out")
    parser.add_argument("--rate", type=float, help="requests a second in the second part; by default twice the first's")
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="where the server's model runs")
    parser.add_argument("-o", "--out", type=Path, help="write load.json here")
    options = parser.parse_args()
    recognizer = Recognizer.load(options.model, threads=1)
    contents = recordings(options.folder)
    expected = [dict(recognizer.predict(content).probabilities) for content in contents]
    long = wav(np.concatenate([soundfile.read(io.BytesIO(content))[0] for content in contents[:12]]))

    def load(server: Server) -> Load:
        return Load(server.port, contents, expected, long, np.random.default_rng(0))

    with serving(options, workers=1) as server:
        rows = {"good": asyncio.run(put_under(load(server), server, only_good(options)))}
    if options.minutes:
        rate_hz = options.rate or TIMES_CAPACITY * rows["good"]["good_per_second"]
        with serving(options, WORKERS) as server:
            rows["mixed"] = asyncio.run(put_under(load(server), server, all_kinds(options, rate_hz)))
    facts = {"machine": machine(), "rows": rows}
    failed = report(facts)
    if options.out:
        write_bytes(options.out / "load.json", f"{json.dumps(facts, indent=1)}\n".encode())
    return int(failed)


def recordings(folder: Path | None) -> list[bytes]:
    """Recordings that the clients send."""
    rng = np.random.default_rng(0)
    if folder is None:
        lengths = rng.integers(1 * RATE_HZ, 8 * RATE_HZ, RECORDINGS)
        return [wav(0.1 * rng.normal(size=samples)) for samples in lengths]
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".wav", ".flac", ".opus", ".mp3"))
    return [paths[index].read_bytes() for index in rng.choice(len(paths), min(RECORDINGS, len(paths)), replace=False)]


def wav(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE_HZ, format="WAV")
    return file.getvalue()


Traffic = Callable[[Load, Server], Awaitable[dict[str, Any]]]
"""Sends requests; gives back facts about itself."""


def only_good(options: argparse.Namespace) -> Traffic:
    """Clients that send one valid request after the other."""

    async def traffic(load: Load, server: Server) -> dict[str, Any]:
        end = time.monotonic() + options.seconds

        async def ask_on() -> None:
            while time.monotonic() < end:
                await load.visit("good")

        await asyncio.gather(*(ask_on() for _ in range(options.clients)))
        return {"clients": options.clients}

    return traffic


def all_kinds(options: argparse.Namespace, rate_hz: float) -> Traffic:
    """Requests of all kinds at random times, while a worker is killed."""

    async def traffic(load: Load, server: Server) -> dict[str, Any]:
        seconds = 60 * options.minutes
        killing = asyncio.create_task(kill_a_worker(server, after_seconds=seconds / 3))
        began = due = time.monotonic()
        arrived = 0
        async with asyncio.TaskGroup() as visits:
            while due < began + seconds:
                due += load.rng.exponential(1 / rate_hz)
                await asyncio.sleep(max(0, due - time.monotonic()))
                visits.create_task(load.visit(str(load.rng.choice(list(MIXED), p=list(MIXED.values())))))
                arrived += 1
        return {"arrivals_per_second": arrived / seconds, "workers": WORKERS, "replaced_seconds": await killing}

    return traffic


async def put_under(load: Load, server: Server, traffic: Traffic) -> dict[str, Any]:
    """All that is known of a server under some traffic, and after it."""
    watches = [asyncio.create_task(watch(load.tally)) for watch in (partial(watch_workers, server), watch_lateness)]
    started = time.monotonic()
    facts = await traffic(load, server)
    seconds = time.monotonic() - started
    for watch in watches:
        watch.cancel()
    for client in load.idle:
        client.close()
    return summary(load.tally, seconds) | facts | {"recovery_seconds": await recover(load)}


async def recover(load: Load) -> float:
    """Seconds from the last request until the server says that it is ready, and answers a good one rightly."""
    started, before = time.monotonic(), len(load.tally.seconds)
    await asyncio.to_thread(wait_until_ready, f"http://127.0.0.1:{load.port}")
    while len(load.tally.seconds) == before and time.monotonic() < started + 60:
        await load.visit("good")
    return time.monotonic() - started


def percentiles(seconds: Sequence[float]) -> list[float]:
    """The 50th, 95th and 99th percentiles."""
    return np.percentile(seconds, [50, 95, 99]).tolist() if seconds else [float("nan")] * 3


def summary(tally: Tally, seconds: float) -> dict[str, Any]:
    p50, p95, p99 = percentiles(tally.seconds)
    memory = [float(np.median(part)) for part in np.array_split(tally.memory_mib, 3)]
    return {
        "seconds": seconds,
        "answers": {f"{kind} {status}": count for (kind, status), count in sorted(tally.statuses.items())},
        "good_per_second": len(tally.seconds) / seconds,
        "p50_seconds": p50,
        "p95_seconds": p95,
        "p99_seconds": p99,
        "refused_p99_seconds": percentiles(tally.refused_seconds)[2] if tally.refused_seconds else None,
        "clients_late_p99_seconds": percentiles(tally.late_seconds)[2],
        "different": tally.different,
        "errors": tally.errors[:100],
        "processes": len(tally.workers),
        "memory_mib": {"first_third": memory[0], "second_third": memory[1], "last_third": memory[2]}
        | {"peak": max(tally.memory_mib)},
    }


CHECKS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "good requests were answered": lambda row: row["good_per_second"] > 0,
    "no 5xx, but 503 with Retry-After; no 429 without": lambda row: not row["errors"],
    "answers equal those alone, bit for bit": lambda row: row["different"] == 0,
    f"99 of 100 good answers within {ANSWERED_SECONDS:g} s": lambda row: row["p99_seconds"] <= ANSWERED_SECONDS,
    "memory is flat": lambda row: (
        row["seconds"] < STEADY_SECONDS
        or row["memory_mib"]["last_third"] <= STEADY * row["memory_mib"]["second_third"] + STEADY_MIB
    ),
    f"ready again within {RECOVERED_SECONDS:g} s": lambda row: row["recovery_seconds"] <= RECOVERED_SECONDS,
    "a killed worker was replaced": lambda row: row.get("replaced_seconds", 0.0) is not None,
    "no other worker died": lambda row: row["processes"] <= row.get("workers", 1) + ("replaced_seconds" in row),
}
"""What a server under load must keep to."""


def report(facts: dict[str, Any]) -> bool:
    """Print the results; return whether a requirement was not met."""
    failed = False
    for name, row in facts["rows"].items():
        arrivals = f"{row['arrivals_per_second']:.0f} a second" if "arrivals_per_second" in row else "one by one"
        print(f"{name}: requests {arrivals} for {row['seconds']:.0f} s on {facts['machine']['cpu']}")
        for kind, count in row["answers"].items():
            print(f"  {kind:<26}{count:>8,}")
        print(f"  good answers a second     {row['good_per_second']:>8.1f}")
        for part in ("p50", "p95", "p99"):
            print(f"  {part:<26}{1_000 * row[f'{part}_seconds']:>8.0f} ms")
        if row["refused_p99_seconds"] is not None:
            print(f"  p99 of refusals           {1_000 * row['refused_p99_seconds']:>8.0f} ms")
        print(f"  clients' own lateness, p99{1_000 * row['clients_late_p99_seconds']:>8.0f} ms")
        memory = ", ".join(f"{part.replace('_', ' ')} {value:.0f} MiB" for part, value in row["memory_mib"].items())
        print(f"  server's memory: {memory}")
        print(f"  ready again after {row['recovery_seconds']:.2f} s")
        for check, holds in CHECKS.items():
            failed |= not holds(row)
            print(f"  {'kept ' if holds(row) else 'BROKEN'} {check}")
        print("\n".join(row["errors"][:10]))
    return failed


def machine() -> dict[str, str]:
    return {name: environment()[name] for name in ("cpu", "cores", "platform", "python", "affekt")}


if __name__ == "__main__":
    sys.exit(main())
