"""Log messages of commands on standard error: text, or one JSON object per line.

Records go through the standard library's logger `affekt`; structured values (job, epoch, measures) are in their
attribute `facts`. They contain file paths, but no audio and no transcripts.
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
        """The record as one line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": time, "level": record.levelname.lower(), "message": record.getMessage()}
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to the current `sys.stderr`, which tests and notebooks replace."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def log_as(format: LogFormat) -> None:
    """Choose text or JSON for the rest of the process."""
    LOG.handlers = [handler for handler in LOG.handlers if not isinstance(handler, _StandardError)]
    if format == "json":
        handler = _StandardError()
        handler.setFormatter(JsonFormatter())
        LOG.addHandler(handler)
        LOG.setLevel(logging.INFO)
        LOG.propagate = False


def logs_json() -> bool:
    """Whether JSON is logged, in which case no progress bars are shown."""
    return any(isinstance(handler, _StandardError) for handler in LOG.handlers)


def say(message: str, level: int = logging.WARNING, **facts: Any) -> None:
    """Log a message.

    Args:
        message: text, printed as `affekt: message`.
        level: level of the standard library.
        facts: structured values of the JSON record.
    """
    if logs_json():
        LOG.log(level, message, extra={"facts": facts})
    else:
        print(f"affekt: {message}", file=sys.stderr)
