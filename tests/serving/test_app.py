"""The API: answers equal the library's; unusable requests are refused with a reason."""

from __future__ import annotations

import copy
import io
import json
import logging
import re
import struct
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from affekt.data.training_audio import describe
from affekt.recognition.formats import FORMATS
from affekt.recognition.recognizer import Recognizer
from affekt.recognition.timeline import TimelineConfig
from affekt.serving.app import create_app
from affekt.serving.settings import ServerSettings
from affekt.serving.uploads import Upload

Record = Callable[..., bytes]
Serve = Callable[..., TestClient]
PROBLEM_KEYS = {"what", "got", "expected", "remedy", "also"}
TOKEN = "correct-horse-battery"


@pytest.mark.parametrize(
    ("form", "encoding", "rate"),
    [("WAV", "PCM_16", 16_000), ("WAV", "FLOAT", 44_100), ("FLAC", "PCM_24", 8_000), ("OGG", "OPUS", 48_000)],
)
def test_predict_equals_the_library_bit_for_bit(
    client: TestClient, recognizer: Recognizer, recording: Record, form: str, encoding: str, rate: int
) -> None:
    content = recording(1.5, rate, form=form, encoding=encoding)
    answer = client.post("/v1/predict", content=content).json()
    expected = recognizer.predict(content).to_dict() | {"source": "recording"}
    assert answer == expected


def test_a_form_equals_raw_bytes_and_names_the_source(client: TestClient, recording: Record) -> None:
    content = recording(1.0)
    raw = client.post("/v1/predict", content=content).json()
    form = client.post("/v1/predict", files={"anything": ("call.wav", content)}, data={"note": "x"}).json()
    assert form == raw | {"source": "call.wav"}


def test_a_long_recording_is_analyzed_to_its_end(client: TestClient, recognizer: Recognizer, recording: Record) -> None:
    content = recording(9.0)
    answer = client.post("/v1/predict", content=content).json()
    assert (answer["end_seconds"], answer["truncated"]) == (9.0, False)
    assert answer["probabilities"] == recognizer.predict(content).probabilities
    assert client.post("/v1/timeline", content=content).json()["overall"] == answer


def test_first_analyzes_the_first_clip_only(client: TestClient, recognizer: Recognizer, recording: Record) -> None:
    content = recording(9.0)
    answer = client.post("/v1/predict", params={"first": True}, content=content).json()
    assert (answer["end_seconds"], answer["truncated"]) == (7.5, True)
    assert answer["probabilities"] == recognizer.predict(content, first=True).probabilities


def test_the_unsure_threshold_is_from_the_card_or_the_client(client: TestClient, recording: Record) -> None:
    content = recording(1.0)
    confidence = client.post("/v1/predict", content=content).json()["confidence"]
    for threshold, unsure in ((confidence - 0.01, False), (min(1.0, confidence + 0.01), True)):
        answer = client.post("/v1/predict", params={"min_confidence": threshold}, content=content).json()
        assert answer["unsure"] is unsure


def test_a_timeline_equals_the_library(client: TestClient, recognizer: Recognizer, recording: Record) -> None:
    content = recording(6.0)
    options = {"window_seconds": 2, "hop_seconds": 0.5, "min_confidence": 0.3}
    answer = client.post("/v1/timeline", params=options, files={"file": ("a.wav", content)}).json()
    named = Upload(content, "a.wav")
    named.name = "a.wav"
    expected = recognizer.timeline(named, min_confidence=0.3, config=TimelineConfig(2, 0.5)).to_dict()
    assert len(answer["windows"]) == len(expected["windows"]) > 3
    assert answer == json.loads(json.dumps(expected)) | {"files": {}}


@pytest.mark.parametrize("name", ["csv", "audacity", "textgrid", "rttm", "html"])
def test_other_timeline_formats_are_files(
    client: TestClient, recognizer: Recognizer, recording: Record, name: str
) -> None:
    content = recording(4.0)
    answer = client.post("/v1/timeline", params={"format": name}, content=content)
    named = Upload(content, "recording")
    assert answer.text == FORMATS[name].render(recognizer.timeline(named))
    assert answer.headers["content-disposition"].startswith("attachment")


