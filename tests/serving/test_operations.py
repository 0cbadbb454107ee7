"""Operations: request ids, the access log, the model on every answer, metrics summed over workers, examples."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from affekt.recognition.recognizer import Recognizer
from affekt.runtime.logs import JsonFormatter
from affekt.serving import access_log
from affekt.serving.app import create_app
from affekt.serving.settings import ServerSettings

Serve = Callable[..., TestClient]
Record = Callable[..., bytes]
HOST = {"host": "127.0.0.1"}


def facts_of(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.facts for record in caplog.records if record.name == access_log.LOG.name]  # type: ignore[attr-defined]


@pytest.fixture
def logged(recognizer: Recognizer, caplog: pytest.LogCaptureFixture) -> TestClient:
    caplog.set_level(logging.INFO, access_log.LOG.name)
    return TestClient(create_app(recognizer, ServerSettings(), access_log=True), base_url="http://127.0.0.1")


class TestAccessLog:
    def test_a_request_is_one_line_with_its_duration_and_id(
        self, logged: TestClient, recording: Record, caplog: pytest.LogCaptureFixture
    ) -> None:
        with logged as client:
            answer = client.post("/v1/predict?min_confidence=0.3", content=recording(1.0))
        (facts,) = facts_of(caplog)
        assert (facts["method"], facts["path"], facts["status"]) == ("POST", "/v1/predict", 200)
        assert 0 < facts["milliseconds"] < 60_000
        assert facts["request_id"] == answer.headers["x-request-id"]
        assert facts["client"].startswith("testclient:")

    def test_refused_requests_and_streams_are_logged_too(
        self, logged: TestClient, recording: Record, caplog: pytest.LogCaptureFixture
    ) -> None:
        with logged as client:
            client.post("/v1/predict", content=b"")
            client.get("/v1/model", headers={"host": "evil.example"})
            with client.websocket_connect("/v1/stream", headers=HOST) as socket:
                socket.send_text("end")
                socket.receive()
        assert [facts["status"] for facts in facts_of(caplog)] == [400, 421, 101]

    def test_nothing_is_logged_unless_asked(self, client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, access_log.LOG.name)
        assert client.get("/healthz").status_code == 200
        assert facts_of(caplog) == []

    def test_a_path_cannot_forge_lines(self) -> None:
        facts = {"client": "a:1", "method": "GET", "path": "/\r\nb:2 GET / 200", "status": 404}
        facts |= {"milliseconds": 0.1, "request_id": "x"}
        line = access_log.TextFormatter().format(logging.makeLogRecord({"facts": facts}))
        assert "\n" not in line
        assert "\r" not in line

    def test_lines_of_a_real_server(self, model: Path, run_server: Callable[..., Any]) -> None:
        with run_server(model, "--access-log") as server:
            answer = httpx.get(f"{server.url}/healthz", headers={"x-request-id": "abc-1"})
            server.process.send_signal(signal.SIGTERM)
            _, errors = server.process.communicate(timeout=20)
        (line,) = [line for line in errors.splitlines() if "/healthz" in line]
        assert re.fullmatch(r"127\.0\.0\.1:\d+ GET /healthz 200 [\d.]+ ms id=abc-1", line), line
        assert answer.headers["x-request-id"] == "abc-1"

    def test_as_json_every_fact_has_its_name(self) -> None:
        config = access_log.logging_config(access_log=True, as_json=True)
        assert config["formatters"]["access"] == {"()": "affekt.runtime.logs.JsonFormatter"}
        record = logging.makeLogRecord({"msg": "request", "levelname": "INFO", "facts": {"status": 200}})
        line = json.loads(JsonFormatter().format(record))
        assert (line["message"], line["status"]) == ("request", 200)


class TestIdentity:
    def test_a_proxys_id_is_kept_and_a_strange_one_replaced(self, client: TestClient) -> None:
        assert client.get("/healthz", headers={"x-request-id": "4bf92f35"}).headers["x-request-id"] == "4bf92f35"
        made = client.get("/healthz", headers={"x-request-id": "a b" * 50}).headers["x-request-id"]
        assert re.fullmatch(r"[0-9a-f]{16}", made)
        assert made != client.get("/healthz").headers["x-request-id"]

    def test_every_answer_of_the_api_names_the_model(
        self, client: TestClient, recording: Record, recognizer: Recognizer
    ) -> None:
        content, identity = recording(1.0), recognizer.identity
        for path in ("/v1/predict", "/v1/timeline", "/v1/timeline?format=csv", "/v1/timeline?format=rttm"):
            assert client.post(path, content=content).headers["x-affekt-model"] == identity, path
        assert client.post("/v1/predict", content=b"").headers["x-affekt-model"] == identity  # an error
        assert client.get("/v1/model").json()["model"] == identity
        assert client.post("/v1/predict", content=content).json()["model"] == identity
        assert client.post("/v1/timeline", content=content).json()["overall"]["model"] == identity
        assert "x-affekt-model" not in client.get("/healthz").headers
        with client.websocket_connect("/v1/stream?rate=16000", headers=HOST) as socket:
            socket.send_bytes(content[44:])
            assert json.loads(socket.receive_text())["model"] == identity

    def test_an_internal_error_names_its_request(
        self, serve: Serve, recording: Record, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(Recognizer, "waveform", fail)
        answer = serve().post("/v1/predict", content=recording(0.5), headers={"x-request-id": "find-me"})
        assert (answer.status_code, answer.json()["got"]) == (500, "an internal error")
        assert any("find-me" in record.getMessage() for record in caplog.records)


def values(page: str, name: str) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in page.splitlines() if line.startswith(name))
    return {series: float(value) for series, _, value in lines}


def test_metrics_are_summed_over_workers(
    model: Path, run_server: Callable[..., Any], recording: Record, eventually: Callable[..., bool]
) -> None:
    """Whichever worker answers, it counts the requests of both, also of one that was killed."""
    content, asked = recording(0.5), 12
    with run_server(model, "--workers", "2") as server:

        def page() -> str:
            return httpx.get(f"{server.url}/metrics").text

        assert eventually(lambda: values(page(), "affekt_workers") == {"affekt_workers": 2.0}, 30)
        for _ in range(asked):  # a connection each, so that both workers get some
            assert httpx.post(f"{server.url}/v1/predict", content=content).status_code == 200
        counted = [values(page(), 'affekt_requests_total{path="/v1/predict"') for _ in range(6)]
        assert [list(found.values()) for found in counted] == [[float(asked)]] * 6
        assert set(values(page(), "affekt_predictions_inside").values()) == {0.0}
        assert values(page(), 'affekt_request_seconds_count{path="/v1/predict"}').popitem()[1] == asked
        workers = children(server.process.pid)
        os.kill(workers[0], signal.SIGKILL)
        assert eventually(
            lambda: len(children(server.process.pid)) == 2 and workers[0] not in children(server.process.pid), 30
        )
        assert eventually(lambda: values(page(), "affekt_workers") == {"affekt_workers": 2.0}, 30)
        assert list(values(page(), 'affekt_requests_total{path="/v1/predict"').values()) == [float(asked)]


def children(parent: int) -> list[int]:
    """Processes with listening workers among a process's children; spawn's resource tracker is not one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
            words = path.with_name("cmdline").read_text()
        except OSError:
            continue
        if int(text.rpartition(")")[2].split()[1]) == parent and "spawn_main" in words:
            found.append(int(path.parent.name))
    return sorted(found)


