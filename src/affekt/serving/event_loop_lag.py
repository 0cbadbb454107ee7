"""Event-loop lag, and the number of connections that are served at the present lag.

Each answer needs about a dozen turns of the event loop. A loop that lags takes longer for each, so new connections
only slow the others down: above a tolerated lag, fewer connections are accepted.
"""

from __future__ import annotations

import asyncio

PERIOD_SECONDS = 0.05
"""Between two measurements."""

TOLERATED_SECONDS = 0.25
"""Lag up to which all connections are accepted."""

SMOOTHING = 0.7
"""Weight of the old mean when a new measurement is added."""


class EventLoopLag:
    """Measures the lag of the running event loop.

    Attributes:
        seconds: exponentially smoothed lag: time by which a timer fires too late.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    async def measure(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + PERIOD_SECONDS
            await asyncio.sleep(PERIOD_SECONDS)
            self.observe(loop.time() - due)

    def observe(self, seconds: float) -> None:
        """Add one measurement to the smoothed lag."""
        self.seconds = SMOOTHING * self.seconds + (1 - SMOOTHING) * seconds

    def capacity(self, most: int) -> int:
        """The number of at most `most` connections to serve: inversely proportional to the lag above the tolerated one.

        >>> lag = EventLoopLag()
        >>> lag.capacity(512)
        512
        >>> lag.seconds = 4 * TOLERATED_SECONDS
        >>> lag.capacity(512)
        128
        """
        if self.seconds <= TOLERATED_SECONDS:
            return most
        return max(1, int(most * TOLERATED_SECONDS / self.seconds))
