"""Trainings that take turns in one process: while a GPU computes what one has launched, the next launches its own.

Only one thread is ever at work, from where it took its turn to where it passes it on, so whatever a process shares is
as it would be for one alone. torch's random numbers are shared too, and are given to each thread as it left them: the
numbers of a training do not depend on the others.

Who trains calls :func:`pass_on` where the others may have their turn, and :func:`await_device` before it reads a
result. Outside of :func:`take_turns` both do nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch

POLL_SECONDS = 0.1  # so that Ctrl-C is heard on every system


class Abandoned(BaseException):
    """Raised in a thread whose turn never comes, because the whole was given up."""


def take_turns(works: Sequence[Callable[[], object]], name: str = "turn") -> None:
    """Do all works, each in a thread of its own, one of which is at work at a time.

    If one fails, or if waiting for them is interrupted, the others end where they next pass on. Afterwards torch's
    random numbers are where they were.

    Raises:
        Exception: what made a work fail; the first of them.
    """
    turns, before = Turns(len(works)), _random_numbers()
    failed: list[Exception] = []

    def do(number: int, work: Callable[[], object]) -> None:
        with suppress(Abandoned), turns.taken(number):
            try:
                work()
            except Exception as error:
                failed.append(error)
                turns.give_up()

    threads = [
        threading.Thread(target=do, args=(n, work), name=f"{name}-{n}", daemon=True) for n, work in enumerate(works)
    ]
    try:
        for thread in threads:
            thread.start()
        while alive := [thread for thread in threads if thread.is_alive()]:
            alive[0].join(POLL_SECONDS)
    finally:
        turns.give_up()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        _restore(before)
    if failed:
        raise failed[0]


class Turns:
    """A ring of so many threads, of which the first has its turn."""

    def __init__(self, threads: int) -> None:
        self._lock = threading.Lock()
        self._seats = [threading.Event() for _ in range(threads)]
        self._ring = deque(self._seats)
        self._ring[0].set()
        self._given_up = False

    def __len__(self) -> int:
        return len(self._ring)

    @contextmanager
    def taken(self, number: int) -> Iterator[None]:
        """A thread's life among the others: it waits for its first turn, and leaves the ring in the end.

        Raises:
            Abandoned: the turn never came.
        """
        seat = self._seats[number]
        _current.turns, _current.seat = self, seat
        try:
            self._await(seat)
            yield
        finally:
            _current.turns = None
            with self._lock:
                self._ring.remove(seat)
                if self._ring:
                    self._ring[0].set()

    def pass_on(self) -> None:
        """Let every other thread have a turn, if there are others.

        Raises:
            Abandoned: the whole was given up meanwhile.
        """
        seat = _current.seat
        if len(self) > 1:
            numbers = _random_numbers()
            with self._lock:
                self._ring.rotate(-1)
                seat.clear()
                self._ring[0].set()
            self._await(seat)
            _restore(numbers)
        elif self._given_up:
            raise Abandoned

    def pass_on_until(self, done: Callable[[], bool]) -> None:
        """Pass on until it is done, or nobody else is left to have a turn."""
        while len(self) > 1 and not done():
            self.pass_on()

    def give_up(self) -> None:
        """Raise :class:`Abandoned` in every thread as soon as it passes on."""
        with self._lock:
            self._given_up = True
            for seat in self._ring:
                seat.set()

    def _await(self, seat: threading.Event) -> None:
        seat.wait()
        if self._given_up:
            raise Abandoned


class _Current(threading.local):
    turns: Turns | None = None
    seat: threading.Event


_current = _Current()


def pass_on() -> None:
    """Let the other trainings of this process have their turn, if there are any."""
    if _current.turns is not None:
        _current.turns.pass_on()


def pass_on_until(done: Callable[[], bool]) -> None:
    """Pass on until it is done, or nobody else is left to have a turn."""
    if _current.turns is not None:
        _current.turns.pass_on_until(done)


def await_device(device: torch.device) -> None:
    """Let the others have their turns until the device has done what this thread launched."""
    if device.type == "cuda":
        pass_on_until(torch.cuda.current_stream(device).record_event().query)


def _random_numbers() -> list[torch.Tensor]:
    """The states of torch's generators: the CPU's, and each used GPU's; reading them waits for nothing."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *gpus]


def _restore(states: list[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state_all(states[1:])
