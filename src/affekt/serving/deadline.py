"""A prediction's answer that is passed between threads and has a deadline.

Decoding and inference run in threads. The event loop, which is the bottleneck under load, only hands a recording over
and is woken once, by the answer. Every step asks first whether the answer is still wanted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any

from affekt.errors import Fault
from affekt.serving.problems import RequestError

RETRY_AFTER_SECONDS = 2


class PendingAnswer:
    """An answer that a client waits for, with a deadline. Every method but :meth:`answer` is thread-safe.

    The first outcome counts: a value, an error, a client that disconnects, or the deadline.

    Args:
        wait_seconds: deadline for inference to start. A request served later has mostly been given up by its client and
            delays the others.

    >>> async def ask():
    ...     pending = PendingAnswer(wait_seconds=5)
    ...     pending.attempt(lambda: pending.succeed("angry"))
    ...     return await pending.answer()
    >>> asyncio.run(ask())
    'angry'
    """

    def __init__(self, wait_seconds: float) -> None:
        self._start = time.monotonic()
        self._wait_seconds = wait_seconds
        self._begun = False
        self._answer: Future[Any] = Future()

    async def answer(self) -> Any:
        """Wait for the model's answer; cancelling the caller cancels the work.

        Raises:
            RequestError: 503, the deadline has passed.
        """
        deadline = asyncio.get_running_loop().call_later(self._wait_seconds, self.wanted)  # if all threads are busy
        try:
            return await asyncio.wrap_future(self._answer)
        finally:
            deadline.cancel()

    def attempt(self, work: Callable[[], None]) -> None:
        """Run `work` if the answer is still wanted; an exception becomes the answer."""
        if not self.wanted():
            return
        try:
            work()
        except Exception as error:
            self.fail(error)

    def wanted(self) -> bool:
        """Whether a client still waits. Fails the answer if the deadline has passed before inference started."""
        waited_seconds = time.monotonic() - self._start
        if not self._begun and waited_seconds >= self._wait_seconds:
            got, expected = f"a wait of {waited_seconds:.1f} s", f"less than {self._wait_seconds:g} s"
            fault = Fault("predictions", got, expected, f"retry after {RETRY_AFTER_SECONDS} s")
            self.fail(RequestError.busy(fault, RETRY_AFTER_SECONDS, status=503))
        return not self._answer.done()

    def begin(self) -> bool:
        """Whether the answer is still wanted; if so, inference starts now and the deadline no longer applies."""
        self._begun = self.wanted()
        return self._begun

    def succeed(self, value: Any) -> None:
        """Set the answer, unless there is an outcome already."""
        with suppress(InvalidStateError):
            self._answer.set_result(value)

    def fail(self, error: Exception) -> None:
        """Set an exception as the answer, unless there is an outcome already."""
        with suppress(InvalidStateError):
            self._answer.set_exception(error)
