"""The event loop's pulse: a loop that is late is felt, and has fewer clients."""

from __future__ import annotations

import asyncio
import time

import pytest

from affekt.serving.pulse import PUNCTUAL_SECONDS, Pulse


def test_a_loop_that_is_held_up_is_late() -> None:
    pulse = Pulse()

    async def hold_up() -> None:
        beating = asyncio.create_task(pulse.beat())
        await asyncio.sleep(0)
        time.sleep(0.5)  # what nothing in a loop should do
        while not pulse.late_seconds:
            await asyncio.sleep(0)
        beating.cancel()

    asyncio.run(asyncio.wait_for(hold_up(), 20))
    assert pulse.late_seconds > 0.1


def test_lateness_is_forgotten_once_the_loop_is_punctual_again() -> None:
    pulse = Pulse()
    pulse.feel(10.0)
    assert pulse.share(512) < 512
    for _ in range(20):
        pulse.feel(0.0)
    assert pulse.share(512) == 512


@pytest.mark.parametrize(("times", "most"), [(0.0, 512), (1.0, 512), (2.0, 256), (8.0, 64), (10_000.0, 1)])
def test_the_later_the_fewer(times: float, most: int) -> None:
    pulse = Pulse()
    pulse.late_seconds = times * PUNCTUAL_SECONDS
    assert pulse.share(512) == most
