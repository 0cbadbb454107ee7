"""How late the event loop is, which tells how many clients it can serve at a time.

An answer needs the loop a dozen times, and with more to do in a round each round takes longer. So a loop that is late
has to get by with fewer clients: whom it takes in it would only keep waiting, and all others with them.
"""

from __future__ import annotations

import asyncio

BEAT_SECONDS = 0.05
PUNCTUAL_SECONDS = 0.25
"""Lateness that costs nobody their place."""
MEMORY = 0.7  # share of the old mean that a new beat leaves


class Pulse:
    """Measures the loop that it runs in.

    Attributes:
        late_seconds: by which the loop came back too late of late.
    """

    def __init__(self) -> None:
        self.late_seconds = 0.0

    async def beat(self) -> None:
        """Go on measuring until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self.feel(loop.time() - due)

    def feel(self, late_seconds: float) -> None:
        """Take one beat in."""
        self.late_seconds = MEMORY * self.late_seconds + (1 - MEMORY) * late_seconds

    def share(self, most: int) -> int:
        """How many of at most so many clients the loop can serve: fewer, the later it is.

        >>> pulse = Pulse()
        >>> pulse.share(512)
        512
        >>> pulse.late_seconds = 4 * PUNCTUAL_SECONDS
        >>> pulse.share(512)
        128
        """
        if self.late_seconds <= PUNCTUAL_SECONDS:
            return most
        return max(1, int(most * PUNCTUAL_SECONDS / self.late_seconds))
