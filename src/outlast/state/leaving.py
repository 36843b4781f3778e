"""The end of a data loader's workers: soon, whatever they are doing.

A worker outlives a SIGTERM that was meant for its whole group (`workers`), so nothing but this ends it before its time: when a run
closes, when a loader is dropped, and when the interpreter exits, where multiprocessing would otherwise wait for it. Works on the
iterators of torch's DataLoader and of torchdata's StatefulDataLoader, which share their inner parts.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing.connection
import os
import signal
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from outlast import workers

SOON = 0.5
"""Seconds that workers get to end by themselves; after them they are killed. They hold nothing that is not fetched again."""

_SERVER_DIED = 255  # what multiprocessing says of a process whose fork server is gone
_SLICE = 0.1  # seconds between two questions whether to go on waiting for a batch

_open: weakref.WeakSet[Any] = weakref.WeakSet()


class Interrupted(Exception):
    """The session ends, and the batch that was waited for is not wanted any more. It was not counted."""


def keep_track(loader: Any) -> None:
    """Have a loader's `close()` called before the interpreter exits, ahead of what multiprocessing and torch do there."""
    _open.add(loader)
    atexit.unregister(_close_all)
    atexit.register(_close_all)  # the last one registered is the first one called


def end_workers(iterator: Any) -> None:
    """End the workers of a torch iterator and let go of its queues; returns within a second or two. Raises nothing.

    The iterator is of no use afterwards. Nothing happens to one without workers, or one that belongs to a parent process.
    """
    processes = list(getattr(iterator, "_workers", None) or ())
    if getattr(iterator, "_shutdown", True) or not processes or processes[0]._parent_pid != os.getpid():
        return
    iterator._shutdown = True  # torch's own way waits five seconds for each worker
    with contextlib.suppress(Exception):
        if thread := getattr(iterator, "_pin_memory_thread", None):  # reads what workers write, so it ends first
            iterator._pin_memory_thread_done_event.set()
            iterator._worker_result_queue.put((None, None))
            thread.join(SOON)
    with contextlib.suppress(Exception):
        iterator._workers_done_event.set()
        for queue in iterator._index_queues:
            queue.put(None)
    _join_or_kill(iterator, processes)
    for queue in [*getattr(iterator, "_index_queues", ()), getattr(iterator, "_worker_result_queue", None)]:
        with contextlib.suppress(Exception):
            queue.cancel_join_thread()
            queue.close()


def _join_or_kill(iterator: Any, processes: list[Any]) -> None:
    deadline = time.monotonic() + SOON
    waiting = {process.sentinel: process for process in processes}
    while waiting and (left := deadline - time.monotonic()) > 0:
        for sentinel in multiprocessing.connection.wait(list(waiting), left):
            waiting.pop(sentinel)
    with contextlib.suppress(Exception):  # else torch's SIGCHLD handler takes a killed worker for an accident
        if iterator._worker_pids_set:
            from torch.utils.data._utils import signal_handling

            signal_handling._remove_worker_pids(id(iterator))
            iterator._worker_pids_set = False
    for process in processes:
        if process.sentinel in waiting:
            process.kill()
        elif process.exitcode == _SERVER_DIED and getattr(process, "_start_method", "") == "forkserver":
            with contextlib.suppress(OSError):  # multiprocessing has lost sight of it, and it may go on for long
                os.kill(process.pid, signal.SIGKILL)
    for process in processes:
        process.join(SOON)


@contextlib.contextmanager
def starting(context: Any) -> Iterator[None]:
    """While workers are started: signals wait, so that none reaches a worker that cannot outlive it yet.

    A worker has them waiting too, until `workers.shield`. A fork server would hand that on to the children of others, so there it
    is left out.
    """
    method = context if isinstance(context, str) else getattr(context, "_name", None)
    method = method or multiprocessing.get_start_method()
    if method == "forkserver" or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, workers.HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def make_interruptible(iterator: Any, leave: Callable[[], bool]) -> None:
    """Have a torch iterator with workers ask, while it waits for a batch, whether to give up; it raises Interrupted then."""
    fetch = getattr(iterator, "_try_get_data", None)
    if not callable(fetch) or not getattr(iterator, "_workers", None):
        return

    def fetch_or_leave(timeout: float = 5.0) -> Any:
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            found = fetch(max(0.0, min(_SLICE, left)))
            if found[0] or left <= _SLICE:
                return found
            if leave():
                raise Interrupted

    iterator._try_get_data = fetch_or_leave


def _close_all() -> None:
    for loader in list(_open):
        with contextlib.suppress(Exception):
            loader.close()
    workers.let_go()
