"""One client's connection: uvicorn's HTTP/1.1 over h11, with an end to all waiting.

uvicorn bounds headers in size but not in time, waits for a silent client for ever, and keeps an answer for a client
that does not read it. Here each connection has one timer, set while nothing is in work: a client that has not sent a
whole request's head by then, or does not go on reading its answer, is parted with.
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
"""For a client that was refused at once to read why."""
PARTING_SHARE = 0.5
"""Of the connections there may be, so many more are kept for that; with both, the usual 1,024 open files are enough."""


class Connection(H11Protocol):
    """uvicorn's protocol with timeouts and a bounded number of connections.

    The limits come in the application's lifespan state, under `limits`; under `parting` is an empty set at first.
    """

    _timer: asyncio.TimerHandle | None = None
    _unread_bytes = 0
    _parted = False

    @property
    def _limits(self) -> Limits:
        limits: Limits = self.app_state["limits"]
        return limits

    @property
    def _parting(self) -> set[Connection]:
        """Those of all connections that are refused and not yet gone."""
        parting: set[Connection] = self.app_state["parting"]
        return parting

    @property
    def _clients_turn(self) -> bool:
        """Whether nothing happens here until the client sends, or reads."""
        return self.cycle is None or self.cycle.response_complete or self.flow.write_paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        most = self.app_state["lag"].capacity(self._limits.connections)
        if len(self.connections) > most:
            got, expected = f"{len(self.connections) - 1} of them", f"at most {most}"
            self._part(RequestError.busy(Fault("connections", got, expected, "come again in 2 s"), 2, status=503))
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing() and not self._parted:
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
        self._parting.discard(self)
        self._stop_watching()

    def handle_websocket_upgrade(self, event: object) -> None:
        self._stop_watching()
        super().handle_websocket_upgrade(event)  # type: ignore[arg-type]

    def _watch(self) -> None:
        """Set the timer when it becomes the client's turn, and stop it when it no longer is."""
        if not self._clients_turn:
            self._stop_watching()
        elif self._timer is None:
            self._unread_bytes = self.transport.get_write_buffer_size()
            self._timer = self.loop.call_later(self._limits.header_seconds, self._on_time)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        """The client had its time: it goes, unless it is still reading a long answer."""
        self._timer = None
        unread = self.transport.get_write_buffer_size()
        if 0 < unread < self._unread_bytes:
            self._watch()
        elif not unread and self.cycle is None and self.conn.trailing_data[0]:
            got = f"no whole request within {self._limits.header_seconds:g} s"
            self._part(RequestError.because(408, Fault("request", got, "a request line and headers", "send faster")))
        else:
            self.transport.abort()

    def _part(self, refusal: RequestError) -> None:
        """Say why, and close as soon as the client has closed its side.

        What it still sends is read and forgotten: a connection that is closed with something unread is reset, and then
        the client may never see the answer. Where too many are being parted with, the next ones are closed at once.
        """
        self._parted = True
        self._stop_watching()
        self.connections.discard(self)
        body = json.dumps(problem(refusal)).encode()
        status = HTTPStatus(refusal.status)
        fields = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
        lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
        lines += [f"{name}: {value}" for name, value in {**fields, **refusal.headers}.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode("ascii") + body)
        if len(self._parting) < PARTING_SHARE * self._limits.connections:
            self._parting.add(self)
            with suppress(OSError):  # one that has left
                self.transport.write_eof()
        else:
            self.transport.close()
        self.loop.call_later(REFUSED_SECONDS, self.transport.abort)
