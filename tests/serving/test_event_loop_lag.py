"""Event-loop lag: it is measured, and reduces the number of connections."""

from __future__ import annotations

import asyncio
import time

import pytest

from affekt.serving.event_loop_lag import TOLERATED_SECONDS, EventLoopLag


def test_a_blocked_loop_lags() -> None:
    lag = EventLoopLag()

    async def block() -> None:
        measuring = asyncio.create_task(lag.measure())
        await asyncio.sleep(0)
        time.sleep(0.5)  # a blocking call
        while not lag.seconds:
            await asyncio.sleep(0)
        measuring.cancel()

    asyncio.run(asyncio.wait_for(block(), 20))
    assert lag.seconds > 0.1


def test_lag_decays_once_the_loop_is_on_time() -> None:
    lag = EventLoopLag()
    lag.observe(10.0)
    assert lag.capacity(512) < 512
    for _ in range(20):
        lag.observe(0.0)
    assert lag.capacity(512) == 512


@pytest.mark.parametrize(("times", "most"), [(0.0, 512), (1.0, 512), (2.0, 256), (8.0, 64), (10_000.0, 1)])
def test_more_lag_means_fewer_connections(times: float, most: int) -> None:
    lag = EventLoopLag()
    lag.seconds = times * TOLERATED_SECONDS
    assert lag.capacity(512) == most
