"""A prediction's turn: whichever of its ends comes first is the answer, and nobody works for one who has left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import numpy as np
import pytest

from affekt.errors import AudioError
from affekt.serving.problems import RequestError
from affekt.serving.turn import Turn

HALVES = np.array([0.5, 0.5], np.float32)


def answer_to(turn: Turn, meanwhile: Callable[[], object] = lambda: None) -> np.ndarray:
    """What a turn's caller gets while something happens in another thread."""

    async def ask() -> np.ndarray:
        async with asyncio.timeout(20):
            thread = threading.Timer(0.05, meanwhile)
            thread.start()
            try:
                return await turn.answer()
            finally:
                await asyncio.to_thread(thread.join)

    return asyncio.run(ask())


def test_an_answer_comes_from_another_thread() -> None:
    turn = Turn(60)

    def work() -> None:
        assert turn.begin()
        turn.succeed(HALVES)

    assert answer_to(turn, lambda: turn.attempt(work)) is HALVES


def test_a_failure_becomes_the_answer() -> None:
    turn = Turn(60)

    def work() -> None:
        raise AudioError("recording", got="silence")

    with pytest.raises(AudioError, match="silence"):
        answer_to(turn, lambda: turn.attempt(work))


def test_who_has_waited_too_long_is_told_when_to_come_again_and_not_worked_for() -> None:
    turn, done = Turn(0), []
    turn.attempt(lambda: done.append(1))
    assert (turn.begin(), done) == (False, [])
    with pytest.raises(RequestError, match=r"expected less than 0 s") as caught:
        answer_to(turn)
    assert (caught.value.status, caught.value.headers) == (503, {"retry-after": "2"})


def test_who_waits_is_told_too_while_all_threads_are_busy() -> None:
    with pytest.raises(RequestError) as caught:
        answer_to(Turn(0.01))
    assert caught.value.status == 503


def test_what_is_begun_in_time_is_not_too_late() -> None:
    turn = Turn(0.01)
    turn._came += 60  # as if it had just come
    assert turn.begin()
    turn._came -= 120
    assert turn.wanted()
    assert answer_to(turn, lambda: turn.succeed(HALVES)) is HALVES


def test_nobody_works_for_one_who_has_left() -> None:
    turn, done = Turn(60), []

    async def leave() -> None:
        asking = asyncio.create_task(turn.answer())
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])

    asyncio.run(leave())
    turn.attempt(lambda: done.append(1))
    assert (turn.begin(), done) == (False, [])
    turn.succeed(HALVES)  # which nobody hears
    turn.fail(ValueError())


def test_the_first_end_counts() -> None:
    turn = Turn(60)
    turn.succeed(HALVES)
    turn.fail(ValueError())
    turn.succeed(np.zeros(2, np.float32))
    assert answer_to(turn) is HALVES
