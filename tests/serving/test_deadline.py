"""A pending answer: its first outcome counts, and no work is done once it is no longer wanted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import numpy as np
import pytest

from affekt.errors import AudioError
from affekt.serving.deadline import PendingAnswer
from affekt.serving.problems import RequestError

HALVES = np.array([0.5, 0.5], np.float32)


def answer_to(pending: PendingAnswer, meanwhile: Callable[[], object] = lambda: None) -> np.ndarray:
    """The answer that a caller gets while `meanwhile` runs in another thread."""

    async def ask() -> np.ndarray:
        async with asyncio.timeout(20):
            thread = threading.Timer(0.05, meanwhile)
            thread.start()
            try:
                return await pending.answer()
            finally:
                await asyncio.to_thread(thread.join)

    return asyncio.run(ask())


def test_an_answer_comes_from_another_thread() -> None:
    pending = PendingAnswer(60)

    def work() -> None:
        assert pending.begin()
        pending.succeed(HALVES)

    assert answer_to(pending, lambda: pending.attempt(work)) is HALVES


def test_a_failure_becomes_the_answer() -> None:
    pending = PendingAnswer(60)

    def work() -> None:
        raise AudioError("recording", got="silence")

    with pytest.raises(AudioError, match="silence"):
        answer_to(pending, lambda: pending.attempt(work))


def test_a_request_past_its_deadline_gets_503_and_no_work() -> None:
    pending, done = PendingAnswer(0), []
    pending.attempt(lambda: done.append(1))
    assert (pending.begin(), done) == (False, [])
    with pytest.raises(RequestError, match=r"expected less than 0 s") as caught:
        answer_to(pending)
    assert (caught.value.status, caught.value.headers) == (503, {"retry-after": "2"})


def test_the_deadline_fires_while_all_threads_are_busy() -> None:
    with pytest.raises(RequestError) as caught:
        answer_to(PendingAnswer(0.01))
    assert caught.value.status == 503


def test_the_deadline_ends_when_inference_starts() -> None:
    pending = PendingAnswer(0.01)
    pending._start += 60  # as if it had just come
    assert pending.begin()
    pending._start -= 120
    assert pending.wanted()
    assert answer_to(pending, lambda: pending.succeed(HALVES)) is HALVES


def test_no_work_for_a_client_that_disconnected() -> None:
    pending, done = PendingAnswer(60), []

    async def leave() -> None:
        asking = asyncio.create_task(pending.answer())
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])

    asyncio.run(leave())
    pending.attempt(lambda: done.append(1))
    assert (pending.begin(), done) == (False, [])
    pending.succeed(HALVES)  # without effect
    pending.fail(ValueError())


def test_the_first_outcome_counts() -> None:
    pending = PendingAnswer(60)
    pending.succeed(HALVES)
    pending.fail(ValueError())
    pending.succeed(np.zeros(2, np.float32))
    assert answer_to(pending) is HALVES
