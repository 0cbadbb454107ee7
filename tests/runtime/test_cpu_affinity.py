"""Threads that work together, each on a core of its own."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest

from affekt.recognition.recognizer import Recognizer
from affekt.runtime import cpu_affinity
from affekt.runtime.cpu_affinity import PinnedThreads, available_cores

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or available_cores() < 2, reason="no two cores, or a system that places no threads"
)


def test_the_caller_begins_on_the_first_core_and_is_free_to_go() -> None:
    free = os.sched_getaffinity(0)
    apart = PinnedThreads(len(free))
    assert set(apart.others) == free - {min(free)}
    for core in free:
        cpu_affinity._move_to(core)
        with apart.caller():
            assert cpu_affinity._core() == min(free)
            assert os.sched_getaffinity(0) == free
    with pytest.raises(ZeroDivisionError), apart.caller():
        _ = 1 / 0
    with apart.caller():  # the first core is free again
        assert apart._first_taken.locked()


def test_who_calls_while_another_works_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[int] = []
    monkeypatch.setattr(cpu_affinity, "_core", lambda: -1)
    monkeypatch.setattr(cpu_affinity, "_move_to", moved.append)
    apart = PinnedThreads(available_cores())

    def call() -> None:
        with apart.caller():
            pass

    with apart.caller():
        assert len(moved) == 1
        second = threading.Thread(target=call)
        second.start()
        second.join()
        assert len(moved) == 1
    call()
    assert len(moved) == 2


@pytest.mark.parametrize("threads", [1, available_cores() + 1])
def test_fewer_threads_or_more_than_cores_are_left_to_the_system(threads: int) -> None:
    apart = PinnedThreads(threads)
    assert apart.others == ()
    with apart.caller():
        assert not apart._first_taken.locked()


def test_a_system_that_forbids_it_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", forbid)
    monkeypatch.setattr(cpu_affinity, "_core", lambda: -1)
    with PinnedThreads(available_cores()).caller():
        assert len(os.sched_getaffinity(0)) == available_cores()


def test_recognition_says_the_same_and_leaves_the_caller_where_it_was() -> None:
    waveform = np.random.default_rng(0).standard_normal(32_000).astype(np.float32) / 10
    before = os.sched_getaffinity(0)
    alone, together = (Recognizer.load(threads=threads).predict(waveform, 16_000) for threads in (1, available_cores()))
    assert together.label == alone.label
    assert together.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
    assert os.sched_getaffinity(0) == before
