"""A baseline of the speaker: recordings of the same voice when calm, in the same form."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse

from affekt.recognition.recognizer import Recognizer
from affekt.serving import service
from affekt.serving.app import create_app
from affekt.serving.settings import ServerSettings

Record = Callable[..., bytes]
Client = TestClient


@pytest.fixture(scope="module")
def knowing(adaptable: Path) -> Recognizer:
    return Recognizer.load(adaptable, threads=1)


@pytest.fixture
def adapting(knowing: Recognizer) -> Iterator[Client]:
    with TestClient(create_app(knowing, ServerSettings()), base_url="http://127.0.0.1") as client:
        yield client


def form(recording: bytes, *baseline: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [
        ("file", ("call.wav", recording)),
        *(("baseline", (f"calm{i}.wav", each)) for i, each in enumerate(baseline)),
    ]


def ask(client: Client, path: str, files: Any) -> dict[str, Any]:
    answer = client.post(path, files=files)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.parametrize("seconds", [1.0, 12.0])  # one clip, and more
def test_the_answer_is_the_adapted_recognizers(
    adapting: Client, knowing: Recognizer, recording: Record, seconds: float
) -> None:
    content, calm = recording(seconds), [recording(2.0, seed=1), recording(3.0, seed=2)]
    adapted = knowing.adapted(baseline=calm)
    expected = adapted.predict(content)
    got = ask(adapting, "/v1/predict", form(content, *calm))
    np.testing.assert_allclose(list(got["probabilities"].values()), list(expected.probabilities.values()), atol=1e-5)
    assert got["adapted"].startswith("calm voice in 2 stretches of speech")
    overall = ask(adapting, "/v1/timeline", form(content, *calm))["overall"]
    assert overall == got
    plain = ask(adapting, "/v1/predict", form(content))
    assert "adapted" not in plain
    assert plain["probabilities"] != got["probabilities"]


def test_a_baseline_does_not_stay_for_the_next_request(adapting: Client, recording: Record) -> None:
    content = recording(1.0)
    before = ask(adapting, "/v1/predict", form(content))
    ask(adapting, "/v1/predict", form(content, recording(2.0, seed=1)))
    assert ask(adapting, "/v1/predict", form(content)) == before


def test_only_the_beginning_of_a_baseline_is_used(
    adapting: Client, recording: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "BASELINE_SECONDS", 2.0)
    content, long = recording(1.0), recording(9.0, seed=1)
    short = long[: 44 + 2 * 2 * 16_000]
    answers = [ask(adapting, "/v1/predict", form(content, calm))["probabilities"] for calm in (long, short)]
    np.testing.assert_allclose(list(answers[0].values()), list(answers[1].values()), atol=1e-5)


def test_an_unusable_baseline_is_named(adapting: Client, recording: Record) -> None:
    answer = adapting.post("/v1/predict", files=form(recording(1.0), b"not audio"))
    assert (answer.status_code, answer.json()["what"]) == (422, "baseline")


def test_a_model_without_adaptation_refuses(client: Client, recording: Record) -> None:
    answer = client.post("/v1/predict", files=form(recording(1.0), recording(1.0)))
    assert answer.status_code == 422
    assert "adaptation" in answer.json()["got"]


def test_the_number_of_files_is_bounded(adapting: Client, recording: Record) -> None:
    content = recording(0.5)
    assert adapting.post("/v1/predict", files=form(content, *[content] * 4)).status_code == 400
    two = [("file", ("a.wav", content)), ("file", ("b.wav", content))]
    assert adapting.post("/v1/predict", files=two).json()["got"] == "2 files"
    assert adapting.post("/v1/predict", files=form(content, content)[1:]).json()["got"] == "no file"


def test_a_stream_adapts_while_it_listens(
    adapting: Client, client: Client, knowing: Recognizer, speech: Callable[..., np.ndarray]
) -> None:
    samples = np.round(32_768 * speech(4.0)).astype("<i2")
    own = knowing.stream(16_000, adapt=True)
    expected = [prediction.to_dict() for prediction in own.feed(samples.astype(np.float32) / 32_768)]
    address = "ws://127.0.0.1/v1/stream?adapt=true"
    with adapting.websocket_connect(address) as socket:
        socket.send_bytes(samples.tobytes())
        lines = [json.loads(socket.receive_text()) for _ in expected]
    assert [line["probabilities"] for line in lines] == [answer["probabilities"] for answer in expected]
    assert "one speaker so far" in lines[-1]["adapted"]
    with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect(address):
        raise AssertionError("a model without adaptation was accepted")
    assert caught.value.status_code == 422
