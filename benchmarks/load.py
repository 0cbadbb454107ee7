"""A server under load: many clients for a minute, on loopback, against `affekt serve` in a process of its own.

    python benchmarks/load.py [--model M.onnx] [--folder RECORDINGS] [--clients 64] [--seconds 60] [--mixed] [-o OUT]

Every client asks again as soon as it has its answer. With `--mixed` a part of the requests is bad, slow, aborted, huge
or a timeline, and clients beyond the server's places are sent away with 429. Each answer to a good request is compared
with the library's to the same recording alone, bit for bit. Prints requests, times, and the server's memory; exits with
1 if any answer was a 5xx without Retry-After, or different.

The clients share the machine with the server.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import io
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile

from affekt import __version__
from affekt.atomic import write_bytes
from affekt.inference import Recognizer

RATE_HZ = 16_000
RECORDINGS = 64
MIXED = {"good": 0.6, "timeline": 0.08, "bad": 0.12, "slow": 0.08, "aborted": 0.08, "huge": 0.04}
"""Shares of the kinds of requests."""
HUGE_BYTES = 80 * 2**20


@dataclass
class Tally:
    """What has happened so far."""

    statuses: collections.Counter[tuple[str, int]] = field(default_factory=collections.Counter)
    seconds: list[float] = field(default_factory=list)
    different: int = 0
    failures: list[str] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    head: bytes
    body: bytes


class Client:
    """One client's connection. As plain as can be: the clients should leave the machine to the server."""

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
        finally:
            if not sending.done():
                sending.cancel()
                self.close()
        return answer

    async def _send(self, writer: asyncio.StreamWriter, body: bytes, pieces: int, pause_seconds: float) -> None:
        size = -(-len(body) // pieces)
        for start in range(0, len(body), size):
            writer.write(body[start : start + size])
            await writer.drain()
            if pause_seconds:
                await asyncio.sleep(pause_seconds)

    def close(self) -> None:
        """Leave, whatever is on its way."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


@dataclass
class Load:
    """The clients' side: recordings, what the library says to each, and the tally."""

    url: str
    contents: list[bytes]
    expected: list[dict[str, float]]
    tally: Tally
    rng: np.random.Generator

    async def good(self, client: Client) -> None:
        """A recording that can be recognised; its time and its answer are checked."""
        index = int(self.rng.integers(len(self.contents)))
        started = time.monotonic()
        answer = await client.post("/v1/predict", self.contents[index])
        self._count("good", answer)
        if answer.status == 200:
            self.tally.seconds.append(time.monotonic() - started)
            self.tally.different += json.loads(answer.body)["probabilities"] != self.expected[index]

    async def timeline(self, client: Client) -> None:
        """All recordings one after the other."""
        content = np.concatenate([soundfile.read(io.BytesIO(content))[0] for content in self.contents[:12]])
        self._count("timeline", await client.post("/v1/timeline", wav(content)))

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
            self.tally.statuses["aborted", 0] += 1
            client.close()

    async def huge(self, client: Client) -> None:
        """A body beyond the limit."""
        self._count("huge", await client.post("/v1/predict", bytes(HUGE_BYTES), pieces=64))

    def _count(self, kind: str, answer: Answer) -> None:
        self.tally.statuses[kind, answer.status] += 1
        if answer.status >= 500 and b"retry-after" not in answer.head:
            self.tally.failures.append(f"{kind}: {answer.status} {answer.body.decode()}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="by default the bundled one")
    parser.add_argument("--folder", type=Path, help="recordings to send; by default noise of 1 to 8 s")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--mixed", action="store_true", help="also bad, slow, aborted and huge requests, and timelines")
    parser.add_argument("-o", "--out", type=Path, help="write load.json here")
    options = parser.parse_args()
    contents = recordings(options.folder)
    recognizer = Recognizer.load(options.model, threads=1)
    expected = [dict(recognizer.predict(content).probabilities) for content in contents]
    words = [sys.executable, "-m", "affekt", "serve", "--port", "0"]
    words += ["--model", str(options.model)] if options.model else []
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        load = Load(address(process), contents, expected, Tally(), np.random.default_rng(0))
        started = time.monotonic()
        recovery_seconds = asyncio.run(run(load, process.pid, options))
        facts = summary(load, options, time.monotonic() - started - recovery_seconds, recovery_seconds)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    report(facts, load.tally)
    if options.out:
        write_bytes(options.out / "load.json", json.dumps(facts, indent=1).encode())
    return int(bool(load.tally.failures or load.tally.different))


def recordings(folder: Path | None) -> list[bytes]:
    """What the clients send."""
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


def address(process: subprocess.Popen[str]) -> str:
    """Where the server says that it listens, once it is ready."""
    assert process.stdout
    found = re.search(r"http://[\w.:]+", process.stdout.readline())
    if found is None:
        raise SystemExit("the server did not start")
    wait_until_ready(found.group())
    return found.group()


def wait_until_ready(url: str, patience_seconds: float = 60.0) -> float:
    """Seconds until the server takes work."""
    started = time.monotonic()
    while time.monotonic() < started + patience_seconds:
        try:
            if httpx.get(f"{url}/readyz", timeout=1).status_code == 200:
                return time.monotonic() - started
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"the server is not ready after {patience_seconds:g} s")


async def run(load: Load, pid: int, options: argparse.Namespace) -> float:
    """All clients for the given time; then the seconds until the server is ready again."""
    end = time.monotonic() + options.seconds
    kinds = list(MIXED) if options.mixed else ["good"]
    shares = list(MIXED.values()) if options.mixed else [1.0]
    watch = asyncio.create_task(watch_memory(load.tally, pid))
    await asyncio.gather(*(one_client(load, kinds, shares, end) for _ in range(options.clients)))
    watch.cancel()
    return await asyncio.to_thread(wait_until_ready, load.url)


async def one_client(load: Load, kinds: Sequence[str], shares: Sequence[float], end: float) -> None:
    client = Client(int(load.url.rpartition(":")[2]))
    while time.monotonic() < end:
        ask: Callable[[Client], Awaitable[None]] = getattr(load, str(load.rng.choice(kinds, p=shares)))
        try:
            await ask(client)
        except (OSError, asyncio.IncompleteReadError) as error:
            load.tally.statuses[type(error).__name__, 0] += 1
            client.close()
    client.close()


async def watch_memory(tally: Tally, pid: int) -> None:
    while True:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        tally.memory_mib.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
        await asyncio.sleep(1)


def summary(load: Load, options: argparse.Namespace, seconds: float, recovery_seconds: float) -> dict[str, Any]:
    tally = load.tally
    p50, p95, p99 = np.percentile(tally.seconds, [50, 95, 99]) if tally.seconds else [float("nan")] * 3
    third = max(1, len(tally.memory_mib) // 3)
    return {
        "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "python": platform.python_version()},
        "affekt": __version__,
        "clients": options.clients,
        "mixed": options.mixed,
        "seconds": seconds,
        "answers": {f"{kind} {status}": count for (kind, status), count in sorted(tally.statuses.items())},
        "good_per_second": len(tally.seconds) / seconds,
        "p50_seconds": p50,
        "p95_seconds": p95,
        "p99_seconds": p99,
        "different": tally.different,
        "failures": len(tally.failures),
        "memory_mib": {
            "first_third": float(np.median(tally.memory_mib[:third])),
            "last_third": float(np.median(tally.memory_mib[-third:])),
            "peak": max(tally.memory_mib),
        },
        "recovery_seconds": recovery_seconds,
    }


def report(facts: dict[str, Any], tally: Tally) -> None:
    print(f"{facts['clients']} clients for {facts['seconds']:.0f} s on {facts['machine']['cpu']}")
    for name, count in facts["answers"].items():
        print(f"  {name:<24}{count:>8,}")
    print(f"  good answers a second   {facts['good_per_second']:>8.1f}")
    for name in ("p50", "p95", "p99"):
        print(f"  {name:<24}{1_000 * facts[f'{name}_seconds']:>8.0f} ms")
    print(f"  different from alone    {facts['different']:>8}")
    print(f"  5xx without Retry-After {facts['failures']:>8}")
    memory = ", ".join(f"{name.replace('_', ' ')} {value:.0f} MiB" for name, value in facts["memory_mib"].items())
    print(f"  server's memory: {memory}")
    print(f"  ready again after {facts['recovery_seconds']:.2f} s")
    print("\n".join(tally.failures[:10]))


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return found.group(1) if found else platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
