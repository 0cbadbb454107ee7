"""A real server on a real socket: concurrent, slow and misbehaving clients, and the shutdown."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import websockets
from websockets.asyncio.client import connect

from affekt.recognition.recognizer import Recognizer
from affekt.serving.app import create_app
from affekt.serving.run import listen, make_server
from affekt.serving.settings import Limits, ServerSettings

Record = Callable[..., bytes]
PATIENCE_SECONDS = 1.0
CONNECTIONS = 80


@pytest.fixture(scope="module")
def server(model: Path, run_server: Callable[..., Any]) -> Iterator[Any]:
    """One with the limits that users get."""
    with run_server(model) as running:
        yield running


@dataclass(frozen=True)
class Thread:
    """A server in a thread of the test's own process."""

    url: str
    server: uvicorn.Server

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)


@pytest.fixture(scope="module")
def impatient(recognizer: Recognizer, eventually: Callable[..., bool]) -> Iterator[Thread]:
    """One that loses patience with clients after a second."""
    limits = Limits(header_seconds=PATIENCE_SECONDS, idle_seconds=PATIENCE_SECONDS, connections=CONNECTIONS)
    settings = ServerSettings(limits=limits)
    server = make_server(create_app(recognizer, settings), settings)
    with listen("127.0.0.1", 0) as listener, ThreadPoolExecutor(1) as pool:
        listener.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, 2**14
        )  # connections inherit it: answers wait for readers
        running = pool.submit(server.run, sockets=[listener])
        assert eventually(lambda: server.started)
        yield Thread(f"http://127.0.0.1:{listener.getsockname()[1]}", server)
        server.should_exit = True
        running.result(30)


