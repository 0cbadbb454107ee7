"""Recordings of every kind: HTTP, Python and the command line answer alike, with the same remarks."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient

from affekt import cli
from affekt.audio import containers
from affekt.audio.signatures import mpeg_bytes
from affekt.recognition.recognizer import Recognizer

Record = Callable[..., bytes]
Speech = Callable[..., np.ndarray]
RATE_HZ = 16_000


def encoded(samples: np.ndarray, container: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE_HZ, format=container, **options)
    return buffer.getvalue()


def mp3_without_count(samples: np.ndarray) -> bytes:
    content = encoded(samples, "MP3", bitrate_mode="VARIABLE", compression_level=0.3)
    return content[mpeg_bytes(content[:4]) :]


def m4a(samples: np.ndarray) -> bytes:
    av = pytest.importorskip("av", reason="PyAV encodes the input: pip install 'affekt[containers]'")
    with tempfile.NamedTemporaryFile() as written:
        with av.open(written.name, "w", format="ipod") as file:
            stream = file.add_stream("aac", rate=RATE_HZ, layout="mono")
            frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            frame.sample_rate = RATE_HZ
            for part in av.AudioResampler("fltp", "mono", RATE_HZ, frame_size=1_024).resample(frame):
                file.mux(stream.encode(part))
            file.mux(stream.encode(None))
        return Path(written.name).read_bytes()


@pytest.mark.parametrize("encode", [mp3_without_count, m4a], ids=["mp3", "m4a"])
@pytest.mark.parametrize("suffix", [".wav", "", ".bin"])
def test_every_door_answers_alike(
    client: TestClient,
    recognizer: Recognizer,
    speech: Speech,
    tmp_path: Path,
    encode: Callable[[np.ndarray], bytes],
    suffix: str,
) -> None:
    content = encode(speech(4.0))
    path = tmp_path / f"call{suffix}"
    path.write_bytes(content)
    expected = recognizer.predict(content).probabilities
    for source in (path, str(path), io.BytesIO(content)):
        assert recognizer.predict(source).probabilities == expected
    assert client.post("/v1/predict", content=content).json()["probabilities"] == expected
    answer = client.post("/v1/predict", files={"file": (path.name, content, "application/octet-stream")}).json()
    assert (answer["probabilities"], answer["source"]) == (expected, path.name)
    assert answer["end_seconds"] == pytest.approx(4.1, abs=0.1)
    assert "notes" not in answer


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/timeline"])
@pytest.mark.parametrize("seconds", [3.0, 20.0])
def test_an_answer_says_that_the_recording_breaks_off(
    client: TestClient, recording: Record, path: str, seconds: float
) -> None:
    content = recording(seconds)
    answer = client.post(path, content=content[: len(content) // 2]).json()
    (note,) = answer["notes"]
    assert note.startswith("breaks off: got ")
    assert note.endswith(f"expected {seconds:.3f} s; what is there is used")


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/timeline"])
def test_channels_that_cancel_are_said(client: TestClient, speech: Speech, path: str) -> None:
    heard = speech(3.0)
    answer = client.post(path, content=encoded(np.stack([heard, -heard], axis=1), "WAV"))
    assert answer.status_code == 422
    assert answer.json()["got"] == "channels that cancel each other when mixed"
    quiet = client.post(path, content=encoded(np.stack([heard, -0.9 * heard], axis=1), "WAV")).json()
    assert quiet["notes"][0].startswith("the channels cancel each other")


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/timeline"])
def test_a_container_that_cannot_be_read_here_names_the_extra(
    client: TestClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "available", lambda: False)
    answer = client.post(path, content=bytes.fromhex("1a45dfa39f4286810142f7810142f281") + bytes(500))
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["got"] == "a WebM or Matroska file (webm, mkv, mka)"
    assert "pip install 'affekt[containers]'" in problem["remedy"]


def test_the_command_line_says_the_same(
    small_model: Path,
    recording: Record,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    content = recording(4.0)
    (tmp_path / "cut.wav").write_bytes(content[: len(content) // 2])
    for words in ([], ["--timeline"]):
        code = cli.main(["predict", str(tmp_path / "cut.wav"), "--format", "json", "--model", str(small_model), *words])
        assert code == 0
        assert json.loads(capsys.readouterr().out)
        assert "cut.wav: breaks off: got 1.999 s, expected 4.000 s; what is there is used" in caplog.text
        caplog.clear()
