"""What a command says on standard error as it goes: lines for people, or a JSON object a line for programs.

Records go through the logger `affekt` of the standard library, each with its facts (job, epoch, measures) in its
attribute `facts`. No audio and nothing that was said is ever in them; paths of files are.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

LogFormat = Literal["text", "json"]
LOG = logging.getLogger("affekt")


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time (UTC), level, message, and its facts.

    >>> record = logging.makeLogRecord({"levelname": "INFO", "msg": "epoch", "created": 0.0, "facts": {"ua": 0.5}})
    >>> print(JsonFormatter().format(record))
    {"time": "1970-01-01T00:00:00.000Z", "level": "info", "message": "epoch", "ua": 0.5}
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the record holds."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": time, "level": record.levelname.lower(), "message": record.getMessage()}
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what standard error is when it writes, which tests and notebooks change."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def log_as(format: LogFormat) -> None:
    """Let the command line log this way from now on; as text, it prints as if nobody logged."""
    LOG.handlers = [handler for handler in LOG.handlers if not isinstance(handler, _StandardError)]
    if format == "json":
        handler = _StandardError()
        handler.setFormatter(JsonFormatter())
        LOG.addHandler(handler)
        LOG.setLevel(logging.INFO)
        LOG.propagate = False


def logs_json() -> bool:
    """Whether lines for programs are wanted: no progress bars then."""
    return any(isinstance(handler, _StandardError) for handler in LOG.handlers)


def say(message: str, level: int = logging.WARNING, **facts: Any) -> None:
    """A line for people, `affekt: message`, or a record for programs."""
    if logs_json():
        LOG.log(level, message, extra={"facts": facts})
    else:
        print(f"affekt: {message}", file=sys.stderr)
