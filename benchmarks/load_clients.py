"""Clients of a server under load: what they send, and what they note of the answers."""

from __future__ import annotations

import asyncio
import collections
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np

HUGE_BYTES = 80 * 2**20


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


async def watch_lateness(tally: Tally) -> None:
    """Measure the delay of the clients' own event loop: so much of the times measured may be theirs."""
    while True:
        due = time.monotonic() + 0.05
        await asyncio.sleep(0.05)
        tally.late_seconds.append(time.monotonic() - due)
