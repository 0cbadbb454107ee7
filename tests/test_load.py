"""The load test, short: it runs, checks what it promises, and notices a server that does not keep to it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.load import CHECKS, summary
from benchmarks.load_clients import Answer, Client, Load, Tally, watch_lateness


def test_a_server_keeps_to_it_at_twice_its_capacity(small_model: Path, tmp_path: Path) -> None:
    words = ["-m", "benchmarks.load", "--model", str(small_model), "--clients", "16", "--seconds", "2"]
    command = [sys.executable, *words, "--minutes", "0.1", "-o", str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "load.json").read_text())["rows"]
    assert rows["good"]["good_per_second"] > 0
    assert rows["mixed"]["arrivals_per_second"] == pytest.approx(2 * rows["good"]["good_per_second"], rel=0.5)
    assert rows["mixed"]["replaced_seconds"] > 0
    kinds = {name.partition(" ")[0] for name in rows["mixed"]["answers"]}
    assert {"good", "bad", "huge", "slow"} <= kinds
    assert "BROKEN" not in done.stdout


def row(**changes: Any) -> dict[str, Any]:
    memory = {"first_third": 100.0, "second_third": 100.0, "last_third": 100.0, "peak": 100.0}
    usual = {
        "seconds": 600.0,
        "good_per_second": 1.0,
        "errors": [],
        "different": 0,
        "memory_mib": memory,
        "recovery_seconds": 0.1,
        "p99_seconds": 1.0,
        "processes": 3,
    }
    return usual | {"replaced_seconds": 3.0, "workers": 2} | changes


@pytest.mark.parametrize(
    ("broken", "changes"),
    [
        ("good requests were answered", {"good_per_second": 0.0}),
        ("no 5xx, but 503 with Retry-After; no 429 without", {"errors": ["good: 500"]}),
        ("answers equal those alone, bit for bit", {"different": 1}),
        ("99 of 100 good answers within 10 s", {"p99_seconds": 10.1}),
        ("memory is flat", {"memory_mib": {"second_third": 100.0, "last_third": 150.0}}),
        ("ready again within 5 s", {"recovery_seconds": 5.1}),
        ("a killed worker was replaced", {"replaced_seconds": None}),
        ("no other worker died", {"processes": 4}),
    ],
)
def test_what_a_server_does_not_keep_to_is_seen(broken: str, changes: dict[str, Any]) -> None:
    assert [check for check, holds in CHECKS.items() if not holds(row())] == []
    assert [check for check, holds in CHECKS.items() if not holds(row(**changes))] == [broken]


def test_what_counts_as_an_error() -> None:
    load = Load(0, [], [], b"", np.random.default_rng(0))
    load.tally.memory_mib = [1.0, 1.0, 1.0]
    for status, head in ((200, b""), (422, b""), (429, b"retry-after: 1"), (503, b"retry-after: 1")):
        load._count("good", Answer(status, head, b""))
    assert load.tally.errors == []
    for status, head in ((500, b""), (500, b"retry-after: 1"), (503, b""), (429, b""), (502, b"")):
        load._count("good", Answer(status, head, b""))
    assert len(load.tally.errors) == 5
    counts = {200: 1, 422: 1, 429: 2, 500: 2, 502: 1, 503: 2}
    assert summary(load.tally, 1.0)["answers"] == {f"good {status}": count for status, count in counts.items()}


def test_times_of_answers_and_of_refusals_are_told_apart() -> None:
    class Ready(Client):
        async def post(self, path: str, body: bytes, pieces: int = 1, pause_seconds: float = 0.0) -> Answer:
            return answers.pop()

    said = Answer(200, b"", json.dumps({"probabilities": {"sad": 1.0}}).encode())
    answers = [Answer(429, b"retry-after: 1", b""), said, said]
    load = Load(0, [b"", b""], [{"sad": 1.0}] * 2, b"", np.random.default_rng(0))
    for _ in range(3):
        asyncio.run(load.good(Ready(0)))
    assert (len(load.tally.seconds), len(load.tally.refused_seconds), load.tally.different) == (2, 1, 0)
    load.tally.seconds, load.tally.refused_seconds, load.tally.late_seconds = [1.0, 1.0], [0.25], [0.125]
    load.tally.memory_mib, load.tally.workers = [1.0, 1.0, 1.0], {7, 8}
    row = summary(load.tally, 1.0)
    assert (row["p50_seconds"], row["p99_seconds"], row["refused_p99_seconds"]) == (1.0, 1.0, 0.25)
    assert (row["clients_late_p99_seconds"], row["processes"]) == (0.125, 2)


def test_how_late_the_clients_are_is_watched() -> None:
    tally = Tally()

    async def be_late() -> None:
        watching = asyncio.create_task(watch_lateness(tally))
        await asyncio.sleep(0)
        time.sleep(0.3)
        while not tally.late_seconds:
            await asyncio.sleep(0)
        watching.cancel()

    asyncio.run(asyncio.wait_for(be_late(), 20))
    assert tally.late_seconds[0] > 0.2


def test_a_connection_that_the_server_closes_is_not_used_again() -> None:
    ways: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ways.append("new")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await asyncio.sleep(0.1)  # the server is slow to close it

    async def ask_twice() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        client = Client(server.sockets[0].getsockname()[1])
        assert [(await asyncio.wait_for(client.post("/", b""), 5)).status for _ in range(2)] == [503, 503]
        server.close()

    asyncio.run(ask_twice())
    assert ways == ["new", "new"]
