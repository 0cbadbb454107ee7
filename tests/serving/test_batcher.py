"""Dynamic batching: equal lengths share a batch, every caller gets its own answer, none is lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from affekt.recognition.recognizer import Recognizer
from affekt.serving.batcher import Batcher
from affekt.serving.deadline import PendingAnswer

Floats = NDArray[np.float32]


def echo(waveforms: Sequence[Floats]) -> Floats:
    """Each waveform's first sample, twice."""
    return np.stack([np.repeat(waveform[:1] * 2, 2) for waveform in waveforms])


def wave(value: float, samples: int = 100) -> Floats:
    return np.full(samples, value, np.float32)


async def answer(batcher: Batcher, waveform: Floats) -> Floats:
    pending = PendingAnswer(60)
    batcher.submit(pending, waveform)
    async with asyncio.timeout(20):
        return await pending.answer()


@contextmanager
def held_pool(workers: int) -> Iterator[tuple[ThreadPoolExecutor, threading.Event]]:
    """Threads that begin to work when an event is set, so that a test says who comes before that."""
    free = threading.Event()
    with ThreadPoolExecutor(workers) as pool:
        for _ in range(workers):
            pool.submit(free.wait, 20)
        try:
            yield pool, free
        finally:
            free.set()


def together(
    waveforms: Sequence[Floats],
    model: Callable[[Sequence[Floats]], Floats] = echo,
    most_samples: int = 10_000,
    workers: int = 1,
) -> tuple[list[Floats | BaseException], list[int]]:
    """Answers to waveforms that come at the same time, and the sizes of the batches."""
    sizes: list[int] = []

    async def ask() -> list[Floats | BaseException]:
        with held_pool(workers) as (pool, free):
            batcher = Batcher(model, pool, workers, 0, most_samples, sizes.append)
            asked = [asyncio.create_task(answer(batcher, waveform)) for waveform in waveforms]
            await asyncio.sleep(0)
            free.set()
            return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(ask()), sizes


def test_each_caller_gets_the_answer_to_its_waveform() -> None:
    values = np.random.default_rng(0).normal(size=50)
    waveforms = [wave(value, samples=100 + index % 3) for index, value in enumerate(values)]
    answers, _ = together(waveforms, workers=2)
    np.testing.assert_allclose(np.stack(answers)[:, 0], 2 * values.astype(np.float32))


def test_only_equal_lengths_share_a_batch() -> None:
    _, sizes = together([wave(1)] * 4 + [wave(1, samples=50)] * 3 + [wave(1, samples=70)])
    assert sorted(sizes) == [1, 3, 4]


def test_a_batch_is_bounded_and_the_rest_is_next() -> None:
    answers, sizes = together([wave(value) for value in range(10)], most_samples=400)
    assert sizes == [4, 4, 2]
    assert [answer[0] for answer in answers] == [2 * value for value in range(10)]


def test_a_waveform_longer_than_the_bound_runs_alone() -> None:
    assert together([wave(1)] * 3, most_samples=10)[1] == [1, 1, 1]


def test_the_length_that_has_waited_longest_is_next() -> None:
    _, sizes = together([wave(1), *[wave(1, samples=50)] * 3, wave(1), wave(1, samples=70)])
    assert sizes == [2, 3, 1]


def test_the_first_of_a_batch_waits_for_others() -> None:
    sizes: list[int] = []

    async def ask() -> None:
        with ThreadPoolExecutor(1) as pool:
            batcher = Batcher(echo, pool, 1, 0.5, 10_000, sizes.append)
            first = asyncio.create_task(answer(batcher, wave(1)))
            await asyncio.sleep(0.05)
            await asyncio.gather(first, answer(batcher, wave(2)))

    asyncio.run(ask())
    assert sizes == [2]


