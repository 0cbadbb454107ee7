"""Trainings that take turns in one process: while a GPU computes what one has launched, the next launches its own.

Only one thread is ever at work, from where it took its turn to where it passes it on, so whatever a process shares is
as it would be for one alone. torch's random numbers are shared too, and are given to each thread as it left them: the
numbers of a training do not depend on the others.

Who trains calls :func:`pass_on` where the others may have their turn, and :func:`await_device` before it reads a
result. Outside of :class:`Turns` both do nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


class Abandoned(BaseException):
    """Raised in a thread whose turn never comes, because the whole was given up."""


class Turns:
    """A ring of threads, of which the first has its turn."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ring: deque[int] = deque()
        self._given_up = False

    @contextmanager
    def taken(self) -> Iterator[None]:
        """A thread's life among the others: it waits for its first turn, and leaves the ring in the end.

        Raises:
            Abandoned: the turn never came.
        """
        me = threading.get_ident()
        with self._changed:
            self._ring.append(me)
        _current.turns = self
        try:
            self._wait()
            yield
        finally:
            _current.turns = None
            with self._changed:
                self._ring.remove(me)
                self._changed.notify_all()

    def pass_on(self) -> None:
        """Let every other thread have a turn; only the caller's own if it is alone.

        Raises:
            Abandoned: the whole was given up meanwhile.
        """
        if len(self._ring) > 1:
            numbers = _random_numbers()
            with self._changed:
                self._ring.rotate(-1)
                self._changed.notify_all()
            self._wait()
            _restore(numbers)
        elif self._given_up:
            raise Abandoned

    def pass_on_until(self, done: Callable[[], bool]) -> None:
        """Pass on until it is done, or nobody else is left to have a turn."""
        while len(self._ring) > 1 and not done():
            self.pass_on()

    def give_up(self) -> None:
        """Raise :class:`Abandoned` in every thread as soon as it passes on."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()

    def _wait(self) -> None:
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: self._given_up or self._ring[0] == me)
            if self._given_up:
                raise Abandoned


class _Current(threading.local):
    turns: Turns | None = None


_current = _Current()


def pass_on() -> None:
    """Let the other trainings of this process have their turn, if there are any."""
    if _current.turns is not None:
        _current.turns.pass_on()


def await_device(device: torch.device) -> None:
    """Return when the device has done what this thread launched; the others have their turns meanwhile."""
    if device.type == "cuda" and _current.turns is not None:
        _current.turns.pass_on_until(torch.cuda.current_stream(device).record_event().query)


def _random_numbers() -> list[torch.Tensor]:
    """The states of torch's generators: the CPU's, and each used GPU's; reading them waits for nothing."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *gpus]


def _restore(states: list[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state_all(states[1:])
