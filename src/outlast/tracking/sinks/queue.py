"""Gives a sink its events in its own thread.

Training waits for no tracker, and a failing one loses only what it must.

Training adds events to a bounded queue; the thread takes them out in order. What the user should know (failures,
losses) is kept in `complaints` for the training thread, which is the only one that prints and writes records.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections import OrderedDict, deque
from typing import Any

from outlast.terminal import words_of
from outlast.tracking.sink import NotingSink, Sink, hears, title_of

MOST = 10_000
"""Events that wait at most, besides those that are never dropped."""

TRIES = 5
"""Calls for one event before it is counted as lost; one for a droppable event, when the queue is being closed.

`started` is never lost: it is tried until the queue is closed, and nothing is sent without it.
"""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds after the first error, doubled after each further one up to the longest, whichever event it is.

An event that is taken ends the pauses.
"""

DROPPABLE = frozenset({"progressed", "logged", "timed", "evaluated", "told", "epoch_ended"})
"""Events that a sink which is far behind may lose; never a save, an artifact, or how the attempt began and ended."""

Event = tuple[float, str, tuple[Any, ...]]
"""When (Unix time), what, and its facts."""


class _SinkThread(threading.Thread):
    """The thread of a sink."""


def in_sink_thread() -> bool:
    """Whether a sink makes this call, in one of its events."""
    return isinstance(threading.current_thread(), _SinkThread)


