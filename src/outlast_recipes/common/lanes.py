"""Pieces of one computation on a CPU, each computed on one core, in as many threads as torch has.

Where torch divides each operation among its threads, all of them wait for the slowest at the end of each. With pieces
of 3 MB that is a wait each millisecond, and on cores that others use too one of the threads is often not running: steps
took thirty times as long (docs/log.md). Here a thread takes the next piece when it has done one, and all wait once at
the end. What a piece gives does not depend on the number of threads.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Barrier
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Scratch:
    """Memory of what lives for one piece only.

    The allocator would give the memory of a piece that was just let go, and is in the cache, to one that is kept, and
    a cold one to the next that is let go.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        """The buffer of this name and shape; what it held is lost."""
        key = (name, shape)
        if key not in self._buffers:
            self._buffers[key] = torch.empty(shape)
        return self._buffers[key]


class Lanes:
    """Runs pieces of work. In the calling thread where torch has one thread.

    Each lane has its own scratch memory, which lives as long as this object. No gradients are recorded in the work.
    """

    def __init__(self) -> None:
        self._scratch = [Scratch() for _ in range(torch.get_num_threads())]

    def __call__(self, work: Callable[[int, Scratch], T], count: int) -> list[T]:
        """`work(number, scratch)` for each number below `count`, in any order; what it gave, in order of the numbers.

        Raises:
            Exception: whatever the work raised, once no lane runs any more.
        """
        lanes = min(len(self._scratch), count)
        if lanes < 2:
            return [work(number, self._scratch[0]) for number in range(count)]
        found: dict[int, T] = {}
        numbers = itertools.count()  # a number is taken in one step of the interpreter
        inference = torch.is_inference_mode_enabled()

        def run(scratch: Scratch) -> None:
            with torch.inference_mode(inference), torch.no_grad():  # both belong to a thread
                while (number := next(numbers)) < count:
                    found[number] = work(number, scratch)

        pool = _pool(len(self._scratch))
        running: list[Future[None]] = [pool.submit(run, scratch) for scratch in self._scratch[:lanes]]
        try:
            wait(running)
        finally:  # also where a signal's handler raises in this thread: nothing of this call runs on behind it
            numbers = itertools.count(count)
            wait(running)
        for each in running:
            each.result()
        return [found[number] for number in range(count)]


_pools: dict[int, ThreadPoolExecutor] = {}


def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads whose operations are not divided further."""
    if threads not in _pools:
        pool, started = ThreadPoolExecutor(threads, "lane"), Barrier(threads)

        def alone() -> None:
            torch.get_num_threads()  # the first call in a thread sets its number to that of the process
            torch.set_num_threads(1)  # of this thread, and of threads that begin later
            started.wait()

        wait([pool.submit(alone) for _ in range(threads)])
        torch.set_num_threads(threads)  # threads that begin later have as many as before
        _pools[threads] = pool
    return _pools[threads]


os.register_at_fork(after_in_child=_pools.clear)  # threads do not live on in a forked process
