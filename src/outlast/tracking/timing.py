"""The time of an attempt by activity.

It is measured by the loop and written into the attempt's events. `sentences` also gives advice.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from outlast.config.units import format_seconds

T = TypeVar("T")

LONG = 60.0
"""Seconds of an attempt below which no advice is given, because starting takes most of it."""

_MUCH_DATA, _MUCH_EVALUATION, _MUCH_SAVES, _MUCH_STARTING = 0.10, 0.25, 0.05, 0.25
"""Shares of the time above which advice is given."""


class TimeSpent(NamedTuple):
    """Seconds of an attempt by activity; they add up to the total.

    Attributes:
        starting: from the opening of the run to the start of the loop: building, loading and comparing.
        training: steps, without the activities below.
        data: waiting for the next batch; None if outlast cannot measure it, and it is part of `training`.
        evaluation: in `run.evaluate` and the function of `run.validate`; those of another framework's loop are part of
            `training`.
        saves: training waited for a checkpoint.
        other: between and after the steps.
    """

    starting: float = 0.0
    training: float = 0.0
    data: float | None = None
    evaluation: float = 0.0
    saves: float = 0.0
    other: float = 0.0

    @property
    def total(self) -> float:
        """Seconds in all."""
        return self.starting + self.training + (self.data or 0.0) + self.evaluation + self.saves + self.other

    def as_json(self) -> dict[str, Any]:
        """The values for an event, rounded to milliseconds."""
        return {name: None if value is None else round(value, 3) for name, value in self._asdict().items()}

    def sentences(self, whose: str = "this attempt") -> list[str]:
        """The time by activity, in one line, and advice in at most two lines.

        Args:
            whose: the subject of the sentence.
        """
        total = self.total
        if total <= 0:
            return []
        named = {"training": self.training, "waiting for data": self.data, "saves": self.saves}
        named |= {"evaluation": self.evaluation or None}
        small = {"starting": self.starting, "other": self.other}
        named |= {name: value for name, value in small.items() if value >= total / 100}
        shares = [f"{name} {_percent(value, total)}" for name, value in named.items() if value is not None]
        return [f"{whose} took {format_seconds(total)}: {', '.join(shares)}", *self._advice()[:2]]

    def _advice(self) -> list[str]:
        """Possible savings, the largest first."""
        total = self.total
        if total < LONG:
            return []
        found = [
            (
                (self.data or 0.0) / total,
                _MUCH_DATA,
                (
                    "waiting for data: give the loader more workers (num_workers=, --num-workers), or put the data on "
                    "faster storage"
                ),
            ),
            (
                self.evaluation / total,
                _MUCH_EVALUATION,
                "evaluation: evaluate less often (every= of run.validate), or on fewer samples",
            ),
            (self.saves / total, _MUCH_SAVES, 'saves: save less often, such as save="15m" (--save-every 15m)'),
            (
                self.starting / total,
                _MUCH_STARTING,
                (
                    "starting: longer sessions start less often; make data ready before the session, and cache what is "
                    "compiled"
                ),
            ),
        ]
        found = [(share, much, words) for share, much, words in found if share >= much]
        return [
            f"{_percent(share, 1.0)} of the time went into {words}" for share, _, words in sorted(found, reverse=True)
        ]


class Stopwatch:
    """Adds up the time of one attempt. Used by the training thread; reading it from another one is harmless.

    Attributes:
        steps: seconds in steps, including all activities in them.
        saves: seconds between steps in which training waited for a checkpoint.
        holds: such seconds during steps.
    """

    def __init__(self) -> None:
        self.steps = self.saves = self.holds = 0.0
        self._data: float | None = None
        self._loaders: list[tuple[Any, float]] = []  # with the seconds that they had waited before
        self._inside = self._outside = 0.0  # seconds of evaluation in steps, and elsewhere
        self._opened = time.perf_counter()
        self._begun: float | None = None

    def begin(self) -> None:
        """The loop begins."""
        self._begun = time.perf_counter()

    def waits_for_data(self, take: Callable[[], T]) -> T:
        """Call a function that waits for a batch during a step, and add its time."""
        begun = time.perf_counter()
        try:
            return take()
        finally:
            self._data = (self._data or 0.0) + time.perf_counter() - begun

    def watch_loaders(self, things: Iterable[Any]) -> None:
        """The loop reads batches from loaders itself: outlast's loaders add their waiting time in `waited`."""
        self._loaders = [(thing, thing.waited) for thing in things if isinstance(getattr(thing, "waited", None), float)]

    @contextlib.contextmanager
    def evaluating(self, *, inside: bool) -> Iterator[Callable[[], float]]:
        """Measure an evaluation until the block is left; yields a function that returns its seconds.

        Args:
            inside: whether it is part of a step.
        """
        begun, took = time.perf_counter(), 0.0
        try:
            yield lambda: took
        finally:
            took = time.perf_counter() - begun
            if inside:
                self._inside += took
            else:
                self._outside += took

    @property
    def held(self) -> float:
        """Seconds in which training waited for checkpoints."""
        return self.saves + self.holds

    def spent(self) -> TimeSpent:
        """The time by activity until now."""
        now = time.perf_counter()
        begun = now if self._begun is None else self._begun
        data = sum(loader.waited - before for loader, before in self._loaders) if self._loaders else self._data
        evaluation, saves = self._inside + self._outside, self.held
        training = max(0.0, self.steps - (data or 0.0) - self._inside - self.holds)
        other = max(0.0, now - begun - training - (data or 0.0) - evaluation - saves)
        return TimeSpent(begun - self._opened, training, data, evaluation, saves, other)


def _percent(part: float, whole: float) -> str:
    share = 100 * part / whole
    return f"{share:.0f} %" if share >= 1 or share == 0 else "under 1 %"