class Queue:
    """The events of one sink, and the thread that hands them over. For one training thread, except `interrupt`.

    Args:
        sink: the receiver.
        most: droppable events that wait at most. Beyond it, the oldest of them is dropped and counted.
        pause: seconds to wait after a first error.

    Attributes:
        complaints: warnings for the user; the training thread takes them out.
        notes: level and sentence of what the sink itself has for the user; likewise.
        errors: errors that the sink raised.
        dropped: events that were dropped because the sink was too far behind.
        failed: events that were abandoned because the sink raised an error at each call.
        unsent: events that still waited at the deadline.
    """

    def __init__(self, sink: Sink, *, most: int = MOST, pause: float = FIRST_PAUSE) -> None:
        self.sink = sink
        self.complaints: deque[str] = deque()
        self.notes: deque[tuple[str, str]] = sink.notes if isinstance(sink, NotingSink) else deque()
        self.errors = self.dropped = self.failed = self.unsent = 0
        self._title = title_of(sink)
        self._most, self._first_pause = most, pause
        self._lock = threading.Lock()  # for what follows
        self._number = 0
        self._waiting: OrderedDict[int, Event] = OrderedDict()
        self._droppable: OrderedDict[int, None] = OrderedDict()
        self._progress = 0  # number of the newest "progressed"
        self._current: Event | None = None
        self._abandoned = False
        self._interrupts: deque[Event] = deque()
        self._closing = threading.Event()
        # Released when there is something to do. A plain lock, as a signal handler can release it without another lock.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        self._heard: dict[str, bool] = {}
        self._pause = 0.0

    def put(self, event: str, *facts: Any) -> None:
        """Add an event. Never waits. Nothing happens in a forked child, which has no such thread."""
        if not self._hears(event) or os.getpid() != self._process:
            return
        with self._lock:
            if self._abandoned:
                return
            self._number += 1
            if event == "progressed":
                self._waiting.pop(self._progress, None)
                self._droppable.pop(self._progress, None)
                self._progress = self._number
            self._waiting[self._number] = time.time(), event, facts
            if event in DROPPABLE:
                self._droppable[self._number] = None
            if len(self._droppable) > self._most:
                oldest, _ = self._droppable.popitem(last=False)
                del self._waiting[oldest]
                self._drop()
        if self._thread is None:
            self._start()
        self._ring()

    def interrupt(self, event: str, *facts: Any) -> None:
        """Add an event from a signal handler or any thread, before those that wait; takes no lock."""
        if self._hears(event) and os.getpid() == self._process:
            self._interrupts.append((time.time(), event, facts))
            self._ring()

    def close(self) -> None:
        """Add the last event. From here on no pause is made for a failing sink; `finish` waits for the end."""
        self.put("closed")
        self._closing.set()
        self._ring()

    def finish(self, deadline: float) -> None:
        """Wait until the sink has had all events, at most until a deadline (time.monotonic()).

        Then count what is lost.
        """
        if os.getpid() != self._process:
            return
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            self._abandoned = True
            self.unsent = len(self._waiting) + (self._current is not None)
            self._waiting.clear()
            self._droppable.clear()
        counts = ((self.dropped, "dropped"), (self.failed, "failed"), (self.unsent, "not sent in time"))
        if words := ", ".join(f"{count} {how}" for count, how in counts if count):
            self.complaints.append(f"{self._title} did not get every event: {words}. The journal has all metrics.")
        elif self.errors:
            self.complaints.append(f"{self._title} failed {self.errors} times and got every event in the end.")

    def _drop(self) -> None:
        self.dropped += 1
        if self.dropped == 1:
            self.complaints.append(
                f"{self._title} is {self._most} events behind, so the oldest are dropped. The journal has all metrics."
            )

    def _hears(self, event: str) -> bool:
        heard = self._heard.get(event)
        if heard is None:
            heard = self._heard[event] = hears(self.sink, event)
        return heard

    def _start(self) -> None:
        thread = _SinkThread(target=self._run, name=f"outlast-sink-{self._title}", daemon=True)
        with contextlib.suppress(RuntimeError):  # no more threads: the next event tries again, and `finish` counts
            thread.start()
            self._thread = thread

    def _ring(self) -> None:
        if self._bell.locked():
            with contextlib.suppress(RuntimeError):  # another thread was quicker
                self._bell.release()

    # in the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (taken := self._next()) is not None:
            taken_in = self._hand_over(taken)
            self.failed += not taken_in
            with self._lock:
                self._current = None
            if not taken_in and taken[1] == "started":
                return  # and `finish` counts all that waits as not sent

    def _hand_over(self, taken: Event) -> bool:
        """Call the sink until it takes an event, or the event is given up; returns whether it took it."""
        event = taken[1]
        for trial in itertools.count(1):
            closing = self._closing.is_set()
            error = self._call(*taken)
            if error is None:
                self._pause = 0.0
                return True
            self._note(error, event)
            self._pause = min(LONGEST_PAUSE, max(self._first_pause, 2 * self._pause))
            self._closing.wait(self._pause)
            last = trial == TRIES if event != "started" else False
            if last or (closing and (event == "started" or event in DROPPABLE)):
                break
        return False

    def _note(self, error: BaseException, event: str) -> None:
        self.errors += 1
        if self.errors == 1:
            self.complaints.append(
                f"{self._title} failed at {event!r} ({words_of(error)}). It is tried again; the journal has all "
                "metrics."
            )

    def _call(self, at: float, event: str, facts: tuple[Any, ...]) -> BaseException | None:
        failure: BaseException | None = None
        try:
            self.sink.time = at
            getattr(self.sink, event)(*facts)
        except BaseException as error:  # noqa: BLE001 - whatever a sink does, training continues
            failure = error
        if os.getpid() != self._process:  # a child that the sink forked: the events belong to its parent
            os._exit(1 if failure else 0)
        return failure

    def _next(self) -> Event | None:
        """The next event, when there is one; None when there will be none."""
        while True:
            closing = self._closing.is_set()  # asked first: what is added before it is seen below
            with self._lock:
                if self._abandoned:
                    return None
                if self._interrupts:
                    self._current = self._interrupts.popleft()
                    return self._current
                if self._waiting:
                    number, self._current = self._waiting.popitem(last=False)
                    self._droppable.pop(number, None)
                    return self._current
            if closing:
                return None
            self._bell.acquire()
