"""The access log: one line per request with its status, duration and id. Nothing about the recording is logged.

As text: `127.0.0.1:50000 POST /v1/predict 200 12.3 ms id=4f1c...`; as JSON, the same facts by name.
"""

from __future__ import annotations

import logging
import re
import secrets
from typing import Any

from starlette.types import Scope

from affekt.runtime.logs import logs_json

LOG = logging.getLogger("affekt.access")
ID_HEADER = "x-request-id"


def request_id(offered: str | None) -> str:
    """The id of a request: the one that the client or a proxy sent, if it is plain and short; else a new one.

    >>> request_id("4bf92f35-77b3"), len(request_id("two\\nlines")), len(request_id(None))
    ('4bf92f35-77b3', 16, 16)
    """
    if offered and re.fullmatch(r"[\w.:-]{1,64}", offered, re.ASCII):
        return offered
    return secrets.token_hex(8)


def log_request(scope: Scope, status: int, seconds: float, identity: str) -> None:
    """Log one request after its answer.

    Args:
        scope: of the request. The query is left out.
        status: of the answer; 101 for a stream that was accepted.
        seconds: from the request's head to the end of the answer, or of the stream.
        identity: the request's id, which the answer carries in the header `X-Request-ID`.
    """
    host, port = scope.get("client") or ("-", 0)
    facts = {
        "client": f"{host}:{port}",
        "method": scope.get("method", "WS"),
        "path": scope["path"],
        "status": status,
        "milliseconds": round(1e3 * seconds, 1),
        "request_id": identity,
    }
    LOG.info("request", extra={"facts": facts})


class TextFormatter(logging.Formatter):
    """A record of :func:`log_request` as one line of text.

    >>> facts = {"client": "a:1", "method": "GET", "path": "/", "status": 200, "milliseconds": 1.5, "request_id": "x"}
    >>> TextFormatter().format(logging.makeLogRecord({"facts": facts}))
    'a:1 GET / 200 1.5 ms id=x'
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line; control characters in the path are escaped."""
        facts: dict[str, Any] = getattr(record, "facts", {})
        if not facts:
            return record.getMessage()
        path = facts["path"].encode("unicode_escape").decode("ascii")
        return (
            f"{facts['client']} {facts['method']} {path} {facts['status']} {facts['milliseconds']} ms "
            f"id={facts['request_id']}"
        )


def logging_config(access_log: bool, as_json: bool | None = None) -> dict[str, Any]:
    """Logging of a server process in the form of `logging.config`, on standard error.

    Args:
        access_log: whether requests are logged.
        as_json: one JSON record per line instead of text; by default as this process logs.
    """
    json = "affekt.runtime.logs.JsonFormatter"
    as_json = logs_json() if as_json is None else as_json
    error: dict[str, Any] = {"()": json} if as_json else {"format": "affekt: %(levelname)s: %(message)s"}
    access = {"()": json if as_json else f"{__name__}.TextFormatter"}
    handlers = {
        name: {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": name}
        for name in ("error", "access")
    }
    level = "INFO" if access_log else "CRITICAL"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"error": error, "access": access},
        "handlers": handlers,
        "loggers": {
            "uvicorn.error": {"handlers": ["error"], "level": "ERROR", "propagate": False},
            LOG.name: {"handlers": ["access"], "level": level, "propagate": False},
        },
    }
