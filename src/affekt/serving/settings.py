"""Settings of a server: address, access and limits."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from affekt.errors import ConfigError, Fault

TOKEN_VARIABLE = "AFFEKT_TOKEN"
"""Environment variable with the token that clients must send."""
SHORTEST_TOKEN = 16
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Limits:
    """Limits of one server process. A request beyond one of them gets an error answer.

    Attributes:
        body_bytes: largest upload.
        pending_bytes: all uploads held in memory at a time.
        predictions: prediction requests queued or running.
        timelines: timeline requests queued or running; one per thread runs.
        streams: live streams at a time.
        connections: open connections at a time.
        timeline_seconds: longest recording for a timeline.
        wait_seconds: longest time that a prediction is queued.
        work_seconds: longest work on one timeline.
        header_seconds: for a client to send a request's headers, and between two reads of an answer.
        idle_seconds: between two pieces of an upload.
        body_seconds: for a whole upload.
        stream_idle_seconds: between two messages of a live stream.
        stream_message_bytes: largest message of a live stream.
        batch_wait_seconds: how long a recording waits for others of its length to form a batch.
        shutdown_seconds: for requests in flight at a graceful shutdown.
    """

    body_bytes: int = 64 * 2**20
    pending_bytes: int = 256 * 2**20
    predictions: int = 128
    timelines: int = 16
    streams: int = 16
    connections: int = 512
    timeline_seconds: float = 3_600.0
    wait_seconds: float = 5.0
    work_seconds: float = 300.0
    header_seconds: float = 10.0
    idle_seconds: float = 10.0
    body_seconds: float = 120.0
    stream_idle_seconds: float = 30.0
    stream_message_bytes: int = 2**20
    batch_wait_seconds: float = 0.003
    shutdown_seconds: int = 30

    def __post_init__(self) -> None:
        faults = [
            Fault(f"limits: {name.replace('_', '-')}", got=f"{value:g}", expected="more than 0")
            for name, value in asdict(self).items()
            if not value > 0 and name != "batch_wait_seconds"
        ]
        if not 0 <= self.batch_wait_seconds <= 1:
            faults.append(Fault("limits: batch-wait-seconds", f"{self.batch_wait_seconds:g}", "0 to 1"))
        if self.pending_bytes < self.body_bytes:
            faults.append(Fault("limits: pending-bytes", f"{self.pending_bytes}", "at least body-bytes"))
        if faults:
            raise ConfigError.of(faults)


@dataclass(frozen=True)
class ServerSettings:
    """A server's settings.

    Attributes:
        host, port: address to listen on.
        model: file written by `affekt export`; None: the bundled model.
        token: clients must send it as `Authorization: Bearer <token>`; None: no token is needed.
        hosts: accepted values of the Host header, besides this machine's own names. If empty, an address that is not
            loopback accepts all.
        origins: pages of other servers that may call this one from a browser, such as `https://app.example`.
        threads: recordings recognized in parallel; None: one per core.
        limits: bounds.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    model: Path | None = None
    token: str | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    threads: int | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults:
            raise ConfigError.of(faults)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.host)

    @property
    def known_hosts(self) -> frozenset[str] | None:
        """Names that a request's `Host` may hold; None for any."""
        if not self.loopback and not self.hosts:
            return None
        return frozenset(name.lower() for name in (*LOOPBACK_NAMES, *self.hosts))

    def to_json(self) -> str:
        """All settings as JSON, without the token."""
        values = asdict(self) | {"model": self.model and str(self.model)}
        del values["token"]
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str, token: str | None) -> Self:
        """The settings that :meth:`to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        values |= {"hosts": tuple(values["hosts"]), "origins": tuple(values["origins"])}
        values |= {"model": values["model"] and Path(values["model"]), "limits": Limits(**values["limits"])}
        return cls(**values, token=token)

    def _faults(self) -> Iterator[Fault]:
        if not 0 <= self.port <= 65_535:
            yield Fault("port", got=str(self.port), expected="0 to 65535")
        if self.threads is not None and self.threads < 1:
            yield Fault("threads", got=str(self.threads), expected="at least 1")
        if self.token is not None and not re.fullmatch(rf"[\w.~-]{{{SHORTEST_TOKEN},}}", self.token, re.ASCII):
            remedy = "make one: python -c 'import secrets; print(secrets.token_urlsafe())'"
            expected = f"at least {SHORTEST_TOKEN} letters, digits, '-', '_', '.' or '~'"
            yield Fault("token", got=f"one of {len(self.token)} characters", expected=expected, remedy=remedy)
        for origin in self.origins:
            if not re.fullmatch(r"https?://[^/\s]+", origin):
                yield Fault("origin", got=repr(origin), expected="scheme and host, such as https://app.example")


def is_loopback(host: str) -> bool:
    """Whether an address to listen at can be reached from this machine alone.

    >>> is_loopback("localhost"), is_loopback("127.0.0.2"), is_loopback("0.0.0.0"), is_loopback("example.org")
    (True, True, False, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
