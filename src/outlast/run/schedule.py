"""When to save, besides the end of the session: by the policy, by time, for a new best, and when the script asks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from outlast.checkpoint import CheckpointStore, SavePolicy, Snapshot
from outlast.run.agreement import Agreement

BEST_SHARE = 10.0  # a new best in the middle of an epoch is saved when the last save is this many times its cost ago
_RETRY = 60.0  # seconds until a failed save is tried again


class SaveSchedule:
    """Says after each step whether to save, and why. Several ranks save for the same reason at the same step.

    Args:
        policy: when to save.
        failure_seconds: mean time between two ends of such a machine that nobody announced.
        store: knows the best checkpoint, and the metric by which it is the best.
        agreement: of several ranks; None for one.

    Attributes:
        asked: whether the script asked for a save at the end of this step.
    """

    def __init__(
        self, policy: SavePolicy, failure_seconds: float, store: CheckpointStore, agreement: Agreement | None = None
    ) -> None:
        self.asked = False
        self._policy, self._failure_seconds, self._store, self._agreement = policy, failure_seconds, store, agreement
        self._clock = time.perf_counter()
        self._cost = 0.0  # of the last save, to training: seconds held, and the part of a core that the writer took
        self._interval: float | None = None

    @property
    def by_epochs_only(self) -> bool:
        """Whether the policy saves at the end of epochs and at no other time."""
        return self._policy.epochs_only

    @property
    def each_step(self) -> bool:
        """Whether every step is left where it outlives a kill of the process, until that was given up."""
        return self._policy.each_step

    def give_up_each_step(self) -> None:
        """Save when the rest of the policy says so, and leave no steps in slots any more."""
        self._policy = self._policy._replace(each_step=False)

    def save_by_time(self, seconds: float) -> None:
        """Save when the last save is so long ago, besides what the policy says; call it before `begin`."""
        self._policy = self._policy._replace(seconds=seconds)

    def begin(self) -> None:
        """Start the clock."""
        self._interval = self._policy.interval(self._cost, self._failure_seconds)
        self._clock = time.perf_counter()

    @property
    def next_save(self) -> float | None:
        """Seconds until the next save by time; None when saves are not by time."""
        return None if self._interval is None else max(0.0, self._interval - (time.perf_counter() - self._clock))

    def due(
        self, step: int, epoch_ended: int | None, metrics: Mapping[str, Any], clock: float, coming: Snapshot | None
    ) -> str | None:
        """The reason to save after this step, or None.

        Args:
            step: steps done.
            epoch_ended: the number of the epoch that this step ended (1-based), or None.
            metrics: what the step logged.
            clock: time.perf_counter() at its end.
            coming: what is on its way to the disk.
        """
        reason = self._policy.due(step, epoch_ended)  # first: ranks know it without asking each other
        wish = None if reason else self._wish(metrics, clock, coming, at_epoch=epoch_ended is not None)
        if self._agreement:
            # At the end of an epoch at once: then a best is known that all may want to save.
            wish = self._agreement.after(step, wish, at_once=epoch_ended is not None)
        return reason or wish

    def _wish(self, metrics: Mapping[str, Any], clock: float, coming: Snapshot | None, *, at_epoch: bool) -> str | None:
        """The reason of this rank alone."""
        if self.asked:
            return "asked"
        since = clock - self._clock
        if self._interval is not None and since >= self._interval and coming is None:
            return "time"
        if self._policy.on_best and metrics:
            cheap = coming is None and since > BEST_SHARE * self._cost
            return "best" if (at_epoch or cheap) and self._store.is_best(metrics, coming) else None
        return None

    def started(self, clock: float) -> None:
        """A save was started."""
        self.asked, self._clock = False, clock

    def observe(self, cost: float) -> None:
        """Learn what a save costs training, in seconds."""
        self._cost = cost
        self._interval = self._policy.interval(cost, self._failure_seconds)

    def retry(self) -> None:
        """A save failed: try it again within a minute."""
        if self._interval is not None:
            self._clock = time.perf_counter() - (self._interval - min(_RETRY, self._interval))
