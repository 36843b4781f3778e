"""When to save, and what to keep: small objects without side effects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from outlast.errors import UsageError

Mode = Literal["max", "min"]


SHORTEST, LONGEST = 15.0, 900.0
"""Bounds of an estimated interval in seconds. A shorter one wears the disk; a longer one loses too much to a kill."""


class SavePolicy(NamedTuple):
    """When to save. A save at the end of the run and of a session is always made.

    Attributes:
        steps: every N steps (None: not by steps).
        seconds: when at least this time has passed since the last save (None: not by time).
        epochs: at the end of every N epochs (None: not by epochs).
        on_best: when the step logged a new best value of the retention policy's metric.
        auto: by time, at an interval that is estimated from the cost of a save and the failure rate of the machine.
        each_step: besides, leave every step where it outlives a kill of the process (`slots`).
    """

    steps: int | None = None
    seconds: float | None = None
    epochs: int | None = None
    on_best: bool = True
    auto: bool = False
    each_step: bool = False

    @property
    def epochs_only(self) -> bool:
        """Whether only the ends of epochs save."""
        return bool(self.epochs) and not (self.steps or self.seconds or self.auto)

    def due(self, step: int, epoch_ended: int | None) -> str | None:
        """The reason to save now, or None. Saves by time are not considered.

        Args:
            step: steps done.
            epoch_ended: the number of the epoch that this step ended (1-based), or None.
        """
        if epoch_ended is not None and self.epochs and epoch_ended % self.epochs == 0:
            return "epoch"
        if self.steps and step % self.steps == 0:
            return "steps"
        return None

    def interval(self, cost: float, failure_seconds: float) -> float | None:
        """Seconds between two saves by time; None if saves are not by time.

        Young's first-order optimum, sqrt(2 x cost x mean time between failures), kept between SHORTEST and LONGEST
        (J. W. Young, "A first order approximation to the optimum checkpoint interval", CACM 17(9), 1974; refined by
        Daly, 2006).

        Args:
            cost: seconds of training that one save costs.
            failure_seconds: mean time between two ends of a session without notice.
        """
        if not self.auto:
            return self.seconds
        return min(LONGEST, max(SHORTEST, math.sqrt(2.0 * cost * failure_seconds)))


class CheckpointFacts(NamedTuple):
    """The facts of a checkpoint that a retention policy uses."""

    step: int
    metrics: Mapping[str, float] = {}


class Retention:
    """Which checkpoints are kept. The newest is always kept.

    Attributes:
        last: number of newest checkpoints. With fewer than 2, none is left if the newest is damaged.
        best: number of best checkpoints by `metric`, among those whose own step logged it.
        metric: name of the metric, as logged.
        mode: "max" if larger is better, "min" if smaller is.
        every: keep every checkpoint whose step is a multiple of this number.
        former: former names of the metric; used for checkpoints that did not log its present name.
    """

    # Written out, because the module of dataclasses takes a seventh of the time that `outlast run` adds to a command.
    __slots__ = ("best", "every", "former", "last", "metric", "mode")

    def __init__(
        self,
        last: int = 3,
        best: int = 0,
        metric: str | None = None,
        mode: Mode = "max",
        every: int | None = None,
        former: tuple[str, ...] = (),
    ) -> None:
        self.last, self.best, self.metric, self.mode, self.every, self.former = last, best, metric, mode, every, former
        self._check()

    def __repr__(self) -> str:
        words = ", ".join(f"{name}={value!r}" for name, value in self._values().items())
        return f"Retention({words})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Retention) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(tuple(self._values().values()))

    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("last", "best", "metric", "mode", "every", "former")}

    def _check(self) -> None:
        if not _whole(self.last, 1):
            raise UsageError(f"keep_last is {self.last!r}; keep at least 1 checkpoint (2 or more to have a fallback).")
        if not _whole(self.best, 0):
            raise UsageError(
                f"keep_best is {self.best!r}; expected how many of the best checkpoints to keep, 0 or more."
            )
        if self.every is not None and not _whole(self.every, 1):
            raise UsageError(f"keep_every is {self.every!r}; expected a number of steps of at least 1, or None.")
        if self.mode not in ("max", "min"):
            raise UsageError(
                f"mode is {self.mode!r}; expected 'max' when a larger {self.metric or 'metric'} is better, or 'min' "
                "when a smaller one is."
            )
        if self.metric is not None and not (isinstance(self.metric, str) and self.metric):
            raise UsageError(
                f"metric is {self.metric!r}; expected the name under which it is logged, such as 'val_loss'."
            )
        if self.best and not self.metric:
            raise UsageError("keep_best needs best_metric: the name of a logged metric to compare by.")

    def value_of(self, metrics: Mapping[str, float]) -> float:
        """The value of the metric in the metrics of a step, under its own name or a former one.

        NaN if the step did not log it.
        """
        return next((metrics[name] for name in (self.metric or "", *self.former) if name in metrics), math.nan)

    def better(self, new: float, old: float) -> bool:
        """Whether `new` is better than `old`; NaN never is."""
        if math.isnan(new):
            return False
        return math.isnan(old) or (new > old if self.mode == "max" else new < old)

    def removable(self, checkpoints: Sequence[CheckpointFacts]) -> list[int]:
        """Steps that may be deleted, oldest first."""
        ordered = sorted(checkpoints, key=lambda kept: kept.step)
        keep = {kept.step for kept in ordered[-self.last :]}
        if self.every:
            keep |= {kept.step for kept in ordered if kept.step % self.every == 0}
        if self.best and self.metric:
            keep |= {kept.step for kept in self._ranked(ordered)[: self.best]}
        return [kept.step for kept in ordered if kept.step not in keep]

    def best_step(self, checkpoints: Sequence[CheckpointFacts]) -> int | None:
        """Step of the best checkpoint by the metric, or None if none logged it."""
        ranked = self._ranked(checkpoints)
        return ranked[0].step if ranked else None

    def is_new_best(self, value: float, checkpoints: Sequence[CheckpointFacts]) -> bool:
        """Whether a value is better than that of every checkpoint that logged the metric."""
        if math.isnan(value):
            return False
        return all(self.better(value, self.value_of(kept.metrics)) for kept in self._ranked(checkpoints))

    def _ranked(self, checkpoints: Sequence[CheckpointFacts]) -> list[CheckpointFacts]:
        sign = -1.0 if self.mode == "max" else 1.0
        usable = [kept for kept in checkpoints if not math.isnan(self.value_of(kept.metrics))]
        return sorted(usable, key=lambda kept: (sign * self.value_of(kept.metrics), kept.step))


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