def answer_to(server: Any, *messages: bytes, pause_seconds: float = 0.0) -> bytes:
    """Send bytes and read until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        for message in messages:
            client.sendall(message)
            time.sleep(pause_seconds)
        received = b""
        while piece := client.recv(2**16):
            received += piece
        return received


def head(path: str, length: int | str, *lines: str) -> bytes:
    size = f"content-length: {length}" if length != "chunked" else "transfer-encoding: chunked"
    return "\r\n".join([f"POST {path} HTTP/1.1", "host: 127.0.0.1", size, *lines, "", ""]).encode()


def measure(server: Any, name: str) -> float:
    page = httpx.get(f"{server.url}/metrics").text
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name))


def resident_mib(server: Any) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def test_memory_of_large_bodies_is_released(
    model: Path, run_server: Callable[..., Any], recording: Record, eventually: Callable[..., bool]
) -> None:
    recordings = [recording(seconds) for seconds in (1.0, 4.0, 7.5)]
    contents = [recordings[index % 3] + bytes(2**19 * (index * 7 % 40)) for index in range(64)]  # up to 20 MiB
    with run_server(model) as server, httpx.Client(timeout=60) as client, ThreadPoolExecutor(8) as pool:

        def ask(content: bytes) -> int:
            return client.post(f"{server.url}/v1/predict", content=content).status_code

        assert set(pool.map(ask, [recording(7.5)] * 16)) == {200}
        before = resident_mib(server)
        assert set(pool.map(ask, contents)) == {200}
        assert eventually(lambda: resident_mib(server) < before + 48), (before, resident_mib(server))


def test_answers_are_sent_without_delay(impatient: Thread, eventually: Callable[..., bool]) -> None:
    """Otherwise TCP keeps a small answer until the client has acknowledged the headers, some 40 ms later."""
    with socket.create_connection(("127.0.0.1", impatient.port)):
        assert eventually(lambda: impatient.connections)
        (connection,) = impatient.server.server_state.connections
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_64_concurrent_clients_get_the_same_answers(server: Any, recognizer: Recognizer, recording: Record) -> None:
    contents = [recording(0.5 + 0.1 * (index % 8), seed=index) for index in range(16)]
    alone = [recognizer.predict(content).probabilities for content in contents]

    async def ask(client: httpx.AsyncClient, index: int) -> tuple[int, int, dict[str, float]]:
        answer = await client.post("/v1/predict", content=contents[index % 16])
        return index % 16, answer.status_code, answer.json()["probabilities"]

    async def crowd() -> list[tuple[int, int, dict[str, float]]]:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=60) as client:
            return await asyncio.gather(*(ask(client, index) for index in range(128)))

    answers = asyncio.run(crowd())
    assert {status for _, status, _ in answers} == {200}
    assert all(probabilities == alone[index] for index, _, probabilities in answers)
    assert measure(server, "affekt_batch_size_sum") > measure(server, "affekt_batch_size_count")


@pytest.mark.parametrize("start", [b"POST /v1/predict HT", b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx-a: "])
def test_an_unfinished_head_is_refused(impatient: Thread, start: bytes) -> None:
    answer = answer_to(impatient, start)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["got"] == "no whole request within 1 s"


def test_a_trickling_head_is_refused_in_the_same_time(impatient: Thread) -> None:
    started = time.monotonic()
    try:
        answer_to(impatient, b"GET / HTTP/1.1\r\n", *[b"x-a: b\r\n"] * 60, pause_seconds=0.1)
    except ConnectionError:
        pass
    else:
        pytest.fail("the whole head was taken")
    assert time.monotonic() - started < 5


def test_a_silent_client_is_disconnected(impatient: Thread) -> None:
    assert answer_to(impatient) == b""


def test_an_unfinished_second_head_is_disconnected(impatient: Thread) -> None:
    answer = answer_to(impatient, b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", b"GET /hea", pause_seconds=0.2)
    assert answer.count(b"HTTP/1.1 ") == 1


def test_an_endless_head_is_refused(impatient: Thread) -> None:
    try:
        answer = answer_to(impatient, b"GET / HTTP/1.1\r\nx: ", *[b"x" * 65_536] * 10)
    except ConnectionError:
        return
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_body_that_stops_is_refused(impatient: Thread, recording: Record) -> None:
    content = recording(1.0)
    answer = answer_to(impatient, head("/v1/predict", len(content)) + content[: len(content) // 2])
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_body_too_large_is_refused_while_the_client_sends(impatient: Thread) -> None:
    pieces = [b"10000\r\n" + bytes(2**16) + b"\r\n"] * 1_100
    answer = answer_to(impatient, head("/v1/predict", "chunked"), *pieces, b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_client_that_does_not_read_is_disconnected(impatient: Thread, eventually: Callable[..., bool]) -> None:
    before = impatient.connections
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=5) as client:
        client.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" * 1_200)  # some 12 MB of answers
        assert eventually(lambda: impatient.connections > before)
        assert eventually(lambda: impatient.connections <= before)


def test_a_slow_reader_gets_the_whole_answer(impatient: Thread, recording: Record) -> None:
    content = recording(240.0, 8_000)
    request = (
        head("/v1/timeline?hop_seconds=0.1&activity=none&include=csv", len(content), "connection: close") + content
    )
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
        client.connect(("127.0.0.1", impatient.port))
        client.settimeout(30)
        client.sendall(request)
        received = client.recv(2**14)
        length = int(received.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        started = time.monotonic()
        while piece := client.recv(2**14):
            received += piece
            if time.monotonic() < started + 2.5 * PATIENCE_SECONDS:
                time.sleep(0.1)
    assert length > 300_000
    assert len(received.partition(b"\r\n\r\n")[2]) == length


def test_connections_are_bounded_and_released(impatient: Thread, eventually: Callable[..., bool]) -> None:
    held = [socket.create_connection(("127.0.0.1", impatient.port), timeout=10) for _ in range(CONNECTIONS)]
    refused = answer_to(impatient)
    for client in held:
        client.close()
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 2\r\n" in refused
    assert eventually(lambda: httpx.get(f"{impatient.url}/readyz").status_code == 200)


@pytest.fixture
def held(impatient: Thread, eventually: Callable[..., bool]) -> Iterator[None]:
    """All connections that there may be, held by others."""
    assert eventually(lambda: impatient.connections == 0)
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(socket.create_connection(("127.0.0.1", impatient.port), timeout=10))
        assert eventually(lambda: impatient.connections == CONNECTIONS)
        yield


def test_a_refused_client_can_read_the_reason_while_sending(impatient: Thread, held: None) -> None:
    answer = answer_to(impatient, head("/v1/predict", 2**20), *[bytes(2**17)] * 4, pause_seconds=0.05)
    assert answer.startswith(b"HTTP/1.1 503 ")


def test_requests_of_refused_clients_are_not_processed(impatient: Thread, held: None) -> None:
    def counted() -> list[str]:
        page = impatient.server.config.app.state.service.metrics.page().decode()  # type: ignore[union-attr]
        return [line for line in page.splitlines() if line.startswith("affekt_requests_total")]

    before = counted()
    assert answer_to(impatient, head("/v1/timeline", 4) + b"RIFF").startswith(b"HTTP/1.1 503 ")
    assert counted() == before


def test_a_refused_client_that_stays_is_disconnected(
    impatient: Thread, held: None, eventually: Callable[..., bool]
) -> None:
    closing = impatient.server.lifespan.state["closing"]
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=10) as client:
        assert eventually(lambda: len(closing) == 1)
        assert impatient.connections == CONNECTIONS  # it takes nobody's place
        assert eventually(lambda: not closing)
        assert client.recv(2**16).startswith(b"HTTP/1.1 503 ")


def test_connections_that_are_closing_are_bounded_too(
    impatient: Thread, held: None, eventually: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("affekt.serving.connection.REFUSED_SECONDS", 20.0)
    closing = impatient.server.lifespan.state["closing"]
    with ExitStack() as stack:
        refused = [
            stack.enter_context(socket.create_connection(("127.0.0.1", impatient.port), timeout=10))
            for _ in range(CONNECTIONS)
        ]
        assert all(client.recv(2**16).startswith(b"HTTP/1.1 503 ") for client in refused)
        assert len(closing) == CONNECTIONS // 2
    assert eventually(lambda: not closing)  # as soon as they leave


def test_a_lagging_loop_accepts_fewer_connections(impatient: Thread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impatient.server.lifespan.state["lag"], "capacity", lambda most: 0)
    answer = answer_to(impatient)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["expected"] == "at most 0"


def test_a_request_refused_unread_leaves_a_usable_connection(
    impatient: Thread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(impatient.server.config.app.state.service.predictions, "_most", 0)  # type: ignore[union-attr]
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=10) as client:
        client.sendall(head("/v1/predict", 2**18) + bytes(2**17))
        refused = client.recv(2**16)
        client.sendall(bytes(2**17) + b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
        rest = b""
        while piece := client.recv(2**16):
            rest += piece
    assert refused.startswith(b"HTTP/1.1 429 ")
    assert b"HTTP/1.1 200 " in rest


def test_a_refused_body_that_does_not_end_is_disconnected(impatient: Thread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impatient.server.config.app.state.service.predictions, "_most", 0)  # type: ignore[union-attr]
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=10) as client, suppress(ConnectionError):
        client.sendall(head("/v1/predict", 2**30))
        assert client.recv(2**16).startswith(b"HTTP/1.1 429 ")
        while time.monotonic() < started + 20:
            client.sendall(bytes(2**10))
            time.sleep(0.05)
    assert time.monotonic() - started < 15


def test_disconnected_clients_release_their_slots(
    server: Any, recording: Record, eventually: Callable[..., bool]
) -> None:
    content = recording(300.0, 8_000)
    for part in (len(content) // 3, len(content)):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(head("/v1/timeline?hop_seconds=0.1", len(content)) + content[:part])
            time.sleep(0.2)
    assert eventually(lambda: measure(server, "affekt_timelines_inside") == measure(server, "affekt_upload_bytes") == 0)
    assert measure(server, 'affekt_requests_total{path="/v1/timeline",status="499"}') >= 1


def test_a_stream_over_a_socket(server: Any, recording: Record) -> None:
    async def listen() -> list[str]:
        async with connect(server.url.replace("http", "ws") + "/v1/stream?hop_seconds=0.5") as stream:
            await stream.send(recording(2.0)[44:])
            await stream.send("end")
            return [str(line) async for line in stream]

    lines = [json.loads(line) for line in asyncio.run(listen())]
    assert [line["end_seconds"] for line in lines] == [0.5, 1.0, 1.5, 2.0]


def test_a_message_too_large_closes_its_stream_only(server: Any) -> None:
    async def shout() -> int:
        async with connect(server.url.replace("http", "ws") + "/v1/stream") as stream:
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await asyncio.gather(stream.send(bytes(2**21)), stream.recv())
            assert closed.value.rcvd
            return closed.value.rcvd.code

    assert asyncio.run(shout()) == 1009
    assert httpx.get(f"{server.url}/readyz").status_code == 200


def test_shutdown_waits_for_requests_in_flight(
    model: Path, run_server: Callable[..., Any], recording: Record, eventually: Callable[..., bool]
) -> None:
    content = recording(300.0, 8_000)
    with run_server(model) as server, ThreadPoolExecutor(1) as pool:
        options = {"params": {"hop_seconds": 0.1, "activity": "none"}, "content": content, "timeout": 60}
        answer = pool.submit(httpx.post, f"{server.url}/v1/timeline", **options)
        assert eventually(lambda: measure(server, "affekt_timelines_inside") == 1)
        server.process.send_signal(signal.SIGTERM)
        assert answer.result().status_code == 200
        assert answer.result().json()["duration_seconds"] == 300
        server.process.wait(20)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/healthz")
        assert server.process.stderr.read() == ""


def test_unfinished_requests_get_503_at_shutdown(
    model: Path, run_server: Callable[..., Any], recording: Record, eventually: Callable[..., bool]
) -> None:
    content = recording(600.0, 8_000)
    with run_server(model, "--limits.shutdown-seconds", "1") as server, ThreadPoolExecutor(1) as pool:
        options = {"params": {"hop_seconds": 0.1, "activity": "none"}, "content": content, "timeout": 60}
        answer = pool.submit(httpx.post, f"{server.url}/v1/timeline", **options)
        assert eventually(lambda: measure(server, "affekt_timelines_inside") == 1)
        server.process.send_signal(signal.SIGTERM)
        assert answer.result().status_code == 503
        assert answer.result().headers["retry-after"] == "10"


def test_a_worker_that_is_killed_is_replaced(
    model: Path, run_server: Callable[..., Any], recording: Record, eventually: Callable[..., bool]
) -> None:
    token = "correct-horse-battery"
    with run_server(model, "--workers", "2", token=token) as server:
        assert eventually(lambda: len(workers_of(server.process.pid)) == 2)
        first = workers_of(server.process.pid)
        os.kill(first[0], signal.SIGKILL)
        assert eventually(lambda: len(set(workers_of(server.process.pid)) - set(first)) == 1, patience_seconds=30)
        headers = {"authorization": f"Bearer {token}"}
        options = {"content": recording(0.5), "headers": headers, "timeout": 60}
        statuses = [httpx.post(f"{server.url}/v1/predict", **options).status_code for _ in range(4)]
        assert statuses == [200] * 4
        assert httpx.get(f"{server.url}/v1/model").status_code == 401


def workers_of(parent: int) -> list[int]:
    """Processes that multiprocessing has spawned for it."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--host", "0.0.0.0"], "expected a token; set AFFEKT_TOKEN"),
        (["--host", "203.0.113.1", "--open-to-all"], "listen at 203.0.113.1"),
        (["--port", "99999"], "port: got 99999"),
        (["--workers", "0"], "workers: got 0"),
        (["--limits.streams", "0"], "limits: streams: got 0"),
        (["--token-file", "absent.txt"], "No such file: absent.txt"),
        (["--model", "absent.onnx"], "No such file: absent.onnx"),
    ],
)
def test_invalid_options_are_one_line(
    model: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    from affekt.cli import main

    chosen = [] if "--model" in options else ["--model", str(model)]
    assert main(["serve", *chosen, *options]) == 2
    assert says in capsys.readouterr().err


def test_a_port_in_use_is_one_line(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from affekt.cli import main

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--model", str(model), "--port", str(port)]) == 2
    assert f"another port: --port {port + 1}" in capsys.readouterr().err


def test_the_server_starts_without_torch_and_pandas() -> None:
    program = "import sys, affekt.serving.run; print({'torch', 'pandas', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
