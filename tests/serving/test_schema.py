"""The API conforms to its OpenAPI description, for requests generated from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from affekt.recognition.recognizer import Recognizer
from affekt.serving.app import create_app
from affekt.serving.run import listen, make_server
from affekt.serving.settings import ServerSettings

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
"""Not whether what fits the description is accepted: bytes that are no recording are refused."""


@pytest.fixture(scope="module")
def description(recognizer: Recognizer, eventually: Callable[..., bool]) -> Iterator[object]:
    """What a server on a socket says of itself."""
    server = make_server(create_app(recognizer, ServerSettings()), ServerSettings())
    with listen("127.0.0.1", 0) as listener, ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.run, sockets=[listener])
        assert eventually(lambda: server.started)
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{listener.getsockname()[1]}/openapi.json")
        server.should_exit = True
        running.result(30)


OPERATIONS = {
    ("POST", "/v1/predict"),
    ("POST", "/v1/timeline"),
    ("GET", "/v1/model"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
}


@pytest.mark.parametrize(("method", "path"), sorted(OPERATIONS))
def test_every_operation_conforms_to_its_description(description: Any, method: str, path: str) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(description[path][method].as_strategy())
    def keep_to_it(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS)

    keep_to_it()


def test_every_operation_is_tested(description: Any) -> None:
    found = {(operation.ok().method.upper(), operation.ok().path) for operation in description.get_all_operations()}
    assert found == OPERATIONS
