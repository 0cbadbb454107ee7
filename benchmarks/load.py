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
import collections
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile

from affekt.recognition.recognizer import Recognizer
from affekt.runtime.atomic_files import write_bytes
from affekt.runtime.environment import environment

RATE_HZ = 16_000
RECORDINGS = 64
MIXED = {"good": 0.6, "timeline": 0.08, "bad": 0.12, "slow": 0.08, "aborted": 0.08, "huge": 0.04}
"""Shares of the kinds of requests."""
HUGE_BYTES = 80 * 2**20
TIMES_CAPACITY = 2.0
WORKERS = 2
REPLACED_SECONDS = 30.0  # within which a killed worker must have a successor
RECOVERED_SECONDS = 5.0
ANSWERED_SECONDS = 10.0
STEADY, STEADY_MIB = 1.1, 32.0  # how far memory may grow from the second third to the last,
STEADY_SECONDS = 60.0  # once the queues have had the time to fill


@dataclass
class Tally:
    """Counts and latencies so far."""

    statuses: collections.Counter[tuple[str, str]] = field(default_factory=collections.Counter)
    seconds: list[float] = field(default_factory=list)
    refused_seconds: list[float] = field(default_factory=list)
    late_seconds: list[float] = field(default_factory=list)
    different: int = 0
    errors: list[str] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)
    workers: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Answer:
    """The server's answer."""

    status: int
    head: bytes
    body: bytes


class Client:
    """The connection of a client, implemented simply so that clients use little CPU time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes, pieces: int = 1, pause_seconds: float = 0.0) -> Answer:
        """Send a body, in pieces, and read the answer; one that comes early ends the sending."""
        if self._streams is None or self._streams[0].at_eof():
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n\r\n".encode())
        sending = asyncio.create_task(self._send(writer, body, pieces, pause_seconds))
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
            answer = Answer(int(head[9:12]), head, await reader.readexactly(length))
            if b"connection: close" in head:
                self.close()
        finally:
            if not sending.done():
                sending.cancel()
                self.close()
            elif not sending.cancelled():
                sending.exception()  # the answer, or its absence, says it
        return answer

    async def _send(self, writer: asyncio.StreamWriter, body: bytes, pieces: int, pause_seconds: float) -> None:
        size = -(-len(body) // pieces)
        for start in range(0, len(body), size):
            writer.write(body[start : start + size])
            await writer.drain()
            if pause_seconds:
                await asyncio.sleep(pause_seconds)

    def close(self) -> None:
        """Close the connection at once."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


@dataclass
class Load:
    """State of the clients: recordings, the library's answers, and the tally."""

    port: int
    contents: list[bytes]
    expected: list[dict[str, float]]
    long: bytes
    rng: np.random.Generator
    tally: Tally = field(default_factory=Tally)
    idle: list[Client] = field(default_factory=list)

    async def visit(self, kind: str) -> None:
        """One request by a client that has nothing else to do."""
        client = self.idle.pop() if self.idle else Client(self.port)
        ask: Callable[[Client], Awaitable[None]] = getattr(self, kind)
        try:
            await ask(client)
        except (OSError, asyncio.IncompleteReadError):
            self.tally.statuses[kind, "connection lost"] += 1
            client.close()
        self.idle.append(client)

    async def good(self, client: Client) -> None:
        """A recording that can be recognized; its time and its answer are checked."""
        index = int(self.rng.integers(len(self.contents)))
        started = time.monotonic()
        answer = await client.post("/v1/predict", self.contents[index])
        self._count("good", answer)
        seconds = time.monotonic() - started
        if answer.status != 200:
            self.tally.refused_seconds.append(seconds)
        else:
            self.tally.seconds.append(seconds)
            self.tally.different += json.loads(answer.body)["probabilities"] != self.expected[index]

    async def timeline(self, client: Client) -> None:
        """Some recordings one after the other."""
        self._count("timeline", await client.post("/v1/timeline", self.long))

    async def bad(self, client: Client) -> None:
        """No audio at all."""
        self._count("bad", await client.post("/v1/predict", self.rng.bytes(5_000)))

    async def slow(self, client: Client) -> None:
        """A client that sends a little every second."""
        self._count("slow", await client.post("/v1/predict", self.contents[0][:8_000], pieces=8, pause_seconds=1.0))

    async def aborted(self, client: Client) -> None:
        """A client that leaves."""
        try:
            async with asyncio.timeout(self.rng.uniform(0.005, 0.1)):
                await client.post("/v1/predict", self.contents[0])
        except TimeoutError:
            self.tally.statuses["aborted", "left"] += 1
            client.close()

    async def huge(self, client: Client) -> None:
        """A body beyond the limit."""
        self._count("huge", await client.post("/v1/predict", bytes(HUGE_BYTES), pieces=64))

    def _count(self, kind: str, answer: Answer) -> None:
        self.tally.statuses[kind, str(answer.status)] += 1
        told = b"retry-after" in answer.head
        if (answer.status >= 500 and not (answer.status == 503 and told)) or (answer.status == 429 and not told):
            self.tally.errors.append(f"{kind}: {answer.status} {answer.body.decode(errors='replace')[:200]}")


@dataclass(frozen=True)
class Server:
    """`affekt serve` in its own process, or a supervisor with its workers."""

    url: str
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        pid = self.process.pid
        children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return [child for child in children if b"spawn_main" in _read(f"/proc/{child}/cmdline")] or [pid]

    def memory_mib(self) -> float:
        """Memory of all server processes."""
        pages = [int((_read(f"/proc/{pid}/statm").split() or [b"0", b"0"])[1]) for pid in self.workers()]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _read(path: str) -> bytes:
    """A file of /proc, which may have disappeared."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


@contextmanager
def serving(options: argparse.Namespace, workers: int) -> Iterator[Server]:
    """A running server that is ready."""
    words = [sys.executable, "-m", "affekt", "serve", "--port", "0", "--workers", str(workers)]
    words += ["--engine", options.engine, *(["--model", str(options.model)] if options.model else [])]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        found = re.search(r"http://[\w.:]+", process.stdout.readline())
        if found is None:
            raise SystemExit("the server did not start")
        wait_until_ready(found.group())
        yield Server(found.group(), process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def wait_until_ready(url: str, patience_seconds: float = 60.0) -> float:
    """Wait until the server is ready; return the seconds."""
    started = time.monotonic()
    while time.monotonic() < started + patience_seconds:
        try:
            if httpx.get(f"{url}/readyz", timeout=1).status_code == 200:
                return time.monotonic() - started
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"the server is not ready after {patience_seconds:g} s")


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


async def kill_a_worker(server: Server, after_seconds: float) -> float | None:
    """Seconds from the death of a worker to the birth of another; None if there is none in time."""
    await asyncio.sleep(after_seconds)
    before = server.workers()
    os.kill(before[0], signal.SIGKILL)
    killed = time.monotonic()
    while time.monotonic() < killed + REPLACED_SECONDS:
        await asyncio.sleep(0.1)
        if set(server.workers()) - set(before):
            return time.monotonic() - killed
    return None


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


async def watch_workers(server: Server, tally: Tally) -> None:
    """Record the server's processes and their memory."""
    while True:
        tally.workers.update(server.workers())
        tally.memory_mib.append(server.memory_mib())
        await asyncio.sleep(0.5)


async def watch_lateness(tally: Tally) -> None:
    """Measure the delay of the clients' own event loop: so much of the times measured may be theirs."""
    while True:
        due = time.monotonic() + 0.05
        await asyncio.sleep(0.05)
        tally.late_seconds.append(time.monotonic() - due)


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
