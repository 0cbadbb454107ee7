"""One prediction's way through the house: from thread to thread, without a stop at the event loop.

The loop reads and answers for everybody, and under load each thing that it has to do waits for hundreds of others. So
it hands a recording to the threads and hears of it again when there is an answer; whoever works towards that asks first
whether it is still wanted.
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


class Turn:
    """An answer that somebody waits for, but not for ever. Any thread may call all but :meth:`answer`.

    The first of its ends counts: a value, an error, a caller who leaves, or the end of the patience.

    Args:
        patience_seconds: after which no more work towards it is begun: who is served that late has mostly left, and
            keeps others waiting as long.

    >>> async def ask():
    ...     turn = Turn(patience_seconds=5)
    ...     turn.attempt(lambda: turn.succeed("angry"))
    ...     return await turn.answer()
    >>> asyncio.run(ask())
    'angry'
    """

    def __init__(self, patience_seconds: float) -> None:
        self._came = time.monotonic()
        self._patience_seconds = patience_seconds
        self._begun = False
        self._answer: Future[Any] = Future()

    async def answer(self) -> Any:
        """The model's answer; a caller that is cancelled wants it no longer.

        Raises:
            RequestError: 503, it was too late to begin.
        """
        end = asyncio.get_running_loop().call_later(self._patience_seconds, self.wanted)  # if all threads are busy
        try:
            return await asyncio.wrap_future(self._answer)
        finally:
            end.cancel()

    def attempt(self, work: Callable[[], None]) -> None:
        """Do some work towards the answer if it is wanted; an exception becomes the answer."""
        if not self.wanted():
            return
        try:
            work()
        except Exception as error:
            self.fail(error)

    def wanted(self) -> bool:
        """Whether somebody waits for it. Who has waited too long is told so, and waits no longer."""
        waited_seconds = time.monotonic() - self._came
        if not self._begun and waited_seconds >= self._patience_seconds:
            got, expected = f"a wait of {waited_seconds:.1f} s", f"less than {self._patience_seconds:g} s"
            fault = Fault("predictions", got, expected, f"come again in {RETRY_AFTER_SECONDS} s")
            self.fail(RequestError.busy(fault, RETRY_AFTER_SECONDS, status=503))
        return not self._answer.done()

    def begin(self) -> bool:
        """Whether it is wanted; if so it is worked on from now on, and no longer too late."""
        self._begun = self.wanted()
        return self._begun

    def succeed(self, value: Any) -> None:
        """Answer, if somebody waits for it."""
        with suppress(InvalidStateError):
            self._answer.set_result(value)

    def fail(self, error: Exception) -> None:
        """Answer with an exception, if somebody waits for it."""
        with suppress(InvalidStateError):
            self._answer.set_exception(error)
