"""Every limit is reached once, and answered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from affekt.errors import AffektError, ConfigError
from affekt.recognition.recognizer import Recognizer
from affekt.serving.access_control import AccessControl
from affekt.serving.admission import AdmissionControl, UploadBudget
from affekt.serving.problems import RequestError
from affekt.serving.prometheus import Metrics
from affekt.serving.settings import Limits, ServerSettings
from affekt.serving.uploads import receive_upload

Record = Callable[..., bytes]
Serve = Callable[..., TestClient]


class TestBody:
    def test_a_declared_length_too_large_is_refused_unread(self, serve: Serve, recording: Record) -> None:
        content = recording(1.0)
        assert serve(body_bytes=len(content)).post("/v1/predict", content=content).status_code == 200
        answer = serve(body_bytes=len(content) - 1).post("/v1/predict", content=content)
        assert (answer.status_code, answer.json()["got"]) == (413, f"{len(content)} bytes")

    def test_an_undeclared_length_too_large_is_refused(self, serve: Serve) -> None:
        def pieces() -> Iterator[bytes]:
            yield from [b"x" * 1_000] * 11

        answer = serve(body_bytes=10_000).post("/v1/predict", content=pieces())
        assert (answer.status_code, answer.json()["what"]) == (413, "body")

    def test_a_form_is_bounded_like_raw_bytes(self, serve: Serve, recording: Record) -> None:
        content = recording(1.0)
        answer = serve(body_bytes=len(content)).post("/v1/timeline", files={"file": ("a.wav", content)})
        assert answer.status_code == 413

    def test_all_uploads_together_are_bounded(self, serve: Serve, recording: Record) -> None:
        content = recording(1.0)
        client = serve(body_bytes=10**6, pending_bytes=10**6)
        with client.app.state.service.uploads.share() as others:  # type: ignore[attr-defined]
            others.reserve(10**6 - len(content) + 1)
            answer = client.post("/v1/predict", content=content)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
        assert client.post("/v1/predict", content=content).status_code == 200


class TestSlowClient:
    """A request whose body never ends, as ASGI shows it; real sockets are in test_process.py."""

    @staticmethod
    def receive(messages: AsyncIterator[dict[str, object]], **limits: float) -> bytes:
        request = Request({"type": "http", "method": "POST", "headers": []}, messages.__anext__)  # type: ignore[arg-type]

        async def upload() -> bytes:
            with UploadBudget(10**6).share() as share:
                return (await receive_upload(request, Limits(**limits), share)).read()  # type: ignore[arg-type]

        return asyncio.run(upload())

    def test_a_body_that_stops_is_refused_in_time(self) -> None:
        async def stops() -> AsyncIterator[dict[str, object]]:
            yield {"type": "http.request", "body": b"RIFF", "more_body": True}
            await asyncio.sleep(60)

        with pytest.raises(RequestError, match=r"within 0\.05 s") as caught:
            self.receive(stops(), idle_seconds=0.05)
        assert caught.value.status == 408

    def test_a_body_that_trickles_is_refused_in_time(self) -> None:
        async def trickles() -> AsyncIterator[dict[str, object]]:
            while True:
                await asyncio.sleep(0.01)
                yield {"type": "http.request", "body": b"x", "more_body": True}

        with pytest.raises(RequestError, match=r"within 0\.1 s") as caught:
            self.receive(trickles(), idle_seconds=5, body_seconds=0.1)
        assert caught.value.status == 408

    def test_a_disconnected_client_gets_no_answer(self) -> None:
        async def leaves() -> AsyncIterator[dict[str, object]]:
            yield {"type": "http.request", "body": b"RIFF", "more_body": True}
            yield {"type": "http.disconnect"}

        with pytest.raises(ClientDisconnect):
            self.receive(leaves())


class TestLength:
    def test_a_recording_beyond_the_limit_is_refused(self, serve: Serve, recording: Record) -> None:
        client = serve(timeline_seconds=12)
        assert client.post("/v1/timeline", content=recording(11.9)).status_code == 200
        answer = client.post("/v1/timeline", content=recording(12.1))
        assert (answer.status_code, answer.json()["got"]) == (422, "more than 12 s of audio")

    def test_ten_hours_of_silence_in_a_small_file_stop_at_the_limit(self, serve: Serve, recording: Record) -> None:
        bomb = flac_of_silence(hours=1)
        assert len(bomb) < 2 * 10**6
        answer = serve(timeline_seconds=60).post("/v1/timeline", content=bomb)
        assert (answer.status_code, answer.json()["expected"]) == (422, "at most 60 s")

    def test_work_beyond_the_time_limit_is_cancelled(
        self, serve: Serve, recording: Record, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow = threading.Event()
        run = Recognizer.map_windows

        def dawdle(self: Recognizer, batches: object) -> object:
            slow.wait(0.3)
            return run(self, batches)  # type: ignore[arg-type]

        monkeypatch.setattr(Recognizer, "map_windows", dawdle)
        answer = serve(work_seconds=0.05).post("/v1/timeline", content=recording(3.0))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")


def flac_of_silence(hours: float) -> bytes:
    import io

    import numpy as np
    import soundfile

    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 8_000, 1, format="FLAC") as sound:
        for _ in range(round(hours * 60)):
            sound.write(np.zeros(8_000 * 60, np.int16))
    return file.getvalue()


class TestAdmissionControl:
    def test_a_full_queue_refuses_with_retry_after(
        self, serve: Serve, recording: Record, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        entered, free = threading.Semaphore(0), threading.Event()
        hear = Recognizer.waveform

        def wait(self: Recognizer, *arguments: object) -> object:
            entered.release()
            free.wait(20)
            return hear(self, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(Recognizer, "waveform", wait)
        client, content = serve(predictions=3, threads=3), recording(0.5)
        with ThreadPoolExecutor(3) as pool:
            inside = [pool.submit(client.post, "/v1/predict", content=content) for _ in range(3)]
            assert all(entered.acquire(timeout=20) for _ in range(3))
            refused, ready = client.post("/v1/predict", content=content), client.get("/readyz")
            others = client.get("/v1/model")
            free.set()
            assert [answer.result().status_code for answer in inside] == [200] * 3
        assert (refused.status_code, refused.json()["what"], refused.headers["retry-after"]) == (
            429,
            "predictions",
            "1",
        )
        assert (ready.status_code, others.status_code) == (503, 200)
        assert client.post("/v1/predict", content=content).status_code == 200
        assert client.get("/readyz").status_code == 200

    def test_retry_after_is_the_mean_service_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = [0.0]
        monkeypatch.setattr("affekt.serving.admission.time.monotonic", lambda: now[0])
        admission = AdmissionControl("predictions", 1)
        for _ in range(60):
            with admission.slot():
                now[0] += 7
        with admission.slot(), pytest.raises(RequestError) as caught:
            admission.check()
        assert caught.value.headers == {"retry-after": "7"}

    def test_a_failed_request_releases_its_slot(self) -> None:
        admission = AdmissionControl("predictions", 1)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError), admission.slot():
                raise ZeroDivisionError
        assert admission.admitted == 0

    def test_a_request_past_its_deadline_is_answered_without_work(
        self, serve: Serve, recording: Record, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        free = threading.Event()
        hear = Recognizer.waveform

        def wait(self: Recognizer, *arguments: object) -> object:
            free.wait(20)
            return hear(self, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(Recognizer, "waveform", wait)
        client, content = serve(wait_seconds=0.1, threads=1), recording(0.5)
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda _: client.post("/v1/predict", content=content), range(3)))
        free.set()
        assert {(answer.status_code, answer.headers["retry-after"]) for answer in answers} == {(503, "2")}
        assert answers[0].json()["expected"] == "less than 0.1 s"
        client.app.state.service.close()  # type: ignore[attr-defined]
        assert "affekt_batch_size_sum 0.0" in client.get("/metrics").text


class TestCapacity:
    @pytest.fixture
    def now(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """The time, which stands still unless a test moves it."""
        now = [0.0]
        monkeypatch.setattr("affekt.serving.admission.time.monotonic", lambda: now[0])
        return now

    @staticmethod
    def capacity_after(admission: AdmissionControl, now: list[float], requests: int, seconds_each: float) -> int:
        """Capacity after some requests have ended one by one, while two more are held all the time."""
        with ExitStack() as others:
            for _ in range(2):
                others.enter_context(admission.slot())
            for _ in range(requests):
                with admission.slot():
                    now[0] += seconds_each
            return admission.capacity

    def test_capacity_is_the_number_that_can_be_served_in_time(self, now: list[float]) -> None:
        admission = AdmissionControl("predictions", 100, wait_seconds=10, workers=1)
        assert admission.capacity == 100
        assert self.capacity_after(admission, now, 100, seconds_each=0.9) == 11  # 10 s / 0.9 s
        assert self.capacity_after(admission, now, 100, seconds_each=0.05) == 100

    def test_time_without_a_queue_does_not_change_the_capacity(self, now: list[float]) -> None:
        admission = AdmissionControl("predictions", 100, wait_seconds=10, workers=3)
        assert self.capacity_after(admission, now, 100, seconds_each=60) == 100

    def test_capacity_never_falls_below_two_rounds_of_the_workers(self, now: list[float]) -> None:
        admission = AdmissionControl("predictions", 100, wait_seconds=10, workers=2)
        assert self.capacity_after(admission, now, 100, seconds_each=60) == 4
        assert admission.refusal() is None

    def test_a_reservation_holds_a_slot_for_a_second(self, now: list[float]) -> None:
        admission = AdmissionControl("predictions", 1)
        with admission.reserved():
            with pytest.raises(RequestError), admission.slot():
                pass
            now[0] += 1.01
            with admission.slot():
                pass
        with admission.reserved():
            pass
        with admission.slot():  # a reservation ends with its context
            assert admission.admitted == 1


class TestAccessControl:
    """Requests that are refused before their body is read."""

    TOKEN = "correct-horse-battery"

    def ask(self, method: str = "POST", path: str = "/v1/predict", **headers: str) -> tuple[int, dict[str, str]]:
        """Status and headers while no slot is free for predictions; the body must not be read."""

        async def behind(scope: object, receive: object, send: Callable[..., Any]) -> None:
            await JSONResponse({})(scope, receive, send)  # type: ignore[arg-type]

        async def receive() -> None:
            raise AssertionError("the body is asked for")

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        sent: list[dict[str, Any]] = []
        metrics = Metrics()
        admissions = {
            "/v1/predict": AdmissionControl("predictions", 0),
            "/v1/timeline": AdmissionControl("timelines", 1),
        }
        access_control = AccessControl(behind, ServerSettings(token=self.TOKEN), metrics, admissions)  # type: ignore[arg-type]
        encoded = [(name.encode(), value.encode()) for name, value in ({"host": "localhost"} | headers).items()]
        scope = {"type": "http", "method": method, "path": path, "headers": encoded}
        asyncio.run(access_control(scope, receive, send))  # type: ignore[arg-type]
        self.page = metrics.page().decode()
        return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}

    def test_without_capacity_a_request_is_refused_unread(self) -> None:
        status, headers = self.ask(authorization=f"Bearer {self.TOKEN}")
        assert (status, headers["retry-after"], headers["x-content-type-options"]) == (429, "1", "nosniff")
        assert 'affekt_requests_total{path="/v1/predict",status="429"} 1.0' in self.page

    def test_unauthorized_clients_do_not_learn_the_load(self) -> None:
        assert self.ask()[0] == 401
        key = {"authorization": f"Bearer {self.TOKEN}"}
        assert self.ask(**key, origin="https://evil.example")[0] == 403
        assert self.ask(**key | {"host": "evil.example"})[0] == 421

    @pytest.mark.parametrize(
        ("method", "path"), [("POST", "/v1/timeline"), ("GET", "/v1/predict"), ("GET", "/v1/model")]
    )
    def test_other_requests_are_passed_on(self, method: str, path: str) -> None:
        assert self.ask(method, path, authorization=f"Bearer {self.TOKEN}")[0] == 200


class TestSettings:
    def test_all_invalid_limits_are_reported_at_once(self) -> None:
        with pytest.raises(ConfigError) as caught:
            Limits(body_bytes=0, idle_seconds=-1, batch_wait_seconds=2)
        named = {fault.what for fault in caught.value.faults}
        assert named == {"limits: body-bytes", "limits: idle-seconds", "limits: batch-wait-seconds"}

    def test_all_invalid_settings_are_reported_at_once(self) -> None:
        with pytest.raises(AffektError) as caught:
            ServerSettings(port=70_000, threads=0, token="short", origins=("app.example",))
        assert [fault.what for fault in caught.value.faults] == ["port", "threads", "token", "origin"]
        assert "short" not in str(caught.value)

    def test_settings_survive_json(self) -> None:
        settings = ServerSettings("0.0.0.0", 1, Path("m.onnx"), "t" * 16, ("a",), ("http://b",), 3, Limits(streams=2))
        assert ServerSettings.from_json(settings.to_json(), settings.token) == settings
        assert "t" * 16 not in settings.to_json()
