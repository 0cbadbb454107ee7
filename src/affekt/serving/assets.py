"""The page's files, read once at the start. Each has a fixed route, so that no path of a client is ever opened."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "flac": "audio/flac",
    "webmanifest": "application/manifest+json",
}
INDEX = "index.html"


@dataclass(frozen=True)
class Asset:
    """One file of the page."""

    content: bytes
    media_type: str

    @property
    def tag(self) -> str:
        """The ETag."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'

    async def answer(self, request: Request) -> Response:
        """The file, or 304 if the browser has it."""
        headers = {"etag": self.tag, "cache-control": "no-cache"}
        if self.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.media_type, headers=headers)


def add_assets(app: FastAPI) -> None:
    """The page at `/` and its files under `/page/`."""
    for file in (files("affekt.serving") / "page").iterdir():
        asset = Asset(file.read_bytes(), TYPES[file.name.rpartition(".")[2]])
        app.add_route("/" if file.name == INDEX else f"/page/{file.name}", asset.answer, include_in_schema=False)
