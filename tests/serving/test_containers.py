"""Uploads of phones and browsers: decoded where PyAV is installed, named where it is not."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from affekt.audio import containers

KINDS = {"call.m4a": ("ipod", "aac"), "talk.webm": ("webm", "libopus"), "clip.mp4": ("mp4", "aac")}


def muxed(container: str, codec: str, samples: np.ndarray, rate_hz: int = 48_000) -> bytes:
    """Mono samples encoded by PyAV."""
    av = pytest.importorskip("av", reason="PyAV encodes the inputs: pip install 'affekt[containers]'")
    with tempfile.NamedTemporaryFile() as written:
        with av.open(written.name, "w", format=container) as file:
            stream = file.add_stream(codec, rate=rate_hz, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="fltp", layout="mono")
            frame.sample_rate = rate_hz
            resampler = av.AudioResampler(stream.format.name, "mono", rate_hz, frame_size=stream.frame_size or None)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                file.mux(stream.encode(part))
            file.mux(stream.encode(None))
        return Path(written.name).read_bytes()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("path", ["/v1/predict", "/v1/timeline"])
def test_recordings_of_phones_and_browsers_are_read(
    client: TestClient, speech: Callable[..., np.ndarray], name: str, path: str
) -> None:
    content = muxed(*KINDS[name], speech(2.0, 48_000))
    for upload in ({"content": content}, {"files": {"file": (name, io.BytesIO(content), "video/whatever")}}):
        answer = client.post(path, **upload)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        end = body.get("overall", body)["end_seconds"]
        assert end == pytest.approx(2.0, abs=0.15)


def test_without_pyav_the_answer_names_the_extra(
    client: TestClient, speech: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = muxed("webm", "libopus", speech(1.0, 48_000))
    monkeypatch.setattr(containers, "available", lambda: False)
    answer = client.post("/v1/timeline", content=content)
    assert answer.status_code == 422
    assert "affekt[containers]" in answer.json()["remedy"]  # on which the page decodes in the browser
