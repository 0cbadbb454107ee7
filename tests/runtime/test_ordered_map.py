"""The bounded ordered map: order, laziness, cancellation."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from affekt.runtime.ordered_map import chunks, in_flight, ordered_map


def test_results_keep_the_order_of_the_items_whatever_finishes_first() -> None:
    second = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second.wait(10)
        else:
            second.set()
        return item

    assert list(ordered_map(work, [0, 1, 2], threads=2)) == [0, 1, 2]


def test_an_endless_input_is_read_only_slightly_ahead() -> None:
    read = []

    def endless() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    results = ordered_map(str, endless(), threads=2, ahead=3)
    assert [next(results) for _ in range(4)] == ["0", "1", "2", "3"]
    results.close()  # type: ignore[attr-defined]
    assert len(read) == 4 + 3


def test_an_error_is_raised_in_its_place_and_pending_items_are_cancelled() -> None:
    started, aborted = [], []

    def work(item: int) -> int:
        started.append(item)
        if item == 1:
            raise ValueError("one")
        return item

    results = ordered_map(work, range(100), threads=1, ahead=5, on_abort=lambda: aborted.append(True))
    assert next(results) == 0
    with pytest.raises(ValueError, match="one"):
        next(results)
    assert aborted == [True]
    assert max(started) <= 1 + 5


def test_nothing_is_aborted_at_a_regular_end() -> None:
    aborted: list[bool] = []
    assert list(ordered_map(abs, [-1], threads=1, on_abort=lambda: aborted.append(True))) == [1]
    assert aborted == []


def test_the_bound_may_change_and_closing_cancels_what_is_pending() -> None:
    bound, cancelled = [1], []
    handles = in_flight(str, itertools.count(), lambda: bound[0], cancelled.append)
    assert next(handles) == "0"
    bound[0] = 3
    assert next(handles) == "1"
    handles.close()
    assert cancelled == ["2", "3", "4"]


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (2, [2]), (5, [2, 2, 1])])
def test_chunks(count: int, sizes: list[int]) -> None:
    assert [len(chunk) for chunk in chunks(range(count), 2)] == sizes
