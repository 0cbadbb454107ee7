"""Access control: host, origin and token of a request; and the headers, counts and log lines of every answer.

An ASGI layer around the whole application, so that no path can skip it. It also refuses requests at once when there is
no capacity, and turns an unexpected exception into an answer and a line in the log.
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
from affekt.serving.access_log import ID_HEADER, log_request, request_id
from affekt.serving.admission import AdmissionControl
from affekt.serving.problems import RequestError, answer
from affekt.serving.prometheus import Metrics
from affekt.serving.settings import ServerSettings

PROTECTED = ("/v1/", "/metrics")
"""Paths that need the token; the page, the documentation and the health checks do not."""
BEARER = "bearer."
"""Browsers cannot send headers with a WebSocket: there the token is the subprotocol `bearer.<token>`."""
MODEL_HEADER = "x-affekt-model"
SWITCHING_PROTOCOLS = 101

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
"""On every answer that does not set its own."""

log = logging.getLogger(__name__)


class AccessControl:
    """The application behind its checks.

    Args:
        app: the application.
        settings: hosts, origins and token.
        metrics: counts every answer.
        admissions: by path: requests without capacity are refused before anything else is done for them.
        model: name and version of the model, for a header of every answer of the API.
        access_log: log one line per request.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ServerSettings,
        metrics: Metrics,
        admissions: Mapping[str, AdmissionControl],
        model: str = "",
        access_log: bool = False,
    ) -> None:
        self._app = app
        self._settings = settings
        self._hosts = settings.known_hosts
        self._metrics = metrics
        self._admissions = admissions
        self._model = [(MODEL_HEADER.encode(), model.encode("ascii", "replace"))] if model else []
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = _Answer(self._headers(scope), send)
        try:
            refusal = self._refusal(scope)
            await (answer(refusal) if refusal else self._app)(scope, receive, reply.send)
        except asyncio.CancelledError:  # the time for a graceful shutdown is over
            if not reply.status:
                await answer(_shutting_down())(scope, receive, reply.send)
        except Exception:
            if reply.status:
                raise
            log.exception("internal error in %s, request %s", self._name(scope), reply.identity)
            await answer(_internal_error())(scope, receive, reply.send)
        finally:
            self._metrics.requests.labels(self._name(scope), str(reply.status)).inc()
            self._metrics.request_seconds.labels(self._name(scope)).observe(reply.seconds)
            self._log(scope, reply)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = _Answer(self._headers(scope), send)
        refusal = self._refusal(scope)
        try:
            await (answer(refusal) if refusal else self._app)(scope, receive, reply.send)
        finally:
            self._log(scope, reply)

    def _headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """Headers of the answer: the request's id, and on the API's paths the model."""
        identity = request_id(Headers(scope=scope).get(ID_HEADER))
        return [(ID_HEADER.encode(), identity.encode()), *(self._model if scope["path"].startswith("/v1/") else [])]

    def _log(self, scope: Scope, reply: _Answer) -> None:
        if self._access_log:
            log_request(scope, reply.status, reply.seconds, reply.identity)

    def _refusal(self, scope: Scope) -> RequestError | None:
        headers = Headers(scope=scope)
        return (
            self._check_host(headers)
            or self._check_origin(headers)
            or self._check_token(scope, headers)
            or self._check_capacity(scope)
        )

    def _check_host(self, headers: Headers) -> RequestError | None:
        """Refuse unknown names of this server: with DNS rebinding, a page's own host resolves to this address."""
        known = self._hosts
        host = headers.get("host", "")
        if known is None or re.sub(r":\d*$", "", host).lower() in known:
            return None
        remedy = "add the name with --hosts if it is the server's"
        return RequestError.because(421, Fault("host", repr(host), f"one of {', '.join(sorted(known))}", remedy))

    def _check_origin(self, headers: Headers) -> RequestError | None:
        """Refuse requests that a page of another site makes in a user's browser."""
        origin = headers.get("origin")
        if origin is None or origin in self._settings.origins or _host_of(origin) == headers.get("host", "").lower():
            return None
        remedy = "add the origin with --origins if it is allowed"
        return RequestError.because(403, Fault("origin", repr(origin), "the server's own page", remedy))

    def _check_token(self, scope: Scope, headers: Headers) -> RequestError | None:
        """Refuse requests without the token, which is compared in constant time."""
        token = self._settings.token
        if token is None or not scope["path"].startswith(PROTECTED):
            return None
        offered = list(_offered_tokens(scope, headers))
        if any(hmac.compare_digest(offer.encode(), token.encode()) for offer in offered):
            return None
        got = "another token" if offered else "no token"
        fault = Fault("authorization", got, "Authorization: Bearer <token>", "ask the operator of this server")
        return RequestError.because(401, fault, headers={"www-authenticate": "Bearer"})

    def _check_capacity(self, scope: Scope) -> RequestError | None:
        """Refuse work while no slot is free."""
        admission = self._admissions.get(scope["path"])
        return admission.refusal() if admission and scope.get("method") == "POST" else None

    def _name(self, scope: Scope) -> str:
        """The path in metrics: one of ours or `other`, so that the number of series is bounded."""
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


class _Answer:
    """Adds headers to an answer on its way out and keeps its status.

    Attributes:
        status: of the answer; 0 before it starts, 101 for an accepted WebSocket.
        identity: the request's id.
    """

    def __init__(self, headers: list[tuple[bytes, bytes]], send: Send) -> None:
        self.status = 0
        self.identity = headers[0][1].decode()
        self._start = time.monotonic()
        self._headers = headers
        self._send = send

    @property
    def seconds(self) -> float:
        """Seconds since the request's head was there."""
        return time.monotonic() - self._start

    async def send(self, message: Message) -> None:
        """Pass one message on."""
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
            known = {name for name, _ in message["headers"]}
            security = [pair for pair in HEADERS if pair[0] not in known] if kind == "http.response.start" else []
            message["headers"] = [*message["headers"], *security, *self._headers]
        elif kind == "websocket.accept":
            self.status = SWITCHING_PROTOCOLS
            message["headers"] = [*message.get("headers", ()), *self._headers]
        await self._send(message)


def _shutting_down() -> RequestError:
    return RequestError.busy(Fault("server", got="shut down before the answer was ready"), 10, status=503)


def _internal_error() -> RequestError:
    remedy = "report it with the request id and the server's log"
    return RequestError.because(500, Fault("server", got="an internal error", remedy=remedy))
