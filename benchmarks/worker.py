"""An alternative that needs its own process: it runs in turns and times itself.

The alternative's module calls :func:`serve` with its works by name; a call of a :class:`Worker` returns the seconds
that it took. One line of JSON is sent each way; output of the alternative's libraries goes to a file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from tempfile import TemporaryFile
from time import perf_counter
from types import TracebackType
from typing import Any, Self, TextIO


class Worker:
    """A worker process.

    Attributes:
        facts: facts that it reports about itself.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self._log = TemporaryFile()  # noqa: SIM115  closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.facts = self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(30)
        self._log.close()

    def call(self, work: str) -> Callable[[], float]:
        """A function that has the peer do some work once, and gives its seconds."""

        def run() -> float:
            assert self._process.stdin
            print(work, file=self._process.stdin, flush=True)
            return float(self._answer()["seconds"])

        return run

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._process.wait(30)
            self._log.seek(0)
            raise RuntimeError(f"the peer ended: {self._log.read()[-2_000:].decode(errors='replace')}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def claim_output() -> TextIO:
    """Keep standard output for answers: libraries print to standard error from now on. Call it before they are used."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def serve(works: Mapping[str, Callable[[], object]], facts: Mapping[str, Any], answers: TextIO | None = None) -> None:
    """Do what is asked for, line by line, until standard input ends; `answers` is from :func:`claim_output`."""
    answers = answers or claim_output()
    print(json.dumps(facts), file=answers, flush=True)
    for line in sys.stdin:
        start = perf_counter()
        works[line.strip()]()
        print(json.dumps({"seconds": perf_counter() - start}), file=answers, flush=True)
