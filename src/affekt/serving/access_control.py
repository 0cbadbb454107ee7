"""The door: who may ask, under which name, from which page; and the headers on every answer.

An ASGI layer around the whole application, so that nothing inside can forget it. It also turns away at once
whom there is no place for, turns an exception that nobody expected into an answer and a line in the log, and counts.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from affekt.errors import Fault
from affekt.serving.admission import AdmissionControl
from affekt.serving.problems import RequestError, answer
from affekt.serving.prometheus import Metrics
from affekt.serving.settings import ServerSettings

GUARDED = ("/v1/", "/metrics")
"""What a token opens; the page, its documentation and the health checks are for everybody."""
BEARER = "bearer."
"""Browsers cannot send headers with a WebSocket: there the token is the subprotocol `bearer.<token>`."""

CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "media-src blob:",
        "connect-src 'self'",
        "worker-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
SECURITY_HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
HEADERS = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
"""On every answer that does not say something else."""

log = logging.getLogger(__name__)


class AccessControl:
    """The application behind its door.

    Args:
        app: what is behind it.
        settings: who may ask.
        metrics: told of every answer.
        admissions: by path: whom to turn away while a house is full, before anything else is done for them.
    """

    def __init__(
        self, app: ASGIApp, settings: ServerSettings, metrics: Metrics, admissions: Mapping[str, AdmissionControl]
    ) -> None:
        self._app = app
        self._settings = settings
        self._hosts = settings.known_hosts
        self._metrics = metrics
        self._admissions = admissions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        came, status = time.monotonic(), 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                said = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in HEADERS if pair[0] not in said)]
            await send(message)

        try:
            refusal = self._refusal(scope)
            await (answer(refusal) if refusal else self._app)(scope, receive, send_guarded)
        except asyncio.CancelledError:  # the time for a graceful end is over
            if not status:
                await answer(_ending())(scope, receive, send_guarded)
        except Exception:
            if status:
                raise
            log.exception("defect while answering %s", self._name(scope))
            await answer(_defect())(scope, receive, send_guarded)
        finally:
            self._metrics.requests.labels(self._name(scope), str(status)).inc()
            self._metrics.request_seconds.labels(self._name(scope)).observe(time.monotonic() - came)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope)
        await (answer(refusal) if refusal else self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> RequestError | None:
        headers = Headers(scope=scope)
        return self._stranger(headers) or self._foreigner(headers) or self._unknown(scope, headers) or self._full(scope)

    def _stranger(self, headers: Headers) -> RequestError | None:
        """A request for another host: a page may come so to which a name server gave this address (DNS rebinding)."""
        known = self._hosts
        host = headers.get("host", "")
        if known is None or re.sub(r":\d*$", "", host).lower() in known:
            return None
        remedy = "start it with --hosts and this name if it is the server's"
        return RequestError.because(421, Fault("host", repr(host), f"one of {', '.join(sorted(known))}", remedy))

    def _foreigner(self, headers: Headers) -> RequestError | None:
        """A request that another site's page makes in the user's browser."""
        origin = headers.get("origin")
        if origin is None or origin in self._settings.origins or _host_of(origin) == headers.get("host", "").lower():
            return None
        remedy = "start the server with --origins and this origin if it may"
        return RequestError.because(403, Fault("origin", repr(origin), "the server's own page", remedy))

    def _unknown(self, scope: Scope, headers: Headers) -> RequestError | None:
        """A request without the token, compared in constant time."""
        token = self._settings.token
        if token is None or not scope["path"].startswith(GUARDED):
            return None
        offered = list(_offered_tokens(scope, headers))
        if any(hmac.compare_digest(offer.encode(), token.encode()) for offer in offered):
            return None
        got = "another token" if offered else "no token"
        fault = Fault("authorization", got, "Authorization: Bearer <token>", "ask whoever runs this server")
        return RequestError.because(401, fault, headers={"www-authenticate": "Bearer"})

    def _full(self, scope: Scope) -> RequestError | None:
        """A request for work, of which there is as much as there may be."""
        admission = self._admissions.get(scope["path"])
        return admission.refusal() if admission and scope.get("method") == "POST" else None

    def _name(self, scope: Scope) -> str:
        """The path's name in measures: one of ours, so that their number is bounded."""
        path = scope["path"]
        return str(path if path in self._admissions else getattr(scope.get("route"), "path", "other"))


def _offered_tokens(scope: Scope, headers: Headers) -> Iterator[str]:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield value.strip()
    for protocol in scope.get("subprotocols", ()):
        if protocol.startswith(BEARER):
            yield protocol.removeprefix(BEARER)


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _ending() -> RequestError:
    return RequestError.busy(Fault("server", got="its end before the answer"), 10, status=503)


def _defect() -> RequestError:
    remedy = "report it, with what the server's log says"
    return RequestError.because(500, Fault("server", got="a defect of this program", remedy=remedy))
