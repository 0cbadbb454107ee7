"""A client's connection: uvicorn's HTTP/1.1 over h11, with timeouts.

uvicorn bounds the size of headers but not the time, waits for a silent client forever, and keeps an answer for a client
that does not read it. Here each connection has one timer, set while the server waits for the client: a client that has
not sent a complete head by then, or stops reading its answer, is disconnected.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from http import HTTPStatus

from uvicorn.protocols.http.h11_impl import H11Protocol

from affekt.errors import Fault
from affekt.serving.problems import RequestError, problem
from affekt.serving.settings import Limits

REFUSED_SECONDS = 1.0
"""Time for a refused client to read the reason."""
CLOSING_SHARE = 0.5
"""Further connections, as a share of the limit, that are only being closed. All fit into the usual 1,024 files."""


class Connection(H11Protocol):
    """uvicorn's protocol with timeouts and a bounded number of connections.

    The limits are in the application's lifespan state under `limits`, an empty set under `closing`.
    """

    _timer: asyncio.TimerHandle | None = None
    _unread_bytes = 0
    _refused = False

    @property
    def _limits(self) -> Limits:
        limits: Limits = self.app_state["limits"]
        return limits

    @property
    def _closing(self) -> set[Connection]:
        """Connections that are refused and not yet closed."""
        closing: set[Connection] = self.app_state["closing"]
        return closing

    @property
    def _waits_for_client(self) -> bool:
        """Whether nothing happens until the client sends or reads."""
        return self.cycle is None or self.cycle.response_complete or self.flow.write_paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        most = self.app_state["lag"].capacity(self._limits.connections)
        if len(self.connections) > most:
            got, expected = f"{len(self.connections) - 1} of them", f"at most {most}"
            self._refuse(RequestError.busy(Fault("connections", got, expected, "retry after 2 s"), 2, status=503))
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing() and not self._refused:
            super().data_received(data)
            self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._closing.discard(self)
        self._stop_watching()

    def handle_websocket_upgrade(self, event: object) -> None:
        self._stop_watching()
        super().handle_websocket_upgrade(event)  # type: ignore[arg-type]

    def _watch(self) -> None:
        """Set the timer while the server waits for the client, and stop it otherwise."""
        if not self._waits_for_client:
            self._stop_watching()
        elif self._timer is None:
            self._unread_bytes = self.transport.get_write_buffer_size()
            self._timer = self.loop.call_later(self._limits.header_seconds, self._on_time)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        """Time out: disconnect, unless the client is still reading a long answer."""
        self._timer = None
        unread = self.transport.get_write_buffer_size()
        if 0 < unread < self._unread_bytes:
            self._watch()
        elif not unread and self.cycle is None and self.conn.trailing_data[0]:
            got = f"no whole request within {self._limits.header_seconds:g} s"
            self._refuse(RequestError.because(408, Fault("request", got, "a request line and headers", "send faster")))
        else:
            self.transport.abort()

    def _refuse(self, refusal: RequestError) -> None:
        """Send the reason, and close as soon as the client has closed its side.

        Until then its data is read and discarded: closing a connection with unread data resets it, and the client may
        never see the answer. Where too many connections are being closed, further ones are closed at once.
        """
        self._refused = True
        self._stop_watching()
        self.connections.discard(self)
        body = json.dumps(problem(refusal)).encode()
        status = HTTPStatus(refusal.status)
        fields = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
        lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
        lines += [f"{name}: {value}" for name, value in {**fields, **refusal.headers}.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode("ascii") + body)
        if len(self._closing) < CLOSING_SHARE * self._limits.connections:
            self._closing.add(self)
            with suppress(OSError):  # already disconnected
                self.transport.write_eof()
        else:
            self.transport.close()
        self.loop.call_later(REFUSED_SECONDS, self.transport.abort)
