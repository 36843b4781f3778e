"""What a run tells the outside: the events, and a sink that ignores them all.

A sink that fails is reported once and left out from then on; it never stops training and never costs the journal a line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outlast.terminal import words_of


@dataclass(frozen=True)
class Progress:
    """Where a run is, for a line on a screen.

    Attributes:
        step: steps done.
        total: steps in all, None when unknown.
        epoch: epoch that runs, 1-based, None for step loops.
        rate: steps per second in this attempt, lately.
        metrics: the last values logged.
        seconds_left: until the session ends, None when nothing ends it.
        next_save: seconds until the next save by time, None when saves are not by time.
    """

    step: int
    total: int | None
    epoch: int | None
    rate: float
    metrics: Mapping[str, Any]
    seconds_left: float | None
    next_save: float | None

    @property
    def eta(self) -> float | None:
        """Seconds to the last step at the present rate."""
        return (self.total - self.step) / self.rate if self.total and self.rate > 0 else None


class Sink:
    """Base of all sinks: every event does nothing."""

    def started(self, run_id: str, attempt: int, step: int, total: int | None) -> None:
        """The loop begins, at a step."""

    def logged(self, record: Mapping[str, Any]) -> None:
        """A journal line was added: step, perhaps epoch, and the metrics."""

    def progressed(self, progress: Progress) -> None:
        """A step is done. Called at most every 0.2 s."""

    def epoch_ended(self, epoch: int) -> None:
        """The last step of an epoch (1-based) is done and saved if it was to be."""

    def saved(self, step: int, reason: str, seconds: float, size: int) -> None:
        """A checkpoint was committed: how long it took, and its size in bytes."""

    def told(self, level: str, sentence: str) -> None:
        """Something the user should read: level "info" or "warning"."""

    def stopping(self, reason: str, sentence: str) -> None:
        """A stop was asked for. May come inside a signal handler or another thread: no locks here."""

    def ended(self, reason: str, step: int, total: int | None) -> None:
        """The attempt is over."""

    def closed(self) -> None:
        """No event comes after this one."""


class Fanout(Sink):
    """Passes every event to several sinks and survives each of them.

    Args:
        sinks: the sinks, in order.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self.sinks = list(sinks)

    def listens(self, event: str) -> bool:
        """Whether any sink does something at an event."""
        return any(getattr(type(sink), event) is not getattr(Sink, event) for sink in self.sinks)

    def send(self, event: str, *facts: Any) -> None:
        """Call one method of every sink; one that raises an error is told to the others and left out."""
        for sink in list(self.sinks):
            try:
                getattr(sink, event)(*facts)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a sink does, training goes on
                if sink in self.sinks:  # else it failed once more while it heard of its own failure
                    self.sinks.remove(sink)
                self.send(
                    "told",
                    "warning",
                    f"{type(sink).__name__} failed ({words_of(error)}) and is left out from now on; the journal has all.",
                )
