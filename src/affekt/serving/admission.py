"""Admission control: bounds on the requests that are queued or running, and on the bytes that uploads hold."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from affekt.errors import Fault
from affekt.serving.problems import RequestError

FIRST_GUESS_SECONDS = 1.0
"""Assumed service time before the first request has ended."""

SMOOTHING = 0.9
"""Weight of the old mean when a new duration is added."""

RESERVED_SECONDS = 1.0
"""A request whose body is still arriving reserves a slot for so long, so that slow clients block nobody."""


def _ignore(_: float) -> None:
    """The default of `on_change`."""


class AdmissionControl:
    """Admits a bounded number of requests and refuses the others with a Retry-After.

    Retry-After is the mean service time: after it, about one round of the requests now admitted has ended. The capacity
    adapts to the throughput, so that nobody waits longer than `wait_seconds`. By Little's law (1961) a queue of n
    requests that ends one request every p seconds makes a new one wait n p seconds; p is measured while requests queue,
    and the capacity is `wait_seconds / p`, at most `capacity` and at least two rounds of the workers.

    Args:
        what: kind of request, for messages.
        capacity: most requests that are queued or running.
        wait_seconds: longest wait in the queue.
        workers: requests that run at a time; the others are queued.
        on_change: told the number of requests that are queued or running, whenever it changes.

    >>> admission = AdmissionControl("predictions", capacity=1)
    >>> with admission.slot(), admission.slot():
    ...     pass
    Traceback (most recent call last):
    affekt.serving.problems.RequestError: predictions: got 1 queued or running, expected fewer than 1; retry after 1 s
    """

    def __init__(
        self,
        what: str,
        capacity: int,
        wait_seconds: float = math.inf,
        workers: int = 1,
        on_change: Callable[[float], None] = _ignore,
    ) -> None:
        self.what = what
        self._on_change = on_change
        self.admitted = 0
        self.mean_seconds = FIRST_GUESS_SECONDS
        self._most = capacity
        self._wait_seconds = wait_seconds
        self._workers = workers
        self._interval_seconds = 0.0  # between the ends of two requests, while others are queued
        self._interval_start = 0.0
        self._reserved: dict[object, float] = {}  # by time of arrival, the earliest first

    @property
    def capacity(self) -> int:
        """The number of requests that may be queued or running now."""
        if self._interval_seconds * self._most <= self._wait_seconds:
            return self._most
        return min(self._most, max(2 * self._workers, int(self._wait_seconds / self._interval_seconds)))

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Reserve a slot while the request's body arrives, for :data:`RESERVED_SECONDS` at most."""
        request = object()
        self._reserved[request] = time.monotonic()
        try:
            yield
        finally:
            self._reserved.pop(request, None)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot for as long as the context lasts.

        Raises:
            RequestError: 429, no slot is free.
        """
        self.check()
        start = time.monotonic()
        if self.admitted == self._workers:
            self._interval_start = start
        self.admitted += 1
        self._on_change(self.admitted)
        try:
            yield
        finally:
            self._release(time.monotonic(), start)

    def _release(self, now: float, start: float) -> None:
        if self.admitted > self._workers:
            self._interval_seconds += (1 - SMOOTHING) * (now - self._interval_start - self._interval_seconds)
            self._interval_start = now
        self.admitted -= 1
        self._on_change(self.admitted)
        self.mean_seconds += (1 - SMOOTHING) * (now - start - self.mean_seconds)

    def check(self, status: int = 429) -> None:
        """Raise unless a slot is free; takes none.

        Raises:
            RequestError: with `status`, no slot is free.
        """
        refusal = self.refusal(status)
        if refusal:
            raise refusal

    def refusal(self, status: int = 429) -> RequestError | None:
        """The error for a request that arrives now; None if a slot is free."""
        capacity, taken = self.capacity, self.admitted + self._reservations()
        if taken < capacity:
            return None
        seconds = max(1, min(60, round(self.mean_seconds)))
        got, expected = f"{taken} queued or running", f"fewer than {capacity}"
        return RequestError.busy(Fault(self.what, got, expected, f"retry after {seconds} s"), seconds, status)

    def _reservations(self) -> int:
        """The number of reservations that have not expired."""
        earliest = time.monotonic() - RESERVED_SECONDS
        while self._reserved and next(iter(self._reserved.values())) < earliest:
            del self._reserved[next(iter(self._reserved))]
        return len(self._reserved)


class UploadBudget:
    """A bound on the bytes that all uploads together hold in memory.

    Args:
        most_bytes: the bound.
        on_change: told the number of bytes held, whenever it changes.
    """

    def __init__(self, most_bytes: int, on_change: Callable[[float], None] = _ignore) -> None:
        self.most_bytes = most_bytes
        self.held_bytes = 0
        self._on_change = on_change

    def add(self, count: int) -> None:
        """Hold so many bytes more; fewer, if negative."""
        self.held_bytes += count
        self._on_change(self.held_bytes)

    def share(self) -> UploadShare:
        """The share of one upload, empty at first."""
        return UploadShare(self)


class UploadShare:
    """The bytes of one upload within a budget; as a context manager, releases them."""

    def __init__(self, budget: UploadBudget) -> None:
        self._budget = budget
        self._held_bytes = 0

    def reserve(self, total_bytes: int) -> None:
        """Make the share at least this large.

        Raises:
            RequestError: 429, the budget is used up.
        """
        more = total_bytes - self._held_bytes
        if more <= 0:
            return
        if self._budget.held_bytes + more > self._budget.most_bytes:
            got = f"{self._budget.held_bytes / 2**20:.0f} MiB of uploads in memory"
            expected = f"at most {self._budget.most_bytes / 2**20:.0f} MiB"
            raise RequestError.busy(Fault("uploads", got, expected, "retry after 2 s"), 2)
        self._budget.add(more)
        self._held_bytes += more

    def __enter__(self) -> UploadShare:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.add(-self._held_bytes)
        self._held_bytes = 0
