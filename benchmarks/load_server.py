"""A server under load: `affekt serve` in its own processes, watched from outside."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.load_clients import Tally

REPLACED_SECONDS = 30.0  # within which a killed worker must have a successor


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


async def watch_workers(server: Server, tally: Tally) -> None:
    """Record the server's processes and their memory."""
    while True:
        tally.workers.update(server.workers())
        tally.memory_mib.append(server.memory_mib())
        await asyncio.sleep(0.5)
