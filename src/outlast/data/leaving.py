"""Ends the workers of a data loader quickly, whatever they are doing.

A worker outlives a SIGTERM that was meant for its whole group (`workers`), so nothing but this ends it before its time:
when a run closes, when a loader is dropped, and when the interpreter exits, where multiprocessing would otherwise wait
for it. Works on the iterators of torch's DataLoader and of torchdata's StatefulDataLoader, which share their inner
parts.
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

from outlast.distributed import workers

SOON = 0.5
"""Seconds that workers get to end by themselves; after them they are killed.

They hold nothing that is not fetched again.
"""

_SERVER_DIED = 255  # what multiprocessing says of a process whose fork server is gone
_SLICE = 0.1  # seconds between two questions whether to continue waiting for a batch

_watched: weakref.WeakSet[Any] = weakref.WeakSet()
"""The torch iterators of this process that have, or had, workers and that outlast looks after."""


class Interrupted(Exception):
    """The session ends, and the batch that was waited for is not wanted any more. It was not counted."""


def end_workers(iterator: Any, patience: float = SOON) -> None:
    """End the workers of a torch iterator and release its queues; returns within a second or two. Raises nothing.

    The iterator is of no use afterwards. Nothing happens to one without workers, or one that belongs to a parent
    process.

    Args:
        iterator: the iterator, or anything else.
        patience: seconds that the workers get to end by themselves.
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
    _join_or_kill(iterator, processes, patience)
    for queue in [*getattr(iterator, "_index_queues", ()), getattr(iterator, "_worker_result_queue", None)]:
        with contextlib.suppress(Exception):
            queue.cancel_join_thread()
            queue.close()


def _join_or_kill(iterator: Any, processes: list[Any], patience: float) -> None:
    deadline = time.monotonic() + patience
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
            with contextlib.suppress(OSError):  # multiprocessing has lost sight of it, and it may continue for long
                os.kill(process.pid, signal.SIGKILL)
    for process in processes:
        process.join(SOON)


@contextlib.contextmanager
def starting(context: Any) -> Iterator[None]:
    """While workers are started: signals wait, so that none reaches a worker that cannot outlive it yet.

    A worker has them waiting too, until `workers.shield`. A fork server would hand that on to the children of others,
    so there it is left out.
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


def look_after(iterator: Any, leave: Callable[[], bool], owner: Any = None) -> None:
    """Make a torch iterator end its workers soon after it is deleted or the interpreter exits.

    Nothing happens to one without workers.

    Args:
        iterator: the iterator.
        leave: asked while the iterator waits for a batch; where it says yes, the iterator raises Interrupted.
        owner: a loader whose `close()` ends these workers; it is not kept alive.
    """
    if not callable(getattr(iterator, "_try_get_data", None)) or not getattr(iterator, "_workers", None):
        return
    if not isinstance(iterator, _Prompt):
        kind = type(iterator)
        if kind not in _kinds:
            _kinds[kind] = type(kind.__name__, (_Prompt, kind), {"__module__": kind.__module__})
        iterator.__class__ = _kinds[kind]
    iterator.leave, iterator.owner = leave, weakref.ref(owner) if owner is not None else None
    _watched.add(iterator)
    atexit.unregister(_end_all)
    atexit.register(_end_all)  # the last one registered is the first one called: ahead of multiprocessing and of torch


def at_work() -> weakref.WeakSet[Any]:
    """The iterators that have workers now."""
    return weakref.WeakSet(iterator for iterator in list(_watched) if not iterator._shutdown)


def end_since(before: weakref.WeakSet[Any]) -> None:
    """End all workers that were started since `at_work` was asked.

    Loaders of outlast's continue with new ones where they were.
    """
    for iterator in at_work():
        if iterator not in before:
            loader = iterator.owner and iterator.owner()
            if loader is not None:
                with contextlib.suppress(Exception):
                    loader.close()
            end_workers(iterator)


class _Prompt:
    """The changed behaviour of a torch iterator with workers under outlast.

    These are methods, not functions that are set on the iterator: they would hold it in a cycle, which only the garbage
    collector ends, at a time of its own: in the middle of a later loop, or in a worker that was forked from it.
    """

    leave: Callable[[], bool]
    owner: Any
    _fetching = False

    def _try_get_data(self, timeout: float = 5.0) -> Any:
        fetch = super()._try_get_data  # type: ignore[misc]
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            self._fetching = True
            found = fetch(max(0.0, min(_SLICE, left)))
            self._fetching = False
            if found[0] or left <= _SLICE:
                return found
            if self.leave():
                raise Interrupted

    def _mark_worker_as_unavailable(self, worker_id: int, shutdown: bool = False) -> None:  # noqa: FBT001, FBT002
        if not self._fetching:  # else torch believes it dead, and one that is not would not know what this means
            super()._mark_worker_as_unavailable(worker_id, shutdown)  # type: ignore[misc]

    def _shutdown_workers(self) -> None:
        end_workers(self)  # torch's own way waits for seconds, and then sends a signal that a worker outlives

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # the interpreter may be going
            end_workers(self, patience=0.0)  # garbage is collected in the middle of anything, so nothing is waited for


_kinds: dict[type, type] = {}
"""Classes of torch's iterators, and what each becomes."""


def _disown() -> None:
    """In a forked child: the iterators of its parent are none of its matters, also when it collects them as garbage."""
    for iterator in list(_watched):
        iterator._shutdown = True
    _watched.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown)


def _end_all() -> None:
    end_since(weakref.WeakSet())
    workers.let_go()
