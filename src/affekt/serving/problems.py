"""Errors as HTTP answers: a status and a JSON body with what, got, expected and remedy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Self

from starlette.responses import JSONResponse

from affekt.errors import AffektError, Fault

FAULT_FIELDS = tuple(field.name for field in fields(Fault))


class RequestError(AffektError):
    """An error answer to a request.

    Attributes:
        status: of the HTTP answer.
        headers: of the answer.
    """

    status: int = 400
    headers: Mapping[str, str]

    @classmethod
    def because(cls, status: int, *faults: Fault, headers: Mapping[str, str] | None = None) -> Self:
        """An error with a status and one or more faults."""
        refusal = cls.of(faults)
        refusal.status = status
        refusal.headers = headers or {}
        return refusal

    @classmethod
    def busy(cls, fault: Fault, retry_after_seconds: float, status: int = 429) -> Self:
        """A temporary refusal with a Retry-After."""
        return cls.because(status, fault, headers={"retry-after": str(max(1, math.ceil(retry_after_seconds)))})


def problem(error: AffektError) -> dict[str, Any]:
    """The JSON body: the first fault, and the others under `also`.

    >>> from affekt.errors import AudioError
    >>> problem(AudioError("recording", got="10 ms", expected="at least 100 ms"))
    {'what': 'recording', 'got': '10 ms', 'expected': 'at least 100 ms', 'remedy': '', 'also': []}
    """
    first, *others = [{name: getattr(fault, name) for name in FAULT_FIELDS} for fault in error.faults]
    return first | {"also": others}


def answer(error: AffektError) -> JSONResponse:
    """The HTTP answer to an error; 422 for errors of recordings and options that the library raises."""
    if isinstance(error, RequestError):
        return JSONResponse(problem(error), error.status, dict(error.headers))
    return JSONResponse(problem(error), 422)
