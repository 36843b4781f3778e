"""Whether training goes on beside a save or waits for it: whichever costs it less here, as measured.

A save beside training holds it for a moment and slows the steps that follow, because copies, hashes and Python's lock
take their share of the cores. A save that training waits for costs its whole time. Which is less depends on the
machine, its disk, the size of the state and what training leaves of the cores; so both are measured.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable

_SAMPLES = 3
"""Saves of a kind that are measured before their median is compared, and undisturbed steps before a step is known."""
_AGAIN = 20
"""Saves until the kind that cost more is measured once more. Training, or the machine, may have changed."""


class Manner:
    """Learns what the two kinds of saves cost training.

    Attributes:
        waits: whether training should wait until the next save is durable.
    """

    def __init__(self) -> None:
        self.waits = False
        self._steps: collections.deque[float] = collections.deque(maxlen=15)  # undisturbed ones, in seconds
        self._disturbed: list[float] = []  # steps beside the present save
        self._costs: dict[bool, collections.deque[float]] = {
            waited: collections.deque(maxlen=_SAMPLES) for waited in (False, True)
        }
        self._durable_after = 0.0
        self._since = 0  # saves since both kinds were compared by a fresh measurement

    def observe_step(self, seconds: float, *, beside: bool) -> None:
        """Take in how long a step took.

        Args:
            seconds: its time, with all waits inside it and without saves between steps.
            beside: whether a save was on its way during the step.
        """
        (self._disturbed if beside else self._steps).append(seconds)

    def observe_save(self, held: float, durable_after: float, *, waited: bool) -> None:
        """Take in what a save cost, and choose the kind of the next one.

        Args:
            held: seconds that it held training between two steps.
            durable_after: seconds from the request until it was durable.
            waited: whether training waited for that.
        """
        disturbed = self.forget()
        if len(self._steps) < _SAMPLES:
            return
        slower = sum(disturbed) - len(disturbed) * _median(self._steps)
        self._costs[waited].append(held + slower)
        if not waited:
            self._durable_after = durable_after
        self._since += 1
        self.waits = self._choose()

    def forget(self) -> list[float]:
        """Drop the steps beside the present save, which was not measured to its end, and return them."""
        disturbed, self._disturbed = self._disturbed, []
        return disturbed

    def _choose(self) -> bool:
        beside, waiting = self._costs[False], self._costs[True]
        if len(beside) < _SAMPLES:
            return False
        cost = _median(beside)
        # A save that training waits for shares the cores with nobody. That makes it twice as fast at the most, if
        # each of the two had its half; where even that would cost more, it is not tried.
        worth_trying = self._durable_after / 2 < cost
        better = bool(waiting) and _median(waiting) < cost
        if not waiting and worth_trying:
            self._since = 0
            return True
        if self._since >= _AGAIN and (better or worth_trying):
            self._since = 0
            return not better
        return better


def _median(values: Iterable[float]) -> float:
    """The middle one, of two the larger. Without the statistics module, because a start would pay for its import."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2]
