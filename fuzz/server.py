"""A server to fuzz: HTTP requests and WebSocket conversations."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from affekt.errors import AffektError
from affekt.serving.app import create_app
from affekt.serving.settings import Limits, ServerSettings
from fuzz.model_files import recognizer
from fuzz.mutations import TEXTS, mutated
from fuzz.recordings import check_prediction, recordings, voice

PROBLEM_KEYS = {"what", "got", "expected", "remedy", "also"}


@dataclass
class _Server:
    """The application in this process, started at the first request."""

    clients: list[TestClient] = field(default_factory=list)

    def client(self) -> TestClient:
        if not self.clients:
            limits = Limits(body_bytes=2**20, pending_bytes=2**20, timeline_seconds=60, work_seconds=4)
            app = create_app(recognizer(), ServerSettings(limits=limits, threads=1))
            self.clients.append(TestClient(app, base_url="http://127.0.0.1").__enter__())
        return self.clients[0]


SERVER = _Server()
PATHS = ("/v1/predict", "/v1/timeline", "/v1/model", "/v1/stream", "/", "/docs", "/page/../../x", "/page/%2e%2e/%00")
HEADERS = st.dictionaries(
    st.sampled_from(
        ["content-type", "content-length", "origin", "host", "authorization", "expect", "range", "x-request-id", "x"]
    ),
    st.sampled_from(
        ["multipart/form-data", "multipart/form-data; boundary=x", "1e9", "-1", "null", "127.0.0.1", "a" * 99]
    ),
    max_size=2,
)
QUERIES = st.dictionaries(
    st.sampled_from(["min_confidence", "window_seconds", "hop_seconds", "activity", "format", "include", "rate", "x"]),
    st.sampled_from(
        ["0", "0.1", "1", "60", "nan", "inf", "-1", "1e999", "csv", "html", "none", "silero", "envelope", ""]
    ),
    max_size=3,
)


def requests() -> SearchStrategy[dict[str, Any]]:
    fields = TEXTS | st.sampled_from(["file", "baseline"])
    part = st.builds(
        lambda name, kind, body: (
            b"--x\r\ncontent-disposition: form-data; name=%s; filename=%s\r\n\r\n%s\r\n"
            % (kind.encode("utf-8", "replace"), name.encode("utf-8", "replace"), body)
        ),
        TEXTS,
        fields,
        mutated(recordings()),
    )
    form = st.lists(part, min_size=1, max_size=3).map(lambda parts: b"".join(parts) + b"--x--\r\n")
    bodies = mutated(recordings()) | form | mutated([b"--x\r\na: b\r\n\r\nc\r\n--x--\r\n"]) | st.binary(max_size=64)
    methods = st.sampled_from(["POST", "POST", "POST", "GET", "PUT", "OPTIONS", "HEAD"])
    parts = {"method": methods, "url": st.sampled_from(PATHS), "headers": HEADERS, "params": QUERIES, "content": bodies}
    return st.fixed_dictionaries(parts)


def use_request(request: dict[str, Any], folder: Path) -> None:
    answer = SERVER.client().request(**request)
    assert answer.status_code < 500 or (answer.status_code == 503 and "retry-after" in answer.headers), answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    if answer.status_code >= 400 and request["method"] != "HEAD" and answer.headers["content-type"] != "text/plain":
        assert set(answer.json()) >= PROBLEM_KEYS or answer.status_code == 400, answer.text
    if answer.status_code >= 400:
        raise AffektError("request", got=str(answer.status_code))
    if request["url"] == "/v1/predict" and request["method"] == "POST":
        check_prediction(answer.json())


def conversations() -> SearchStrategy[tuple[dict[str, str], list[bytes | str]]]:
    odd = [np.full(20_000, value, "<f4").tobytes() for value in (np.nan, np.inf, 3e38, 1e-44, -1e30)]
    known = {
        "rate": st.sampled_from(["16000", "1000", "768000", "44100"]),
        "encoding": st.sampled_from(["f32le", "s16le"]),
        "hop_seconds": st.sampled_from(["0.25", "0.3", "1"]),
        "activity": st.sampled_from(["none", "energy"]),
    }
    messages = st.lists(mutated([*SAMPLES, *odd]) | TEXTS.filter(lambda text: text.isprintable()), max_size=5)
    return st.tuples(st.fixed_dictionaries({}, optional=known) | QUERIES, messages)


def use_stream(conversation: tuple[dict[str, str], list[bytes | str]], folder: Path) -> None:
    query, messages = conversation
    try:
        with SERVER.client().websocket_connect("ws://127.0.0.1/v1/stream", params=query) as socket:
            for message in messages:
                socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message)
            socket.send_text("end")
            for line in _lines(socket):
                known = json.loads(line, parse_constant=_refuse_constant)
                check_prediction(known) if "label" in known else known["what"]
    except WebSocketDenialResponse as refused:
        if refused.status_code != 422:
            raise
        raise AffektError("stream", got="422") from refused


def _lines(socket: Any) -> Iterator[str]:
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            yield socket.receive_text()


def _refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


SAMPLES = (voice(1.0).astype("<f4").tobytes(), (voice(1.0) * 32_767).astype("<i2").tobytes())


GOOD_REQUEST = {"method": "POST", "url": "/v1/predict", "headers": {}, "params": {}}
