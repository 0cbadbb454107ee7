"""The API reference at `/docs`: plain HTML made from the OpenAPI description, without scripts of other servers.

FastAPI's own page loads its scripts from a content delivery network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse

from affekt.serving.live import StreamOptions

EXAMPLES = {
    "/v1/predict": "curl --data-binary @call.wav {base}/v1/predict\ncurl -F file=@call.wav {base}/v1/predict\n"
    "curl -F file=@call.wav -F baseline=@calm.wav {base}/v1/predict",
    "/v1/timeline": "curl -F file=@call.wav '{base}/v1/timeline?format=textgrid' -o call.TextGrid",
    "/v1/model": "curl {base}/v1/model",
    "/v1/stream": "ffmpeg -loglevel error -i call.wav -f s16le -ac 1 -ar 16000 - |\n"
    "  websocat --binary --no-close '{socket}/v1/stream?rate=16000'",
    "/healthz": "curl {base}/healthz",
    "/readyz": "curl {base}/readyz",
    "/metrics": "curl {base}/metrics",
}
STREAM_TEXT = (
    "A WebSocket. Send binary messages of raw mono samples of any length; each hop is answered by a text message: one "
    "line of JSON, like the answer of /v1/predict. Unusable samples are answered with what, got, expected "
    "and remedy, and the stream continues. The text message end closes the stream once all samples are "
    "answered. Browsers, which cannot send headers here, give the token as a subprotocol: affekt, bearer.TOKEN."
)
HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>affekt: API</title><link rel="icon" href="/page/icon.svg"><link rel="stylesheet" href="/page/style.css"></head>
<body class="document"><main>
<p><a href="/">&larr; affekt</a></p><h1>API</h1>"""


def add_documentation(app: FastAPI) -> None:
    """The page at `/docs`."""

    async def page(request: Request) -> HTMLResponse:
        return HTMLResponse(render(app.openapi(), str(request.base_url).rstrip("/")))

    app.add_route("/docs", page, include_in_schema=False)


def render(description: Mapping[str, Any], base: str) -> str:
    """The page for an OpenAPI description and the address of the server."""
    title = f"{description['info']['title']} {description['info']['version']}"
    parts = [HEAD, f"<p>{escape(title)}. {escape(description['info']['description'].replace('*', ''))}</p>"]
    parts.append("<p>For programs: <a href='/openapi.json'>/openapi.json</a>. Errors are JSON: <code>what</code>,")
    parts.append("<code>got</code>, <code>expected</code>, <code>remedy</code>; <code>also</code> lists others.")
    parts.append("A server with a token needs <code>Authorization: Bearer TOKEN</code> for /v1 and /metrics.</p>")
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            parts += _operation(method.upper(), path, operation, base)
            if path == "/v1/timeline":
                parts += _operation("WS", "/v1/stream", _stream_operation(), base)
    parts += ["<section><h2>Error statuses</h2>", *_table("Status", _refusals(description)), "</section>"]
    return "\n".join([*parts, "</main></body></html>"])


def _refusals(description: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every error status with its meaning."""
    operations = (operation for methods in description["paths"].values() for operation in methods.values())
    found = {status: said["description"] for operation in operations for status, said in operation["responses"].items()}
    return ((status, text) for status, text in sorted(found.items()) if status != "200")


def _operation(method: str, path: str, operation: Mapping[str, Any], base: str) -> Iterator[str]:
    yield f"<section><h2><code>{method} {escape(path)}</code></h2><p>{escape(operation['summary'])}.</p>"
    if "description" in operation:
        text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(operation["description"]))
        yield f"<p>{text}</p>"
    example = EXAMPLES[path].format(base=base, socket=base.replace("http", "ws", 1))
    yield f"<pre tabindex='0'>{escape(example)}</pre>"
    yield from _table("Query", map(_parameter, operation.get("parameters", ())))
    content = operation.get("responses", {}).get("200", {}).get("content", {}).get("application/json", {})
    for answer in content.get("examples", {}).values():
        text = json.dumps(answer["value"], indent=1)
        yield f"<details><summary>Example answer: {escape(answer['summary'])}</summary>"
        yield f"<pre tabindex='0'>{escape(text)}</pre></details>"
    yield "</section>"


def _parameter(parameter: Mapping[str, Any]) -> tuple[str, str]:
    schema = parameter["schema"]
    default = f" ({schema['default']})" if schema.get("default") not in (None, []) else ""
    return parameter["name"], parameter.get("description", schema.get("description", "")) + default


def _table(title: str, rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    lines = [f"<tr><td><code>{escape(name)}</code></td><td>{escape(text)}</td></tr>" for name, text in rows]
    if lines:
        yield f"<table><caption>{title}</caption>{''.join(lines)}</table>"


def _stream_operation() -> dict[str, Any]:
    fields = StreamOptions.model_json_schema()["properties"].items()
    return {
        "summary": "A live stream",
        "description": STREAM_TEXT,
        "parameters": [{"name": name, "schema": schema} for name, schema in fields],
    }
