"""Distributes the events of a run: to screens in the training thread, and to sinks through one queue each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from outlast.terminal import words_of
from outlast.tracking.sink import Sink, hears, title_of
from outlast.tracking.sinks.queue import Queue

DEADLINE = 5.0
"""Seconds for which the end of an attempt waits for sinks."""


class Fanout:
    """Passes every event on, and survives errors of the receivers.

    Args:
        screens: called in the training thread, in order. For cheap outputs that must be in order with the program: the
            progress line between the program's own lines, and the CSV file.
        sinks: all others; each has a queue and its own thread.

    Attributes:
        screens: the screens; more may be added.
        tell: shows the user a message: level, sentence. By default, it is sent to all as `told`.
    """

    def __init__(self, screens: Sequence[Sink], sinks: Sequence[Sink] = ()) -> None:
        self.screens = list(screens)
        self.tell: Callable[[str, str], None] = lambda level, sentence: self.send("told", level, sentence)
        self._queues = [Queue(sink) for sink in sinks]
        self._failures: dict[int, int] = {}  # by the id of a screen

    def add(self, sink: Sink) -> None:
        """Add a sink with a queue of its own."""
        self._queues.append(Queue(sink))

    def listens(self, event: str) -> bool:
        """Whether any receiver handles an event."""
        return any(hears(sink, event) for sink in [*self.screens, *(queue.sink for queue in self._queues)])

    def send(self, event: str, *facts: Any) -> None:
        """Send an event. Sinks receive the facts later, so they must not be changed."""
        for queue in self._queues:
            queue.put(event, *facts)
        for sink in self.screens:
            self._call(sink, event, facts)
        self._complain()

    def interrupt(self, event: str, *facts: Any) -> None:
        """Send an event from a signal handler: to screens at once, to sinks before the waiting events."""
        for queue in self._queues:
            queue.interrupt(event, *facts)
        for sink in list(self.screens):
            try:
                getattr(sink, event)(*facts)
            except (Exception, SystemExit):  # noqa: BLE001 - nothing can be reported here; the next event fails as well
                self._failures[id(sink)] = self._failures.get(id(sink), 0) + 1

    def close(self) -> None:
        """Send the last event, wait for sinks until the deadline, and report what was lost."""
        for queue in self._queues:
            queue.close()
        deadline = time.monotonic() + DEADLINE
        for queue in self._queues:
            queue.finish(deadline)
        self._complain()
        for sink in list(self.screens):
            if (count := self._failures.get(id(sink), 0)) > 1:
                self._tell(f"{title_of(sink)} failed {count} times. The journal has all metrics.")
        for sink in list(self.screens):
            self._call(sink, "closed", ())

    def _call(self, sink: Sink, event: str, facts: tuple[Any, ...]) -> None:
        try:
            getattr(sink, event)(*facts)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a sink does, training continues
            self._failures[id(sink)] = self._failures.get(id(sink), 0) + 1
            if self._failures[id(sink)] == 1:
                self._tell(
                    f"{title_of(sink)} failed at {event!r} ({words_of(error)}). It is called again at the next event; "
                    "the journal has all metrics."
                )

    def _complain(self) -> None:
        for queue in self._queues:
            while queue.complaints:
                self._tell(queue.complaints.popleft())
            while queue.notes:
                self.tell(*queue.notes.popleft())

    def _tell(self, sentence: str) -> None:
        self.tell("warning", sentence)
