"""Work shared out among processes: order, deaths, errors, logs, and that none is left over."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from affekt.errors import AffektError
from affekt.runtime import processes
from affekt.runtime.processes import AHEAD_PER_PROCESS, WorkerDied, WorkerProcesses

PATIENCE_SECONDS = 60

# `eval` makes the work: what it is given is written here, and compiled in the process.
TWICE = "lambda number: 2 * number"
DEADLY = "lambda number: __import__('os').kill(__import__('os').getpid(), 9) if number == 3 else number"
FAULTY = """lambda what: (_ for _ in ()).throw(
    __import__('affekt.errors').errors.AudioError(what, got='noise') if what else ValueError('no name'))"""
TALKATIVE = """lambda what: (
    print('said', what),
    __import__('logging').getLogger('affekt.audio.reader').warning('%s: breaks off', what), what)[2]"""
WHO = "lambda _: (__import__('os').getpid(), __import__('os').getpgrp())"


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_results_come_in_order_and_items_are_taken_as_they_are_wanted() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    with WorkerProcesses(eval, 2, TWICE) as workers:
        assert list(itertools.islice(workers.map(items()), 20)) == list(range(0, 40, 2))
    assert len(taken) <= 20 + AHEAD_PER_PROCESS * 2 + 1


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_a_death_costs_one_item() -> None:
    with WorkerProcesses(eval, 2, DEADLY) as workers:
        results = list(workers.map(range(8)))
        assert workers.ask(5) == 5
    assert results == [0, 1, 2, WorkerDied("by signal 9"), 4, 5, 6, 7]


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_of_a_list_a_death_costs_one_part() -> None:
    with WorkerProcesses(eval, 2, f"lambda numbers: list(map({DEADLY}, numbers))") as workers:
        assert list(workers.each(range(11), 4)) == [0, 1, 2, WorkerDied("by signal 9"), *range(4, 11)]


def test_errors_are_raised_here() -> None:
    with WorkerProcesses(eval, 1, FAULTY) as workers, pytest.raises(AffektError, match=r"a\.wav: got noise") as raised:
        workers.ask("a.wav")
    assert raised.value.faults[0].got == "noise"
    with WorkerProcesses(eval, 1, FAULTY) as workers, pytest.raises(RuntimeError, match="ValueError: no name"):
        workers.ask("")
    with WorkerProcesses(eval, 1, "no such name") as workers, pytest.raises(RuntimeError, match="SyntaxError"):
        list(workers.map([1]))


def test_what_is_logged_there_is_logged_here_and_prints_are_no_answers(caplog: pytest.LogCaptureFixture) -> None:
    with WorkerProcesses(eval, 1, TALKATIVE) as workers:
        assert list(workers.map(["a.wav", "b.wav"])) == ["a.wav", "b.wav"]
    assert [record.getMessage() for record in caplog.records] == ["a.wav: breaks off", "b.wav: breaks off"]
    assert {(record.name, record.levelno) for record in caplog.records} == {("affekt.audio.reader", logging.WARNING)}


def test_as_many_as_are_worth_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "RECORDINGS_PER_PROCESS", 100)
    numbers = [(100, 8), (199, 8), (200, 8), (350, 8), (10_000, 8), (10_000, 1), (0, 2)]
    assert [processes.worth_starting(recordings, jobs) for recordings, jobs in numbers] == [0, 0, 2, 3, 8, 0, 0]
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert processes.worth_starting(10_000, 8) == 0


def test_they_grow() -> None:
    with WorkerProcesses(eval, 1, WHO) as some:
        some.grow(3)
        some.grow(2)
        assert some.count == 3
        assert len({answer for answer in some.map(range(60)) if not isinstance(answer, WorkerDied)}) <= 3


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups")
def test_ctrl_c_does_not_reach_them_and_none_is_left() -> None:
    with WorkerProcesses(eval, 2, WHO) as workers:
        answers = workers.map(itertools.count())
        found = {answer for answer, _ in zip(answers, range(20), strict=False) if not isinstance(answer, WorkerDied)}
        answers.close()  # type: ignore[attr-defined]  # a generator
        assert all(gone(process) for process, _ in found)
    assert os.getpgrp() not in {group for _, group in found}


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_they_end_when_their_parent_is_killed() -> None:
    script = f"""
import itertools, time
from affekt.runtime.processes import WorkerProcesses
workers = WorkerProcesses(eval, 1, {WHO!r})
print(workers.ask(0)[0], flush=True)
time.sleep({PATIENCE_SECONDS})
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        process = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: gone(process))