def test_json_can_include_formats_and_the_envelope(client: TestClient, recording: Record) -> None:
    content = recording(4.0)
    answer = client.post("/v1/timeline", params={"include": ["csv", "rttm", "envelope"]}, content=content).json()
    alone = {
        name: client.post("/v1/timeline", params={"format": name}, content=content).text for name in ("csv", "rttm")
    }
    assert answer["files"] == alone
    assert len(answer["envelope"]["peaks"]) == len(answer["envelope"]["starts_seconds"]) == 80
    assert max(answer["envelope"]["peaks"]) == 1


def wav_of(samples: np.ndarray, rate: int = 16_000, encoding: str = "FLOAT") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=encoding)
    return file.getvalue()


@pytest.mark.parametrize("seconds", [1, 10])
@pytest.mark.parametrize("peak", [0.0, 5e-5])
def test_silence_is_answered_with_no_speech(client: TestClient, seconds: int, peak: float) -> None:
    body = wav_of(np.full(16_000 * seconds, peak))
    for path in ("/v1/predict", "/v1/timeline"):
        answer = client.post(path, content=body)
        told = answer.json().get("overall", answer.json())
        assert answer.status_code == 200
        assert (told["label"], told["reason"], told["end_seconds"]) == ("no speech", "silence", seconds)
        assert set(told["probabilities"].values()) == {0.0}
    assert answer.json()["segments"] == []


