"""The logged metrics of a run, and their display."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outlast.run.attempt import Attempt
from outlast.tracking import Progress

_TICK = 0.2  # seconds between two progress events
_SMOOTH = 0.05  # weight of the newest step in the time of a step


class Metrics:
    """Passes metrics on to the journal and to sinks, and keeps the last of them.

    Args:
        attempt: whose journal and sinks.

    Attributes:
        of_step: what the running step has logged, for retention.
        last: what any step has logged last, for the screen.
    """

    def __init__(self, attempt: Attempt) -> None:
        self.of_step: dict[str, Any] = {}
        self.last: dict[str, Any] = {}
        self._attempt, self._journal, self._shown = attempt, attempt.journal, attempt.shown
        self._heard = False
        self._shown_at, self._seconds_per_step = 0.0, 0.0

    def begin(self) -> None:
        """The loop begins: look whether a sink wants the lines."""
        self._heard = self._shown.listens("logged")

    def log(self, step: int, epoch: int | None, named: Mapping[str, Any]) -> None:
        """Add a line to the journal."""
        numbers = self._journal.append(step, named, epoch)
        while self._journal.complaints:
            self._attempt.tell("warning", self._journal.complaints.pop(0))
        self.of_step |= numbers
        self.last |= numbers
        if self._heard:
            place = {"step": step} | ({} if epoch is None else {"epoch": epoch})
            self._shown.send("logged", place | numbers)

    def observe_step(self, seconds: float) -> None:
        """Learn how long steps take lately."""
        before = self._seconds_per_step
        self._seconds_per_step = (1 - _SMOOTH) * before + _SMOOTH * seconds if before else seconds

    @property
    def rate(self) -> float:
        """Steps per second lately; 0 while unknown."""
        return 1 / self._seconds_per_step if self._seconds_per_step else 0.0

    def is_time(self, clock: float) -> bool:
        """Whether progress may be sent to the screen again."""
        return clock - self._shown_at >= _TICK

    def show_progress(
        self, clock: float, step: int, total: int | None, epoch: int | None, next_save: float | None
    ) -> None:
        """Tell screens and sinks where the run is."""
        self._shown_at = clock
        facts = Progress(
            step=step,
            total=total,
            epoch=epoch,
            rate=self.rate,
            metrics=dict(self.last),  # sinks read it later
            seconds_left=self._attempt.session.seconds_left,
            next_save=next_save,
        )
        self._shown.send("progressed", facts)
