"""Live streams: answers equal the library's however the bytes are split, and every close has a reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from affekt.recognition.recognizer import Recognizer

Floats = NDArray[np.float32]
Speech = Callable[..., Floats]
Serve = Callable[..., TestClient]
TOKEN = "correct-horse-battery"
PATH = "ws://127.0.0.1/v1/stream"


def converse(client: TestClient, query: str, messages: Sequence[bytes | str]) -> tuple[list[dict[str, object]], int]:
    """Send all messages; the lines that come back, and the code of the close."""
    lines: list[dict[str, object]] = []
    with client.websocket_connect(f"{PATH}?{query}") as socket:
        for message in messages:
            socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message)
        while True:
            try:
                text = socket.receive_text()
            except WebSocketDisconnect as end:
                return lines, end.code
            assert text.endswith("\n")
            lines.append(json.loads(text))


def refusal(client: TestClient, query: str = "", **options: object) -> tuple[int, dict[str, object]]:
    with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect(f"{PATH}?{query}", **options):
        raise AssertionError("it was let in")
    return caught.value.status_code, caught.value.json()


def cut(content: bytes, sizes: Sequence[int]) -> list[bytes]:
    """A byte string in pieces of these sizes, over and over."""
    pieces, start = [], 0
    while start < len(content):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(content[start : start + size])
        start += size
    return pieces


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("encoding", ["s16le", "f32le"])
@pytest.mark.parametrize("sizes", [[3_200], [1, 8_191, 40_001]], ids=["even", "odd"])
def test_lines_equal_the_library(
    client: TestClient, recognizer: Recognizer, speech: Speech, rate: int, encoding: str, sizes: list[int]
) -> None:
    samples = speech(3.2, rate)
    if encoding == "s16le":
        integers = (samples * 32_767).astype("<i2")
        content, samples = integers.tobytes(), integers.astype(np.float32) / np.float32(32_768)
    else:
        content = samples.astype("<f4").tobytes()
    query = f"rate={rate}&encoding={encoding}&hop_seconds=0.5&window_seconds=2"
    lines, code = converse(client, query, [*cut(content, sizes), "end"])
    stream = recognizer.stream(rate, 0.5, 2.0)
    expected = [
        prediction for start in range(0, len(samples), rate) for prediction in stream.feed(samples[start:][:rate])
    ]
    assert (len(lines), code) == (6, 1000)
    if rate == 16_000:
        assert lines == [prediction.to_dict() for prediction in expected]
    else:  # resampled in pieces cut elsewhere
        for line, prediction in zip(lines, expected, strict=True):
            assert line["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-3)


def test_unusable_samples_get_an_error_and_the_stream_continues(client: TestClient, speech: Speech) -> None:
    good, bad = speech(1.0).astype("<f4").tobytes(), np.full(100, np.nan, "<f4").tobytes()
    lines, code = converse(client, "encoding=f32le", [good, bad, good, "end"])
    assert ["label" in line for line in lines] == [True, False, True]
    assert set(lines[1]) == {"what", "got", "expected", "remedy", "also"}
    assert code == 1000


def test_silence_is_answered_with_no_speech(client: TestClient) -> None:
    lines, _ = converse(client, "", [bytes(32_000), "end"])
    assert lines[0]["label"] == "no speech"


def test_an_unknown_text_message_closes_the_stream(client: TestClient) -> None:
    lines, code = converse(client, "", ["hello"])
    assert (lines[0]["what"], code) == ("message", 1003)


def test_an_idle_stream_is_closed_with_a_reason(serve: Serve) -> None:
    lines, code = converse(serve(stream_idle_seconds=0.05), "", [bytes(100)])
    assert (lines[0]["got"], code) == ("nothing for 0.05 s", 1008)


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("rate=1", "query: rate"),
        ("rate=many", "query: rate"),
        ("encoding=mp3", "query: encoding"),
        ("hop_seconds=nan", "query: hop_seconds"),
        ("window_seconds=30", "stream: window"),
        ("activity=psychic", "voice activity"),
    ],
)
def test_invalid_options_are_refused_before_the_handshake(client: TestClient, query: str, what: str) -> None:
    status, problem = refusal(client, query)
    assert (status, problem["what"]) == (422, what)


def test_streams_are_bounded(serve: Serve) -> None:
    client = serve(streams=1)
    with client.websocket_connect(PATH):
        status, problem = refusal(client)
        assert (status, problem["what"]) == (429, "streams")
    with client.websocket_connect(PATH):
        assert "affekt_streams_inside 1.0" in client.get("/metrics").text


class TestWhoListens:
    def test_the_token_is_a_header_or_a_subprotocol(self, serve: Serve) -> None:
        client = serve(token=TOKEN)
        assert refusal(client)[0] == 401
        assert refusal(client, subprotocols=["affekt", "bearer.wrong"])[0] == 401
        with client.websocket_connect(PATH, headers={"authorization": f"Bearer {TOKEN}"}) as socket:
            assert socket.accepted_subprotocol is None
        with client.websocket_connect(PATH, subprotocols=["affekt", f"bearer.{TOKEN}"]) as socket:
            assert socket.accepted_subprotocol == "affekt"

    def test_requests_of_other_sites_are_refused(self, client: TestClient) -> None:
        assert refusal(client, headers={"origin": "https://evil.example"})[0] == 403

    def test_other_names_are_refused(self, client: TestClient) -> None:
        assert refusal(client, headers={"host": "evil.example"})[0] == 421


@pytest.mark.parametrize("size", [3, 4_000])
@pytest.mark.parametrize(
    ("beginning", "name"),
    [
        (bytes.fromhex("1a45dfa39f4286810142f7810142f281"), "a WebM or Matroska file"),
        (b"\0\0\0\x1cftypmp42\0\0\0\0mp42isom", "an MP4 or QuickTime file"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt ", "a WAV file"),
        (b"OggS\0\x02" + bytes(20), "an Ogg file"),
    ],
)
def test_the_bytes_of_a_file_are_refused(client: TestClient, beginning: bytes, name: str, size: int) -> None:
    content = beginning + np.random.default_rng(0).bytes(100_000)
    lines, code = converse(client, "rate=16000", [*cut(content, [size])[:40], "end"])
    assert code == 1003
    (line,) = lines
    assert str(line["got"]).startswith(name)
    assert "raw PCM samples" in str(line["expected"])
