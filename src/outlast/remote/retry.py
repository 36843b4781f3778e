"""Asking again what may succeed later: bounded, in one place, for all drivers that speak over a network."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from outlast.errors import RemoteUnavailable
from outlast.waiting import Wait

T = TypeVar("T")

TRIES = 6
"""How often something is asked at most."""

FIRST = 0.5
"""Seconds before the second try; doubled before each later one, of which half to all is taken at random."""

LONGEST = 60.0
"""Seconds between two tries at most. A service that asks for a longer pause is not asked again."""


class Tries:
    """Counts the tries of one thing, and waits between them.

    Args:
        sleep: waits some seconds.
        tries: how often it is asked at most.
        first: seconds before the second try.
        wait: within whose bound the tries stay; None for no other bound.
        timeout: seconds that a try takes when nothing is heard.
    """

    def __init__(
        self,
        *,
        sleep: Callable[[float], None] = time.sleep,
        tries: int = TRIES,
        first: float = FIRST,
        wait: Wait | None = None,
        timeout: float = 0.0,
    ) -> None:
        self._sleep, self._tries, self._first, self._wait, self._timeout = sleep, tries, first, wait, timeout
        self.failed = 0

    def again(self, error: RemoteUnavailable) -> None:
        """Wait before the next try, as long as the service asks for where it does.

        Raises:
            RemoteUnavailable: the error, when no try is left, the service asks for a longer pause than LONGEST, or the
            next try would not end within the bound of the wait.
        """
        self.failed += 1
        pause = min(self._first * 2 ** (self.failed - 1), LONGEST) * random.uniform(0.5, 1)  # noqa: S311 - no secret
        if error.after is not None:
            pause = max(error.after, 0.0)
        if self.failed >= self._tries or pause > LONGEST:
            raise error
        if self._wait is not None:
            self._wait.reason = error.reason
            if not self._wait.lasts(pause + self._timeout):  # tries within tries would multiply
                raise error
        self._sleep(pause)


def longest(timeout: float) -> float:
    """Seconds of all tries of one thing, and of the pauses between them, when each waits for so many in silence."""
    return TRIES * timeout + sum(min(FIRST * 2.0**number, LONGEST) for number in range(TRIES - 1))


def until_answered(ask: Callable[[], T], tries: Tries | None = None) -> T:
    """Ask until there is an answer, or an error that asking again does not change.

    What was asked may have happened although its reply was lost, so `ask` must be right when it is asked twice: a
    driver looks at what is there instead of believing the last reply.

    Args:
        ask: raises RemoteUnavailable when it may succeed later, with the service's own pause in `after`.
        tries: bounds them.

    Raises:
        RemoteUnavailable: of the last try.
    """
    tries = tries or Tries()
    while True:
        try:
            return ask()
        except RemoteUnavailable as error:
            tries.again(error)
