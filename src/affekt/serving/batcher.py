"""Dynamic batching: recordings that arrive within a few milliseconds are recognized in one run of the model.

Only recordings of equal length share a batch. So nothing is padded, and an answer does not depend on other requests,
bit for bit; on a CPU a mixed batch would not be faster either (see docs/serving.md). While all workers are busy the
waiting batches grow, so the batch size follows the load. A worker takes its next batch itself: the event loop, which is
the bottleneck under load, is not involved.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affekt.serving.deadline import PendingAnswer

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Waiting:
    pending: PendingAnswer
    waveform: Floats
    since: float


class Batcher:
    """Collects waveforms [samples] into batches and passes on the answers. Thread-safe.

    Args:
        model: from waveforms to one answer each; called in the pool.
        pool: with at least `workers` threads.
        workers: runs in parallel.
        wait_seconds: how long the first of a batch waits for others.
        most_samples: of a whole batch; a longer recording is a batch of its own.
        on_batch: called with the size of each batch.
    """

    def __init__(
        self,
        model: Callable[[Sequence[Floats]], Sequence[Any]],
        pool: Executor,
        workers: int,
        wait_seconds: float,
        most_samples: int,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._model = model
        self._pool = pool
        self._workers = workers
        self._wait_seconds = wait_seconds
        self._most_samples = most_samples
        self._on_batch = on_batch
        self._lock = threading.Lock()  # over all below
        self._waiting: dict[int, list[_Waiting]] = {}  # by length, the earliest first
        self._working = 0

    def submit(self, pending: PendingAnswer, waveform: Floats) -> None:
        """Queue a waveform; a worker sets the model's answer to it."""
        with self._lock:
            self._waiting.setdefault(len(waveform), []).append(_Waiting(pending, waveform, time.monotonic()))
            if self._working == self._workers:
                return
            self._working += 1
        self._pool.submit(self._work)

    def _work(self) -> None:
        """Run one batch, then leave the thread to the pool's next job."""
        try:
            self._run(self._next_batch())
        finally:
            self._go_on()

    def _go_on(self) -> None:
        with self._lock:
            if not self._waiting:
                self._working -= 1
                return
        self._pool.submit(self._work)  # a closed pool refuses it: nobody waits then

    def _next_batch(self) -> list[_Waiting]:
        """The waveforms of the length that has waited longest, once it has waited long enough to form a batch."""
        while True:
            with self._lock:
                if not self._waiting:
                    return []
                samples = min(self._waiting, key=lambda samples: self._waiting[samples][0].since)
                early_seconds = self._waiting[samples][0].since + self._wait_seconds - time.monotonic()
                if early_seconds <= 0:
                    return self._taken(samples)
            time.sleep(early_seconds)

    def _taken(self, samples: int) -> list[_Waiting]:
        """Take as many waveforms of a length as fit into a batch, without those that are no longer wanted."""
        most = max(1, self._most_samples // samples)
        waiting = self._waiting.pop(samples)
        batch: list[_Waiting] = []
        while waiting and len(batch) < most:
            first = waiting.pop(0)
            if first.pending.begin():
                batch.append(first)
        if waiting:
            self._waiting[samples] = waiting
        return batch

    def _run(self, batch: Sequence[_Waiting]) -> None:
        if not batch:
            return
        try:
            self._on_batch(len(batch))
            answers = self._model([waiting.waveform for waiting in batch])
            for waiting, answer in zip(batch, answers, strict=True):
                waiting.pending.succeed(answer)
        except Exception as error:
            for waiting in batch:
                waiting.pending.fail(error)
