"""Asking again what may succeed later: bounded, in one place, for all drivers that speak over a network."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from outlast.errors import RemoteUnavailable

T = TypeVar("T")

TRIES = 6
"""How often something is asked at most."""

FIRST = 0.5
"""Seconds before the second try; doubled before each later one, of which half to all is taken at random."""

LONGEST = 60.0
"""Seconds between two tries at most. A service that asks for a longer pause is not asked again."""


def until_answered(
    ask: Callable[[], T], *, sleep: Callable[[float], None] = time.sleep, tries: int = TRIES, first: float = FIRST
) -> T:
    """Ask until there is an answer, or something that asking again does not change.

    What was asked may have happened although its reply was lost, so `ask` must be right when it is asked twice: a
    driver looks at what is there instead of believing the last reply.

    Args:
        ask: raises RemoteUnavailable when it may succeed later, with the service's own pause in `after`.
        sleep: waits some seconds.
        tries: how often it is asked at most.
        first: seconds before the second try.

    Raises:
        RemoteUnavailable: of the last try.
    """
    for number in range(1, tries + 1):
        try:
            return ask()
        except RemoteUnavailable as error:
            pause = min(first * 2 ** (number - 1), LONGEST) * random.uniform(0.5, 1)  # noqa: S311 - no secret
            if error.after is not None:
                pause = max(error.after, 0.0)
            if number == tries or pause > LONGEST:
                raise
        sleep(pause)
    raise AssertionError("unreachable")
