"""Bounded, ordered concurrent maps: results come back in input order, and input is read only slightly ahead of them.

`ThreadPoolExecutor.map` submits the whole input at once, which does not work for inputs of unknown or large size. Here
at most `ahead` results wait for the consumer, so memory stays flat and an endless iterator is a valid input.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Handle = TypeVar("Handle")

AHEAD_PER_THREAD = 2
"""Default number of items that wait for each thread, or whose results wait for the consumer."""


def chunks(items: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    """Cut an iterable into tuples of `size` items; the last one may be shorter.

    >>> list(chunks("abcde", 2))
    [('a', 'b'), ('c', 'd'), ('e',)]
    """
    iterator = iter(items)
    while chunk := tuple(islice(iterator, size)):
        yield chunk


def in_flight(
    submit: Callable[[Item], Handle],
    items: Iterable[Item],
    ahead: Callable[[], int],
    cancel: Callable[[Handle], object],
) -> Generator[Handle, None, None]:
    """Submit items and yield their handles in order, with a bounded number of them pending.

    Args:
        submit: starts work on an item and returns a handle to it, for example a future.
        items: the input, read only as handles are consumed.
        ahead: the number of handles to keep pending behind the one that is yielded; asked before every yield, so the
            bound can follow the size of a cluster.
        cancel: called with every pending handle if the generator is closed or an error ends it.
    """
    iterator = iter(items)
    pending: deque[Handle] = deque()
    try:
        while True:
            pending.extend(map(submit, islice(iterator, max(0, ahead() + 1 - len(pending)))))
            if not pending:
                return
            yield pending.popleft()
    finally:
        for handle in pending:
            cancel(handle)


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    ahead: int | None = None,
    on_abort: Callable[[], object] = lambda: None,
) -> Iterator[Result]:
    """Map in a pool of threads.

    >>> list(ordered_map(abs, [-3, -1, -2], threads=2))
    [3, 1, 2]

    Args:
        function: called once for each item, in any thread.
        items: the input.
        threads: size of the pool, at least 1.
        ahead: results that may wait for the consumer; by default :data:`AHEAD_PER_THREAD` for each thread.
        on_abort: called when an error or the consumer ends the map early, after pending items are cancelled and
            before running ones are waited for; it may make those end sooner.

    Returns:
        The results, in the order of the items. An exception of `function` is raised in place of its result.
    """
    bound = AHEAD_PER_THREAD * threads if ahead is None else ahead
    with ThreadPoolExecutor(threads) as pool:
        futures: Generator[Future[Result], None, None]
        futures = in_flight(lambda item: pool.submit(function, item), items, lambda: bound, Future.cancel)
        try:
            with closing(futures):
                for future in futures:
                    yield future.result()
        except BaseException:
            on_abort()
            raise
