"""Several requests to a remote at a time: a bounded number of them, each in a thread of its own."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from typing import TypeVar

A = TypeVar("A")
T = TypeVar("T")

AT_ONCE = 4
"""Requests at a time. More need more memory and disk space, and seldom go faster."""


def in_parallel(
    work: Callable[[A], T],
    items: Iterable[A],
    *,
    at_once: int | None = None,
    size: Callable[[A], int] = lambda _: 0,
    most: float = math.inf,
) -> Iterator[T]:
    """Yield the result of `work` for each item, in the order of the items.

    The first error, in this order, is raised. Then no further item is begun, and the running ones are waited for. An
    interrupt does not wait for them; their threads do not keep the process alive.

    Args:
        work: called in several threads at a time.
        items: taken by the caller's thread, not earlier than a thread is free for them.
        at_once: threads at most, by default AT_ONCE; with 1, the caller's own.
        size: bytes of an item.
        most: bytes at most of the items that are begun and whose results are not taken; a larger item goes alone.
    """
    at_once = at_once or AT_ONCE
    if at_once == 1:
        yield from map(work, items)
        return
    running: deque[tuple[int, Future[T]]] = deque()
    try:
        for item in items:
            while running and (len(running) == at_once or size(item) + sum(each for each, _ in running) > most):
                yield running.popleft()[1].result()
            running.append((size(item), _begin(work, item)))
        while running:
            yield running.popleft()[1].result()
    except Exception:
        wait([result for _, result in running])
        raise


def _begin(work: Callable[[A], T], item: A) -> Future[T]:
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work(item))
        except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
            result.set_exception(error)

    try:
        threading.Thread(target=run, name=threading.current_thread().name, daemon=True).start()
    except RuntimeError:  # the interpreter shuts down: a script without a with-block ends
        run()
    return result