def test_a_batch_grows_while_all_workers_are_busy() -> None:
    busy, free = threading.Event(), threading.Event()

    def slow(waveforms: Sequence[Floats]) -> Floats:
        if len(waveforms[0]) == 1:
            busy.set()
            free.wait(20)
        return echo(waveforms)

    async def ask() -> list[int]:
        sizes: list[int] = []
        with ThreadPoolExecutor(1) as pool:
            batcher = Batcher(slow, pool, 1, 0, 10_000, sizes.append)
            asked = [asyncio.create_task(answer(batcher, wave(1, samples=1)))]
            assert await asyncio.to_thread(busy.wait, 20)
            asked += [asyncio.create_task(answer(batcher, wave(1))) for _ in range(5)]
            await asyncio.sleep(0)
            free.set()
            await asyncio.gather(*asked)
        return sizes

    assert asyncio.run(ask()) == [1, 5]


def test_submit_is_thread_safe_and_runs_are_bounded() -> None:
    values = np.random.default_rng(0).normal(size=400)
    running, most = threading.Semaphore(2), []

    def bounded(waveforms: Sequence[Floats]) -> Floats:
        most.append(running.acquire(blocking=False))
        time.sleep(0.002)  # so that they meet
        try:
            return echo(waveforms)
        finally:
            running.release()

    async def ask() -> list[Floats]:
        turns = [PendingAnswer(60) for _ in values]
        with ThreadPoolExecutor(3) as pool, ThreadPoolExecutor(8) as callers:
            batcher = Batcher(bounded, pool, 2, 0.001, 1_000)
            for index, (pending, value) in enumerate(zip(turns, values, strict=True)):
                callers.submit(batcher.submit, pending, wave(value, samples=100 + index % 5))
            async with asyncio.timeout(30):
                return [await pending.answer() for pending in turns]

    np.testing.assert_allclose(np.stack(asyncio.run(ask()))[:, 0], 2 * values.astype(np.float32))
    assert all(most)


def test_a_failing_model_fails_its_batch_only() -> None:
    def fragile(waveforms: Sequence[Floats]) -> Floats:
        if len(waveforms[0]) == 50:
            raise ValueError("broken")
        return echo(waveforms)

    answers, _ = together([wave(1), wave(1, samples=50), wave(3), wave(2, samples=50)], fragile)
    assert [isinstance(answer, ValueError) for answer in answers] == [False, True, False, True]


def test_too_few_answers_fail_the_batch() -> None:
    answers, _ = together([wave(1), wave(2)], lambda waveforms: echo(waveforms)[:-1])
    assert isinstance(answers[1], ValueError)


def test_a_cancelled_waveform_is_not_run() -> None:
    seen: list[float] = []

    def watch(waveforms: Sequence[Floats]) -> Floats:
        seen.extend(float(waveform[0]) for waveform in waveforms)
        return echo(waveforms)

    async def ask() -> list[Floats]:
        with held_pool(1) as (pool, free):
            batcher = Batcher(watch, pool, 1, 0, 10_000)
            asked = [asyncio.create_task(answer(batcher, wave(value))) for value in (1, 2, 3)]
            await asyncio.sleep(0)
            asked[1].cancel()
            await asyncio.wait([asked[1]])
            free.set()
            return [await asked[0], await asked[2]]

    assert [answer[0] for answer in asyncio.run(ask())] == [2, 6]
    assert seen == [1, 3]


@pytest.mark.parametrize("samples", [4_000, 16_000])
def test_an_answer_does_not_depend_on_the_batch(recognizer: Recognizer, samples: int) -> None:
    rng = np.random.default_rng(1)
    waveforms = [(0.1 * rng.normal(size=samples)).astype(np.float32) for _ in range(9)]
    alone = [recognizer.probabilities([waveform]).probabilities[0] for waveform in waveforms]
    answers, sizes = together(
        waveforms, lambda batch: recognizer.probabilities(batch).probabilities, most_samples=10**6
    )
    assert sizes == [9]
    np.testing.assert_array_equal(np.stack(answers), np.stack(alone))
