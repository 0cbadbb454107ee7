"""Bounds on what is in the house at a time: requests, and the bytes that they brought."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from affekt.errors import Fault
from affekt.serving.problems import RequestError

FIRST_GUESS_SECONDS = 1.0
MEMORY = 0.9  # share of the old mean that a new duration leaves


class Gate:
    """Lets in a bounded number; who comes beyond it is told when to come again.

    The advice is the mean time that a guest stays: with a full house, whoever is in now has left by then.

    >>> gate = Gate("predictions", places=1)
    >>> with gate.entered(), gate.entered():
    ...     pass
    Traceback (most recent call last):
    affekt.serving.problems.RequestError: predictions: got 1 at a time, expected at most 1; come again in 1 s
    """

    def __init__(self, what: str, places: int) -> None:
        self.what = what
        self.places = places
        self.inside = 0
        self.mean_seconds = FIRST_GUESS_SECONDS

    @contextmanager
    def entered(self) -> Iterator[None]:
        """A place for as long as the context lasts.

        Raises:
            RequestError: 429, all places are taken.
        """
        self.check()
        self.inside += 1
        came = time.monotonic()
        try:
            yield
        finally:
            self.inside -= 1
            self.mean_seconds += (1 - MEMORY) * (time.monotonic() - came - self.mean_seconds)

    def check(self, status: int = 429) -> None:
        """Whether there is a place now, without taking it.

        Raises:
            RequestError: there is none.
        """
        if self.inside >= self.places:
            seconds = max(1, min(60, round(self.mean_seconds)))
            got, expected = f"{self.inside} at a time", f"at most {self.places}"
            raise RequestError.busy(Fault(self.what, got, expected, f"come again in {seconds} s"), seconds, status)


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
