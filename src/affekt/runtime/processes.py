"""Work shared out among processes of this machine: things to do go in, what came of them comes out in the same order.

Threads of Python take turns at all that is Python, and each turn that one waits for costs more than the turn. Processes
do not. But each has to start and to import what it needs, so they are for long lists; and what goes in and comes out is
copied, so it should be small.

A process that dies costs what it was working on, which is then :class:`Lost`, and another takes its place. Ctrl-C
reaches this process alone, which ends the others; and they end by themselves when it dies, however that happens.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import tee
from queue import SimpleQueue
from threading import Lock
from types import TracebackType
from typing import IO, Any, Generic, Self, TypeVar

from affekt.errors import AffektError
from affekt.runtime.allocator import kept
from affekt.runtime.ordered_map import chunks, ordered_map

START = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from affekt.runtime.processes import live
live()
"""
RECORDINGS_EACH = 100
"""So many recordings are worth a process; with fewer for each, threads have done most before those have begun."""
AHEAD_PER_PROCESS = 2
"""Things that wait for each process, or whose results wait for those before them."""
ALONE = {"OPENBLAS_NUM_THREADS": "1"}
"""For their environment: NumPy's other threads have nothing to do there, and would turn on the spot as they start."""
GONE = (EOFError, OSError, pickle.UnpicklingError)
"""What a pipe raises whose other end is gone, perhaps in the middle of something."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Part = TypeVar("Part")
Of = TypeVar("Of")


@dataclass(frozen=True, slots=True)
class Lost:
    """What a process was working on when it ended.

    Attributes:
        how: it ended, for people.
    """

    how: str


def suitable(recordings: int, jobs: int) -> int:
    """How many processes should share recordings, instead of so many threads; 0: threads should."""
    count = min(jobs, recordings // RECORDINGS_EACH)
    interpreter = bool(sys.executable) and not getattr(sys, "frozen", False)  # else it is another program
    return count if count > 1 and interpreter else 0


class Processes(Generic[Item, Result]):
    """Some processes that all do the same work.

    >>> from operator import itemgetter
    >>> with Processes(itemgetter, 2, 1) as processes:
    ...     list(processes.map(["one", "two", "three"]))
    ['n', 'w', 'h']
    """

    def __init__(self, make: Callable[..., Callable[[Item], Result]], count: int, *arguments: object) -> None:
        """Start them: from then on they make ready, beside whatever the caller does.

        Args:
            make: a function of a module, which each process calls once, for the function that does the work.
            count: how many processes.
            arguments: what `make` is called with; nothing large.
        """
        self.count = 0
        self._make = partial(make, *arguments)
        self._lock, self._open = Lock(), True
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        self._all: list[_Process] = []
        self.grow(count)

    def grow(self, count: int) -> None:
        """Start more, up to so many."""
        for _ in range(self.count, count):
            self._all.append(_Process(self._make))
            self._idle.put(self._all[-1])
        self.count = len(self._all)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def map(self, items: Iterable[Item]) -> Iterator[Result | Lost]:
        """What came of each, in order; items are taken only as fast as results are asked for.

        Raises:
            AffektError, OSError: what the work raised.
            RuntimeError: anything else that it raised, with its trace.
        """
        # On an error nobody wants the other results; ending the processes frees the threads that wait for them.
        return ordered_map(self.ask, items, self.count, AHEAD_PER_PROCESS * self.count, on_abort=self.end)

    def each(self: Processes[list[Part], list[Of]], parts: Iterable[Part], size: int) -> Iterator[Of | Lost]:
        """What came of each part, where items are lists of `size` parts, and results lists of what came of them.

        A list at which a process dies is done again, each of its parts by itself. Raises as :meth:`map`.
        """
        items, again = tee(map(list, chunks(parts, size)))
        for item, results in zip(again, self.map(items), strict=True):
            if not isinstance(results, Lost):
                yield from results
                continue
            for part in item:
                result = self.ask([part])
                yield result if isinstance(result, Lost) else result[0]

    def ask(self, item: Item) -> Result | Lost:
        """What comes of one item, as soon as one of the processes has nothing else to do. Raises as :meth:`map`."""
        process = self._idle.get()
        try:
            answer = process.ask(item)
        except GONE:
            how = process.end()
            process = self._successor(process)
            return Lost(how)
        finally:
            self._idle.put(process)
        return answer.opened()  # type: ignore[no-any-return]

    def end(self) -> None:
        """End the processes, whatever they are doing; what waits for them is lost."""
        with self._lock:
            self._open = False
            for process in self._all:
                process.kill()
            for process in self._all:
                process.end()

    def _successor(self, dead: _Process) -> _Process:
        """Another process in place of a dead one; the dead one itself where all have been ended."""
        with self._lock:
            if not self._open:
                return dead
            self._all.remove(dead)
            self._all.append(_Process(self._make))
            return self._all[-1]


class _Process:
    """One process, and the pipes to it and from it."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=ALONE | os.environ,
            **_out_of_reach(),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._questions, self._answers = self._process.stdin, self._process.stdout
        with suppress(OSError):  # it has died: whoever asks it will hear of that
            self._say(sys.path)
            self._say(make)

    def ask(self, item: object) -> _Answer:
        """What comes of an item."""
        self._say(item)
        answer: _Answer = pickle.load(self._answers)
        return answer

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def end(self) -> str:
        """Wait for its end, and say how it came."""
        self.kill()
        code = self._process.wait()
        for pipe in (self._questions, self._answers):
            with suppress(OSError):  # what was not sent
                pipe.close()
        return f"by signal {-code}" if code < 0 else f"with exit code {code}"

    def _say(self, thing: object) -> None:
        self._questions.write(pickle.dumps(thing, pickle.HIGHEST_PROTOCOL))
        self._questions.flush()


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of an item: a result, an error to raise, or the trace of a defect; and what was logged meanwhile."""

    result: object = None
    error: AffektError | OSError | None = None
    trace: str = ""
    records: tuple[logging.LogRecord, ...] = ()

    def opened(self) -> Any:
        """The result, if it is one."""
        for record in self.records:
            logging.getLogger(record.name).handle(record)
        if self.error is not None:
            raise self.error
        if self.trace:
            raise RuntimeError(self.trace)
        return self.result


def _out_of_reach() -> dict[str, Any]:
    """How to start a process that Ctrl-C does not reach."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"process_group": 0}


def live() -> None:
    """The life of such a process: take a thing, do it, say what came of it, take the next, until the parent is gone.

    What anybody prints meanwhile goes to standard error: standard output is the pipe of the answers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from whoever sends it to this process by itself
    questions = sys.stdin.buffer
    with suppress(*GONE), os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answers, kept():
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        _serve(questions, answers)


def _serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    log = _Kept()
    logging.getLogger("affekt").addHandler(log)
    logging.getLogger("affekt").propagate = False
    make = cache(pickle.load(questions))
    with suppress(Exception):  # it is raised again for the first item
        make()
    while True:
        item = pickle.load(questions)
        try:
            work: Callable[[object], object] = make()
            answer = _Answer(work(item), records=log.taken())
        except (AffektError, OSError) as error:
            answer = _Answer(error=error, records=log.taken())
        except Exception:  # it cannot be raised here, so it is raised in the parent
            answer = _Answer(trace=traceback.format_exc(), records=log.taken())
        answers.write(pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))
        answers.flush()


class _Kept(logging.Handler):
    """Keeps records, for the parent to handle."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, as plain values."""
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        self._records.append(record)

    def taken(self) -> tuple[logging.LogRecord, ...]:
        """The records since the last call."""
        records, self._records = tuple(self._records), []
        return records
