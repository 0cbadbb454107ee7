"""A pool of worker processes on this machine, with results in input order.

The GIL serializes the Python part of each task, and handing the GIL over costs more than the task itself when tasks are
short; processes avoid that. But each worker has to start an interpreter and import modules, so a pool pays off for long
lists only; and inputs and results are pickled through pipes, so they should be small.

The pool differs from :class:`concurrent.futures.ProcessPoolExecutor` in what a crash does: the item that the dead
worker had is reported as :class:`WorkerDied`, and the worker is replaced. SIGINT reaches the parent alone, which ends
the workers; workers end by themselves when the parent dies, since their pipe closes.
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
from affekt.runtime.allocator import reuse_freed_memory
from affekt.runtime.ordered_map import chunks, ordered_map

START = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from affekt.runtime.processes import worker_main
worker_main()
"""
RECORDINGS_PER_PROCESS = 100
"""Recordings that make up for the start of one worker; with fewer, threads finish before workers have started."""
AHEAD_PER_PROCESS = 2
"""Items that wait for each worker, or whose results wait for earlier ones."""
WORKER_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}
"""Environment of the workers: NumPy's BLAS threads would have no work there and spin while they start."""
BROKEN_PIPE = (EOFError, OSError, pickle.UnpicklingError)
"""Errors of a pipe whose other end has closed, perhaps in the middle of a message."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Part = TypeVar("Part")
Of = TypeVar("Of")


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """A stand-in for a result: the worker died at this item.

    Attributes:
        how: "by signal N" or "with exit code N".
    """

    how: str


def worth_starting(recordings: int, jobs: int) -> int:
    """The number of worker processes that pays off for some recordings.

    Args:
        recordings: number of recordings.
        jobs: the most workers or threads that may run.

    Returns:
        The number of processes; 0 where threads are faster.
    """
    count = min(jobs, recordings // RECORDINGS_PER_PROCESS)
    interpreter = bool(sys.executable) and not getattr(sys, "frozen", False)  # else it is another program
    return count if count > 1 and interpreter else 0


class WorkerProcesses(Generic[Item, Result]):
    """A pool of processes that apply one function.

    >>> from operator import itemgetter
    >>> with WorkerProcesses(itemgetter, 2, 1) as processes:
    ...     list(processes.map(["one", "two", "three"]))
    ['n', 'w', 'h']
    """

    def __init__(self, make: Callable[..., Callable[[Item], Result]], count: int, *arguments: object) -> None:
        """Start the workers, which then import and set up in the background.

        Args:
            make: worker factory, importable from a module; each process calls it once and gets the function to apply.
            count: number of processes.
            arguments: arguments of `make`; nothing large.
        """
        self.count = 0
        self._make = partial(make, *arguments)
        self._lock, self._open = Lock(), True
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        self._all: list[_Process] = []
        self.grow(count)

    def grow(self, count: int) -> None:
        """Start more workers, up to `count` in all."""
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

    def map(self, items: Iterable[Item]) -> Iterator[Result | WorkerDied]:
        """Results in the order of the items, which are read only slightly ahead of the results.

        Raises:
            AffektError, OSError: what the work raised.
            RuntimeError: anything else that it raised, with its trace.
        """
        # On an error nobody wants the other results; ending the processes frees the threads that wait for them.
        return ordered_map(self.ask, items, self.count, AHEAD_PER_PROCESS * self.count, on_abort=self.end)

    def each(
        self: WorkerProcesses[list[Part], list[Of]], parts: Iterable[Part], size: int
    ) -> Iterator[Of | WorkerDied]:
        """Results of single parts, sent in lists of `size`, which the workers answer with lists of results.

        A list at which a worker dies is repeated part by part, so that only the guilty one is lost. Raises as
        :meth:`map`.
        """
        items, again = tee(map(list, chunks(parts, size)))
        for item, results in zip(again, self.map(items), strict=True):
            if not isinstance(results, WorkerDied):
                yield from results
                continue
            for part in item:
                result = self.ask([part])
                yield result if isinstance(result, WorkerDied) else result[0]

    def ask(self, item: Item) -> Result | WorkerDied:
        """The result of one item, computed by the next idle worker. Raises as :meth:`map`."""
        process = self._idle.get()
        try:
            answer = process.ask(item)
        except BROKEN_PIPE:
            how = process.end()
            process = self._successor(process)
            return WorkerDied(how)
        finally:
            self._idle.put(process)
        return answer.opened()  # type: ignore[no-any-return]

    def end(self) -> None:
        """Kill the workers, whatever they are doing."""
        with self._lock:
            self._open = False
            for process in self._all:
                process.kill()
            for process in self._all:
                process.end()

    def _successor(self, dead: _Process) -> _Process:
        """A new worker in place of a dead one; the dead one itself if the pool has ended."""
        with self._lock:
            if not self._open:
                return dead
            self._all.remove(dead)
            self._all.append(_Process(self._make))
            return self._all[-1]


class _Process:
    """One worker process and its two pipes."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=WORKER_ENVIRONMENT | os.environ,
            **_out_of_reach(),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._questions, self._answers = self._process.stdin, self._process.stdout
        with suppress(OSError):  # it has died, which `ask` will report
            self._say(sys.path)
            self._say(make)

    def ask(self, item: object) -> _Answer:
        """Send an item and wait for the answer."""
        self._say(item)
        answer: _Answer = pickle.load(self._answers)
        return answer

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()

    def end(self) -> str:
        """Kill the process, wait for it, and return how it ended."""
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
    """An answer of a worker: a result, an expected error, or the traceback of a bug; and the log records."""

    result: object = None
    error: AffektError | OSError | None = None
    trace: str = ""
    records: tuple[logging.LogRecord, ...] = ()

    def opened(self) -> Any:
        """Handle the log records, then return the result or raise the error."""
        for record in self.records:
            logging.getLogger(record.name).handle(record)
        if self.error is not None:
            raise self.error
        if self.trace:
            raise RuntimeError(self.trace)
        return self.result


def _out_of_reach() -> dict[str, Any]:
    """Arguments of `Popen` for a process that SIGINT from the terminal does not reach."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"process_group": 0}


def worker_main() -> None:
    """Main loop of a worker: read an item, apply the function, write the answer, until the parent closes the pipe.

    Standard output is the pipe of the answers, so anything that is printed goes to standard error.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # also if it is sent to this process alone
    questions = sys.stdin.buffer
    with suppress(*BROKEN_PIPE), os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answers, reuse_freed_memory():
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        _serve(questions, answers)


def _serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    log = _Kept()
    logging.getLogger("affekt").addHandler(log)
    logging.getLogger("affekt").propagate = False
    make = cache(pickle.load(questions))
    with suppress(Exception):  # raised again at the first item
        make()
    while True:
        item = pickle.load(questions)
        try:
            work: Callable[[object], object] = make()
            answer = _Answer(work(item), records=log.taken())
        except (AffektError, OSError) as error:
            answer = _Answer(error=error, records=log.taken())
        except Exception:  # a bug: its traceback is raised in the parent
            answer = _Answer(trace=traceback.format_exc(), records=log.taken())
        answers.write(pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))
        answers.flush()


class _Kept(logging.Handler):
    """Collects log records for the parent to handle."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Collect a record, reduced to picklable values."""
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        self._records.append(record)

    def taken(self) -> tuple[logging.LogRecord, ...]:
        """Return and forget the records since the last call."""
        records, self._records = tuple(self._records), []
        return records