def test_the_description_has_an_example_of_every_answer(client: TestClient) -> None:
    description = client.get("/openapi.json").json()
    for path in ("/v1/predict", "/v1/timeline"):
        responses = description["paths"][path]["post"]["responses"]
        for status, response in responses.items():
            media = response["content"]["application/json"]
            assert media.get("example") or media.get("examples"), (path, status)
    assert description["paths"]["/v1/model"]["get"]["responses"]["200"]["content"]["application/json"]["examples"]


def test_examples_have_the_shape_of_real_answers(client: TestClient, recording: Record) -> None:
    """The keys of an example are the keys of an answer."""
    description = client.get("/openapi.json").json()

    def examples(path: str, method: str = "post") -> list[dict[str, Any]]:
        media = description["paths"][path][method]["responses"]["200"]["content"]["application/json"]
        return [example["value"] for example in media["examples"].values()]

    content = recording(2.0)
    for path in ("/v1/predict", "/v1/timeline"):
        got = client.post(path, content=content).json()
        for example in examples(path):
            assert {key for key, value in got.items() if value is not None} <= set(example) | {"reason"}, path
            assert set(example) <= set(got), path
    (model,) = examples("/v1/model", "get")
    got = client.get("/v1/model").json()
    assert set(model) == set(got)
    assert set(model["limits"]) == set(got["limits"])
    assert set(model["card"]) <= set(got["card"])


def test_the_reference_page_shows_them(client: TestClient) -> None:
    page = client.get("/docs").text
    assert page.count("Example answer: ") == 4  # two predictions, a timeline, a model
    assert "&quot;reason&quot;: &quot;low confidence&quot;" in page
