"""Decisions that several ranks make at the same step: to stop, and to save.

Each rank has its own clock and receives its own signals. So the ranks ask each other, about twice a second or after ten
steps, and never in between: a question costs a collective, which waits for the slowest.
"""

from __future__ import annotations

import time

from outlast.distributed.ranks import Ranks
from outlast.errors import UsageError
from outlast.run.session import Session

PAUSE_SECONDS = 0.5  # between two questions; what a signal may wait for, besides the running step
STEPS = 10
"""Steps at most between two questions, because steps may become slower than they were."""


_STOPS = ("", "budget", "preempted", "cancelled")  # the last that any rank has counts for all
_WISHES = ("", "time", "best", "asked")


class Agreement:
    """Asked by all ranks after the same steps.

    Args:
        ranks: all of them.
        session: this rank's; takes over the reason for which another has to stop.
    """

    def __init__(self, ranks: Ranks, session: Session) -> None:
        self._ranks, self._session = ranks, session
        self._every, self._passed = 1, 0
        self._asked = time.perf_counter()
        self._stop = 0

    def should_stop(self) -> bool:
        """Whether all ranks have agreed to stop. Changes between two steps only."""
        return self._stop > 0

    def should_stop_now(self) -> bool:
        """`should_stop` for loops that outlast does not run.

        It asks again after a number of calls, and all ranks must make the same calls.
        """
        self.after(0, None)
        return self.should_stop()

    def after(self, step: int, wish: str | None, *, at_once: bool = False) -> str | None:
        """Ask, if it is time to.

        Args:
            step: steps done, or any number that is to be the same everywhere.
            wish: why this rank would save now.
            at_once: ask now.

        Returns:
            Why all ranks save now, or None.

        Raises:
            UsageError: the ranks are not at the same step.
            RankFailed: one is gone.
        """
        self._passed += 1
        if self._passed < self._every and not at_once:
            return None
        clock = time.perf_counter()
        pace = int(1e6 * (clock - self._asked) / self._passed)
        if not self._stop:
            self._session.should_stop()
        found = self._ranks.all_gather_numbers(
            "after a step", step, _STOPS.index(self._session.reason or ""), _WISHES.index(wish or ""), pace
        )
        steps, stops, wishes, paces = zip(*found, strict=True)
        if len(set(steps)) > 1:
            raise UsageError(
                "The ranks are not at the same step: "
                f"{', '.join(f'rank {rank} at {at}' for rank, at in enumerate(steps))}. Every rank has to run the same "
                "number of steps: give them shares of the same batches (outlast.DataLoader does), and leave the loop "
                "at the same step on all of them."
            )
        self._stop = max(self._stop, *stops)
        if self._stop:
            self._session.agree(_STOPS[self._stop], f"rank {stops.index(max(stops))} has to stop")
        self._every = min(STEPS, max(1, int(1e6 * PAUSE_SECONDS / max(1, *paces))))
        self._asked, self._passed = time.perf_counter(), 0
        return _WISHES[max(wishes)] or None