BAD_BODIES = {
    "nothing": (b"", 400, "nothing"),
    "text": (b"hello, this is no audio", 422, "no audio"),
    "10 ms": (wav_of(np.ones(160)), 422, "10 ms"),
    "no samples": (wav_of(np.zeros(0)), 422, "no samples"),
    "NaN": (wav_of(np.full(16_000, np.nan)), 422, "NaN"),
    "header alone": (wav_of(np.ones(16_000))[:44], 422, ""),
    "rate of 1 Hz": (wav_of(np.ones(16_000), rate=1), 422, "1 Hz"),
    "2^31 frames": (b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 255, 16_000, 0, 0, 8), 422, ""),
}


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/timeline"])
@pytest.mark.parametrize(("body", "status", "says"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_an_unusable_recording_is_refused_with_a_reason(
    client: TestClient, path: str, body: bytes, status: int, says: str
) -> None:
    answer = client.post(path, content=body)
    if path == "/v1/timeline" and says == "10 ms":
        assert answer.status_code == 200
        assert answer.json()["segments"] == []
        return
    assert answer.status_code == status
    assert set(answer.json()) == PROBLEM_KEYS
    assert says in answer.json()["got"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b"no boundary in here"),
        ("multipart/form-data; boundary=x", b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n'),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b"a: b\r\n" * 20_000),
    ],
    ids=["without boundary", "without parts", "without file", "with 20,000 headers"],
)
def test_a_broken_form_is_refused(client: TestClient, content_type: str, body: bytes) -> None:
    answer = client.post("/v1/predict", content=body, headers={"content-type": content_type})
    assert answer.status_code == 400
    assert answer.json()["what"] in ("form", "body")


def test_two_files_are_refused(client: TestClient, recording: Record) -> None:
    content = recording(0.5)
    answer = client.post("/v1/predict", files=[("file", ("a.wav", content)), ("file", ("b.wav", content))])
    assert (answer.status_code, answer.json()["what"]) == (400, "form")


def test_all_faults_of_a_query_are_reported_at_once(client: TestClient, recording: Record) -> None:
    options = {"hop_seconds": "nan", "window_seconds": "soon", "format": "doc", "include": "png", "min_confidence": 2}
    answer = client.post("/v1/timeline", params=options, content=recording(1.0))
    problem = answer.json()
    assert answer.status_code == 422
    found = {fault["what"].partition(": ")[2] for fault in (problem, *problem["also"])}
    assert found >= {"hop_seconds", "window_seconds", "format", "min_confidence"}


def test_windows_out_of_range_are_refused(client: TestClient, recording: Record) -> None:
    answer = client.post("/v1/timeline", params={"window_seconds": 30}, content=recording(1.0))
    assert (answer.status_code, answer.json()["expected"]) == (422, "0.1 to 7.5 s")
    answer = client.post("/v1/timeline", params={"activity": "psychic"}, content=recording(1.0))
    assert (answer.status_code, answer.json()["got"]) == (422, "'psychic'")


def test_unknown_paths_and_methods_are_refused_with_json(client: TestClient) -> None:
    for method, path, status in (("GET", "/v2/predict", 404), ("GET", "/v1/predict", 405), ("DELETE", "/", 405)):
        answer = client.request(method, path)
        assert (answer.status_code, set(answer.json())) == (status, PROBLEM_KEYS)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_body_causes_an_internal_error(client: TestClient, recording: Record, data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(["WAV", "FLAC", "OGG", "AIFF"]))
    content = bytearray(recording(0.3, form=form))
    for _ in range(data.draw(st.integers(0, 12))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    body = bytes(content[: data.draw(st.integers(0, len(content)))])
    answer = client.post(data.draw(st.sampled_from(["/v1/predict", "/v1/timeline"])), content=body)
    assert answer.status_code in (200, 400, 422)
    if answer.status_code != 200:
        assert set(answer.json()) == PROBLEM_KEYS


def test_an_internal_error_is_answered_and_logged(
    client: TestClient, recording: Record, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(Recognizer, "waveform", fail)
    answer = client.post("/v1/predict", content=recording(1.0))
    assert (answer.status_code, set(answer.json())) == (500, PROBLEM_KEYS)
    assert "oops" not in answer.text
    assert "ZeroDivisionError" in caplog.text


def test_model_returns_card_and_limits(serve: Serve, recognizer: Recognizer) -> None:
    answer = serve(body_bytes=12_345).get("/v1/model").json()
    card = json.loads(json.dumps(recognizer.card.to_dict()))
    assert {key: answer["card"][key] for key in card if key not in ("provenance", "normalizer")} == {
        key: value for key, value in card.items() if key not in ("provenance", "normalizer")
    }
    assert answer["limits"]["body_bytes"] == 12_345


def test_the_model_states_its_training_audio_readably(serve: Serve, recognizer: Recognizer) -> None:
    """Counts of recordings and of numbers, not thousands of hashes and weights."""
    table = describe(["emodb"] * 2 + [""], ["00" * 32, "11" * 32, "ff" * 32])
    card = replace(
        recognizer.card, provenance={"started_from": {"training_audio": table}}, normalizer={"mean": [0.5] * 80}
    )
    changed = copy.copy(recognizer)
    changed.card = card
    with TestClient(create_app(changed, ServerSettings()), "http://127.0.0.1") as client:
        told = client.get("/v1/model").json()["card"]
    heard = told["provenance"]["started_from"]["training_audio"]
    assert {name: (row["utterances"], row["recordings"]) for name, row in heard.items()} == {
        "emodb": (2, "2 hashes"),
        "own": (1, "1 hash"),
    }
    assert told["normalizer"] == {"mean": "80 numbers"}


def test_metrics_count_requests_and_audio(client: TestClient, recording: Record) -> None:
    for _ in range(3):
        client.post("/v1/predict", content=recording(2.0))
    client.post("/v1/predict", content=b"x")
    client.get("/some/path/of/a/scanner")
    page = client.get("/metrics").text
    values = dict(re.findall(r"^(affekt_\S+) (\S+)$", page, re.MULTILINE))
    assert values['affekt_requests_total{path="/v1/predict",status="200"}'] == "3.0"
    assert values['affekt_requests_total{path="/v1/predict",status="422"}'] == "1.0"
    assert values['affekt_requests_total{path="other",status="404"}'] == "1.0"
    assert values['affekt_audio_seconds_total{path="/v1/predict"}'] == "6.0"
    assert values["affekt_batch_size_sum"] == "3.0"
    assert values["affekt_predictions_inside"] == values["affekt_upload_bytes"] == "0.0"


def test_openapi_lists_every_path_and_docs_every_operation(client: TestClient) -> None:
    description = client.get("/openapi.json").json()
    assert set(description["paths"]) == {"/v1/predict", "/v1/timeline", "/v1/model", "/healthz", "/readyz", "/metrics"}
    statuses = set(description["paths"]["/v1/predict"]["post"]["responses"])
    assert statuses == {"200", "400", "401", "403", "408", "413", "421", "422", "429", "503"}
    page = client.get("/docs").text
    assert all(f"{path}</code></h2>" in page for path in [*description["paths"], "/v1/stream"])
    assert "<script" not in page


def test_pages_load_nothing_from_other_servers(client: TestClient) -> None:
    for path in ("/", "/docs", "/page/style.css"):
        page = client.get(path)
        assert page.status_code == 200
        assert set(re.findall(r"https?://([^/\s\"')<]+)", page.text)) <= {"127.0.0.1", "www.w3.org"}


def test_a_cached_file_is_answered_with_304(client: TestClient) -> None:
    first = client.get("/page/style.css")
    again = client.get("/page/style.css", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd", "/page/..%2fapp.py"])
def test_no_path_leaves_the_page_folder(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/", "/docs", "/healthz", "/v1/model", "/nowhere", "/metrics"])
def test_every_answer_has_the_security_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


class TestToken:
    @pytest.mark.parametrize(
        "authorization", [None, "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"]
    )
    def test_requests_without_the_token_are_refused(
        self, serve: Serve, recording: Record, authorization: str | None
    ) -> None:
        client = serve(token=TOKEN)
        headers = {"authorization": authorization} if authorization else {}
        for method, path in (
            ("POST", "/v1/predict"),
            ("POST", "/v1/timeline"),
            ("GET", "/v1/model"),
            ("GET", "/metrics"),
        ):
            answer = client.request(method, path, content=recording(0.5), headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")

    def test_requests_with_the_token_are_answered(self, serve: Serve, recording: Record) -> None:
        headers = {"authorization": f"bearer {TOKEN}"}
        client = serve(token=TOKEN)
        assert client.post("/v1/predict", content=recording(0.5), headers=headers).status_code == 200
        assert client.get("/metrics", headers=headers).status_code == 200

    def test_the_page_and_the_health_checks_need_no_token(self, serve: Serve) -> None:
        client = serve(token=TOKEN)
        assert [client.get(path).status_code for path in ("/", "/docs", "/healthz", "/readyz")] == [200] * 4


class TestWhoAsks:
    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:1"])
    def test_names_of_this_machine_are_accepted(self, client: TestClient, host: str) -> None:
        assert client.get("/healthz", headers={"host": host}).status_code == 200

    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", ""])
    def test_other_names_are_refused_on_loopback(self, client: TestClient, host: str) -> None:
        assert client.get("/healthz", headers={"host": host}).status_code == 421

    def test_names_can_be_added(self, serve: Serve) -> None:
        client = serve(hosts=("speech.example",))
        assert client.get("/healthz", headers={"host": "speech.example"}).status_code == 200

    def test_a_public_server_accepts_any_name(self, serve: Serve) -> None:
        assert serve(host="0.0.0.0").get("/healthz", headers={"host": "speech.example"}).status_code == 200

    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9999", "http://["])
    def test_requests_of_other_sites_are_refused(self, client: TestClient, recording: Record, origin: str) -> None:
        answer = client.post("/v1/predict", content=recording(0.5), headers={"origin": origin})
        assert (answer.status_code, answer.json()["what"]) == (403, "origin")

    def test_the_own_page_and_added_origins_are_accepted(self, serve: Serve, recording: Record) -> None:
        client = serve(origins=("https://app.example",))
        for origin, allowed in (("http://127.0.0.1", None), ("https://app.example", "https://app.example")):
            answer = client.post("/v1/predict", content=recording(0.5), headers={"origin": origin})
            assert answer.status_code == 200
            assert answer.headers.get("access-control-allow-origin") == allowed
        asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
        asked["access-control-request-headers"] = "authorization"
        assert client.options("/v1/predict", headers=asked).status_code == 200


class TestPrivacy:
    def test_neither_file_names_nor_samples_are_logged(
        self, client: TestClient, recording: Record, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        for content in (recording(2.0, form="FLAC")[:-20_000], recording(1.0), b"no audio"):
            client.post("/v1/predict", files={"file": ("patient-jane-doe.wav", content)})
            client.post("/v1/timeline", files={"file": ("patient-jane-doe.wav", content)})
        logged = [record for record in caplog.records if record.name.partition(".")[0] in ("affekt", "uvicorn")]
        assert any("breaks off" in record.getMessage() for record in logged)
        assert not any("jane" in record.getMessage() for record in logged)

    def test_no_upload_touches_the_disk(
        self, client: TestClient, speech: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("a temporary file")

        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
        monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", refuse)
        content = wav_of(speech(30.0, 48_000), 48_000)
        assert len(content) > 5 * 2**20
        for request in ({"content": content}, {"files": {"file": ("a.wav", content)}}):
            assert client.post("/v1/predict", **request).status_code == 200  # type: ignore[arg-type]
