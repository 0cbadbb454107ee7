"""Bounds on what is in the house at a time: requests, and the bytes that they brought."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from affekt.errors import Fault
from affekt.serving.problems import RequestError

FIRST_GUESS_SECONDS = 1.0
MEMORY = 0.9  # share of an old mean that a new duration leaves
KEPT_SECONDS = 1.0
"""For which a place is kept for a guest who is on the way."""


class Gate:
    """Lets in a bounded number; who comes beyond it is told when to come again.

    The advice is the mean time that a guest stays: with a full house, whoever is in now has left by then. There are no
    more places than guests who can be served within a time: while some wait, the pace at which they leave tells how
    many that are (Little 1961).

    Args:
        what: they come for.
        places: at most.
        wait_seconds: the longest that a guest should have to wait.
        workers: guests who are served at a time; the others wait.

    >>> gate = Gate("predictions", places=1)
    >>> with gate.entered(), gate.entered():
    ...     pass
    Traceback (most recent call last):
    affekt.serving.problems.RequestError: predictions: got 1 at a time, expected at most 1; come again in 1 s
    """

    def __init__(self, what: str, places: int, wait_seconds: float = math.inf, workers: int = 1) -> None:
        self.what = what
        self.inside = 0
        self.mean_seconds = FIRST_GUESS_SECONDS
        self._places = places
        self._wait_seconds = wait_seconds
        self._workers = workers
        self._pace_seconds = 0.0  # from one who leaves to the next, while some wait
        self._paced_from = 0.0
        self._expected: dict[object, float] = {}  # since when, the first to come first

    @property
    def places(self) -> int:
        """As many as there are now."""
        if self._pace_seconds * self._places <= self._wait_seconds:
            return self._places
        return min(self._places, max(2 * self._workers, int(self._wait_seconds / self._pace_seconds)))

    @contextmanager
    def expected(self) -> Iterator[None]:
        """A guest on the way, for whom a place is kept for a while: slow ones keep nobody out."""
        guest = object()
        self._expected[guest] = time.monotonic()
        try:
            yield
        finally:
            self._expected.pop(guest, None)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """A place for as long as the context lasts.

        Raises:
            RequestError: 429, all places are taken.
        """
        self.check()
        came = time.monotonic()
        if self.inside == self._workers:
            self._paced_from = came
        self.inside += 1
        try:
            yield
        finally:
            self._leave(time.monotonic(), came)

    def _leave(self, now: float, came: float) -> None:
        if self.inside > self._workers:
            self._pace_seconds += (1 - MEMORY) * (now - self._paced_from - self._pace_seconds)
            self._paced_from = now
        self.inside -= 1
        self.mean_seconds += (1 - MEMORY) * (now - came - self.mean_seconds)

    def check(self, status: int = 429) -> None:
        """Whether there is a place now, without taking it.

        Raises:
            RequestError: there is none.
        """
        refusal = self.refusal(status)
        if refusal:
            raise refusal

    def refusal(self, status: int = 429) -> RequestError | None:
        """What to tell who comes now; None: come in."""
        places, guests = self.places, self.inside + self._on_the_way()
        if guests < places:
            return None
        seconds = max(1, min(60, round(self.mean_seconds)))
        got, expected = f"{guests} at a time", f"at most {places}"
        return RequestError.busy(Fault(self.what, got, expected, f"come again in {seconds} s"), seconds, status)

    def _on_the_way(self) -> int:
        """Guests for whom places are kept."""
        earliest = time.monotonic() - KEPT_SECONDS
        while self._expected and next(iter(self._expected.values())) < earliest:
            del self._expected[next(iter(self._expected))]
        return len(self._expected)


class Budget:
    """Bytes that may be held at a time, over all uploads."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.held_bytes = 0

    def share(self) -> Share:
        """A part for one upload, empty at first."""
        return Share(self)


class Share:
    """One upload's part of a budget; a context that gives it back."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held_bytes = 0

    def reserve(self, total_bytes: int) -> None:
        """Make the share at least this large.

        Raises:
            RequestError: 429, the budget is spent.
        """
        more = total_bytes - self._held_bytes
        if more <= 0:
            return
        if self._budget.held_bytes + more > self._budget.most_bytes:
            got = f"{self._budget.held_bytes / 2**20:.0f} MiB of uploads in work"
            expected = f"at most {self._budget.most_bytes / 2**20:.0f} MiB at a time"
            raise RequestError.busy(Fault("uploads", got, expected, "come again in 2 s"), 2)
        self._budget.held_bytes += more
        self._held_bytes += more

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.held_bytes -= self._held_bytes
        self._held_bytes = 0
