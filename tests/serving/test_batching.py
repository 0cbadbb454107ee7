"""Micro-batches: equal lengths together, nobody's answer for somebody else, and none lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from affekt.inference import Recognizer
from affekt.serving.batching import Batcher

Floats = NDArray[np.float32]


def echo(waveforms: Sequence[Floats]) -> Floats:
    """Each waveform's first sample, twice."""
    return np.stack([np.repeat(waveform[:1] * 2, 2) for waveform in waveforms])


def wave(value: float, samples: int = 100) -> Floats:
    return np.full(samples, value, np.float32)


def together(
    waveforms: Sequence[Floats],
    model: Callable[[Sequence[Floats]], Floats] = echo,
    wait_seconds: float = 0.02,
    most_samples: int = 10_000,
    workers: int = 2,
) -> tuple[list[Floats | BaseException], list[int]]:
    """Answers to waveforms that come at the same time, and the sizes of the batches."""
    sizes: list[int] = []

    async def ask() -> list[Floats | BaseException]:
        with ThreadPoolExecutor(workers) as pool:
            batcher = Batcher(model, pool, workers, wait_seconds, most_samples, sizes.append)
            asked = [batcher.answer(waveform) for waveform in waveforms]
            return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(ask()), sizes


def test_everybody_gets_the_answer_to_their_own_waveform() -> None:
    values = np.random.default_rng(0).normal(size=50)
    waveforms = [wave(value, samples=100 + index % 3) for index, value in enumerate(values)]
    answers, _ = together(waveforms)
    np.testing.assert_allclose(np.stack(answers)[:, 0], 2 * values.astype(np.float32))


def test_equal_lengths_share_a_run_and_others_do_not() -> None:
    _, sizes = together([wave(1)] * 4 + [wave(1, samples=50)] * 3 + [wave(1, samples=70)])
    assert sorted(sizes) == [1, 3, 4]


def test_a_batch_is_bounded_and_what_is_over_comes_next() -> None:
    answers, sizes = together([wave(value) for value in range(10)], most_samples=400)
    assert sizes == [4, 4, 2]
    assert [answer[0] for answer in answers] == [2 * value for value in range(10)]


def test_a_waveform_longer_than_the_bound_runs_alone() -> None:
    assert together([wave(1)] * 3, most_samples=10)[1] == [1, 1, 1]


def test_a_batch_grows_while_all_workers_are_busy() -> None:
    free = threading.Event()

    def slow(waveforms: Sequence[Floats]) -> Floats:
        if len(waveforms[0]) == 1:
            free.wait(5)
        return echo(waveforms)

    async def ask() -> list[int]:
        sizes: list[int] = []
        with ThreadPoolExecutor(1) as pool:
            batcher = Batcher(slow, pool, 1, 0, 10_000, sizes.append)
            asked = [asyncio.create_task(batcher.answer(wave(1, samples=1)))]
            await asyncio.sleep(0.02)
            for _ in range(5):
                asked.append(asyncio.create_task(batcher.answer(wave(1))))
                await asyncio.sleep(0.005)
            free.set()
            await asyncio.gather(*asked)
        return sizes

    assert asyncio.run(ask()) == [1, 5]


def test_a_model_that_fails_fails_for_the_whole_batch_and_for_no_other() -> None:
    def fragile(waveforms: Sequence[Floats]) -> Floats:
        if len(waveforms[0]) == 50:
            raise ValueError("broken")
        return echo(waveforms)

    answers, _ = together([wave(1), wave(1, samples=50), wave(3), wave(2, samples=50)], fragile)
    assert [isinstance(answer, ValueError) for answer in answers] == [False, True, False, True]


def test_who_leaves_takes_their_waveform_along() -> None:
    seen: list[float] = []

    def watch(waveforms: Sequence[Floats]) -> Floats:
        seen.extend(float(waveform[0]) for waveform in waveforms)
        return echo(waveforms)

    async def ask() -> list[Floats]:
        with ThreadPoolExecutor(1) as pool:
            batcher = Batcher(watch, pool, 1, 0.02, 10_000)
            asked = [asyncio.create_task(batcher.answer(wave(value))) for value in (1, 2, 3)]
            await asyncio.sleep(0.005)
            asked[1].cancel()
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
