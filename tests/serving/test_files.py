"""No text of a client becomes a path: every file that this process opens is watched."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from affekt.serving import access_control
from fuzz.watch import ViolationError, watched

Record = Callable[..., bytes]
Serve = Callable[..., TestClient]
NAMES = (
    "/etc/passwd",
    "../../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "..\\..\\windows\\win.ini",
    "file:///etc/passwd",
    "//etc/passwd",
    "call.wav\0.png",
    "~/.ssh/id_rsa",
    "/proc/self/environ",
    "/dev/stdin",
    "|id",
    "a" * 5_000,
)


@pytest.fixture
def client(serve: Serve, recording: Record) -> TestClient:
    """One that has answered everything once, so that all libraries are there."""
    client = serve()
    for path in ("/v1/predict", "/v1/timeline?format=html&include=envelope"):
        assert client.post(path, files={"file": ("a.wav", recording(1.0))}).status_code == 200
    client.get("/docs")
    return client


@pytest.mark.parametrize("name", NAMES)
def test_no_file_named_by_a_client_is_opened(client: TestClient, recording: Record, tmp_path: Path, name: str) -> None:
    content = recording(0.5)
    with watched(tmp_path):
        for path in ("/page/", "/", "/v1/", "/docs/"):
            assert client.get(f"{path}{quote(name, safe='/%.~|:')}").status_code in (400, 404, 405)
        for method in ("/v1/predict", "/v1/timeline"):
            sent = name.replace("\0", "%00")  # as the client library would not send it otherwise
            answer = client.post(method, files={sent: (sent, content, sent)}, data={"path": name, "model": name})
            assert answer.status_code in (200, 400)
            query = {"format": name, "activity": name[:20], "model": name, "path": name, "include": name}
            assert client.post(method, params=query, content=content).status_code in (200, 422)
        assert client.post("/v1/predict", content=name.encode()).status_code == 422  # a name is no recording
    assert list(tmp_path.iterdir()) == []


def test_the_watch_notices_an_opened_file(client: TestClient, tmp_path: Path) -> None:
    with pytest.raises(ViolationError, match="open /etc/passwd for reading"), watched(tmp_path):
        Path("/etc/passwd").read_bytes()


def test_the_token_is_compared_in_constant_time(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    compare_digest = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return compare_digest(one, other)

    monkeypatch.setattr(access_control.hmac, "compare_digest", compare)
    client, token = serve(token="correct-horse-battery"), "correct-horse-battery"
    for offered, status in (("wrong", 401), (token, 200), ("", 401)):
        answer = client.get("/v1/model", headers={"authorization": f"Bearer {offered}"})
        assert answer.status_code == status
    assert compared == [(offer, token.encode()) for offer in (b"wrong", token.encode(), b"")]
