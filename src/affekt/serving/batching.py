"""Micro-batches: recordings that come within a few milliseconds are recognised in one run of the model.

Only recordings of equal length share a run. So nothing is padded, and an answer is the same bit for bit whoever else
asks at the moment; on a CPU a mixed batch would not be faster either (see docs/serving.md). While all workers are busy
a batch goes on growing, so the batches get larger as the load does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Request:
    waveform: Floats
    answer: asyncio.Future[Floats]


class Batcher:
    """Collects waveforms [samples] and gives each its row of the model's answers.

    Args:
        model: from waveforms to an array [batch, ...]; called in the pool.
        pool: with at least `workers` threads.
        workers: runs at a time.
        wait_seconds: how long the first of a batch waits for others.
        most_samples: of all recordings of a batch together; a longer recording is a batch by itself.
        on_batch: told the size of each batch.
    """

    def __init__(
        self,
        model: Callable[[Sequence[Floats]], Floats],
        pool: Executor,
        workers: int,
        wait_seconds: float,
        most_samples: int,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._model = model
        self._pool = pool
        self._slots = asyncio.Semaphore(workers)
        self._wait_seconds = wait_seconds
        self._most_samples = most_samples
        self._on_batch = on_batch
        self._waiting: dict[int, list[_Request]] = {}  # by length
        self._collectors: set[asyncio.Task[None]] = set()

    async def answer(self, waveform: Floats) -> Floats:
        """The model's answer to one waveform; a caller that is cancelled takes its waveform along."""
        request = _Request(waveform, asyncio.get_running_loop().create_future())
        batch = self._waiting.setdefault(len(waveform), [])
        batch.append(request)
        if len(batch) == 1:
            self._start(len(waveform), self._wait_seconds)
        return await request.answer

    def _start(self, samples: int, wait_seconds: float) -> None:
        collector = asyncio.create_task(self._collect(samples, wait_seconds))
        self._collectors.add(collector)
        collector.add_done_callback(self._collectors.discard)

    async def _collect(self, samples: int, wait_seconds: float) -> None:
        """Wait for company and for a worker, then run what has gathered."""
        await asyncio.sleep(wait_seconds)
        async with self._slots:
            waiting = [request for request in self._waiting.pop(samples) if not request.answer.done()]
            most = max(1, self._most_samples // samples)
            batch, rest = waiting[:most], waiting[most:]
            if rest:
                self._waiting[samples] = rest
                self._start(samples, wait_seconds=0)
            if batch:
                await self._run(batch)

    async def _run(self, batch: Sequence[_Request]) -> None:
        self._on_batch(len(batch))
        waveforms = [request.waveform for request in batch]
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._pool, self._model, waveforms)
        except Exception as error:
            for request in batch:
                if not request.answer.done():
                    request.answer.set_exception(error)
            return
        for request, answer in zip(batch, answers, strict=True):
            if not request.answer.done():
                request.answer.set_result(answer)
