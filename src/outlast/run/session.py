"""One lease of a machine: its clock, its budget, the reserve for the last save, and requests to stop."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from outlast.environment import Environment
from outlast.environment.base import clock
from outlast.errors import UsageError
from outlast.run import signals

DISK_SPEED = 50e6
"""Bytes a second that a save is believed to reach until one has been measured; slow on purpose."""


def reserve_for(state_bytes: int, save_seconds: float = 0.0) -> float:
    """Seconds that are kept back for the last save.

    Args:
        state_bytes: size of the state.
        save_seconds: the longest save so far; 0 if there was none.
    """
    return 1.0 + 2.0 * max(save_seconds, state_bytes / DISK_SPEED)


LONGEST_PUSH = 300.0
"""Seconds that are kept back at most for the last checkpoint's way to a remote."""

_SHARE = 0.1  # of a budget that is kept back for that at most


def now() -> float:
    """Seconds on a clock that never jumps and that runs while a laptop sleeps: a lease ends at its hour."""
    return _clock()


_clock = clock


class Session:
    """Knows when to stop.

    Two ends may be near: the platform's limit, before which its own reserve is kept (some store outputs inside the
    session), and the user's budget, by whose end the process is to be gone. Both leave time for the last save and for
    the longest step seen.

    Args:
        environment: states the limit, the platform's reserve, and its notice of an end.
        budget: seconds this session may take; None: no more limit than the environment's.
        reserve: seconds to keep back for the last save, instead of what is estimated from the size of the state. What a
            platform needs after training (some store the outputs) is kept back all the same.
        on_stop: called once, in any thread, with the reason and a sentence, when a stop is first asked for.

    Attributes:
        reason: why to stop: "budget", "preempted", "cancelled"; None while nobody asked.
        explanation: the same as a sentence.
        signal: the signal that asked, such as "SIGTERM"; None when it was something else.
        patient: while true, a second Ctrl-C does not interrupt what runs: the few moments in which an attempt is ended.
    """

    def __init__(
        self,
        environment: Environment,
        *,
        budget: float | None = None,
        reserve: float | None = None,
        on_stop: Callable[[str, str], None] | None = None,
    ) -> None:
        self.environment = environment
        self.started = now()
        age = 0.0 if environment.detected is None else max(0.0, clock() - environment.detected)
        self._limited_since = self.started - age  # the limit was read before the framework was imported
        self.budget = budget
        self.reason: str | None = None
        self.explanation = ""
        self._fixed_reserve = reserve
        self._on_stop = on_stop
        self._state_bytes = 0
        self._stored_bytes = 0
        self._save_seconds = 0.0
        self._longest_step = 0.0
        self._push_seconds = 0.0
        self.signal: str | None = None
        self.patient = False
        self._paused = False
        self._interrupts = 0
        self._closed = threading.Event()
        self._listener: threading.Thread | None = None
        self._stop_at = float("inf")
        self._reckon()
        self.check_budget()

    def record(self) -> dict[str, object]:
        """What it may spend, as in an attempt record."""
        return {"budget": self.budget, "reserve": self._fixed_reserve, "quota": self.environment.quota}

    @property
    def reserve(self) -> float:
        """Seconds kept back at the end of the budget for the last save."""
        if self._fixed_reserve is not None:
            return self._fixed_reserve
        return reserve_for(self._state_bytes, self._save_seconds) + self._push_seconds

    @property
    def limit_reserve(self) -> float:
        """Seconds kept back at the end of the environment's limit: its own reserve, and never less than ours."""
        return max(self.reserve, self.environment.reserve(self._stored_bytes + self._state_bytes))

    @property
    def ends(self) -> float | None:
        """When the process is to be gone, on the clock of `now`; None when nothing ends it.

        What the environment needs after training is kept back.
        """
        ends = [] if self.budget is None else [self.started + self.budget]
        if self.environment.limits.seconds is not None:
            kept = self.environment.reserve(self._stored_bytes + self._state_bytes)
            ends.append(self._limited_since + self.environment.limits.seconds - kept)
        return min(ends, default=None)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until training stops, None when nothing ends it."""
        return None if self._stop_at == float("inf") else self._stop_at - now()

    def should_stop(self) -> bool:
        """Whether to stop now. Under a microsecond, so ask as often as you like."""
        return self.reason is not None or (_clock() >= self._stop_at and self._out_of_time())

    def request_stop(self, reason: str, explanation: str, *, signal: str | None = None) -> None:
        """Ask for a stop at the end of the running step. The first reason stays."""
        if self.reason is None:
            self.explanation, self.signal = explanation, signal
            self.reason = reason
            if self._on_stop:
                self._on_stop(reason, explanation)

    def agree(self, reason: str, explanation: str) -> None:
        """Take over the reason that all ranks of an attempt have agreed on."""
        self.request_stop(reason, explanation)
        self.reason = reason

    def observe_step(self, seconds: float) -> bool:
        """Learn how long steps take: none may be begun that would run over the end.

        Returns:
            Whether it was one to learn from: not when the process was stopped meanwhile (SIGSTOP, Ctrl-Z) and
            continued.
        """
        if self._paused:
            self._paused = False
            return False
        if seconds > self._longest_step:
            self._longest_step = seconds
            self._reckon()
        return True

    def observe_state(self, state_bytes: int, stored_bytes: int, save_seconds: float | None = None) -> None:
        """Learn the size of the state, of all that is in the run folder, and how long a save took."""
        self._state_bytes, self._stored_bytes = state_bytes, stored_bytes
        if save_seconds is not None:
            self._save_seconds = max(self._save_seconds, save_seconds)
        self._reckon()

    def observe_push(self, seconds: float) -> None:
        """Learn how long a checkpoint takes to a remote: the last one is waited for, within bounds."""
        seconds = min(1.25 * seconds, LONGEST_PUSH, _SHARE * (self.budget or math.inf))
        if seconds > self._push_seconds:
            self._push_seconds = seconds
            self._reckon()

    def check_budget(self) -> None:
        """Refuse a budget that is all reserve, as far as the size of the state is known; raises UsageError."""
        if self.budget is not None and self.budget <= self.reserve:
            raise UsageError(
                f"The budget of {self.budget:g} s leaves no time to train: {self.reserve:.1f} s of it are kept back "
                "for the last save. Give a longer budget (budget= of open_run, OUTLAST_BUDGET, or --budget) or a "
                "shorter reserve (reserve= or --reserve)."
            )

    def listen(self) -> list[str]:
        """Take signals as requests to stop, and wait for the platform's notice.

        Returns what the user should know of it.

        SIGTERM, SIGHUP and SIGINT, and SIGUSR1, SIGUSR2 and SIGXCPU where the program does not handle them itself; see
        `signals`. Calling it again is fine.
        """
        told = signals.listen(self._hear)
        if self.environment.notice and self._listener is None:
            self._listener = threading.Thread(target=self._wait_for_notice, name="outlast-notice", daemon=True)
            self._listener.start()
        return told

    def close(self) -> None:
        """Give the signal handlers back and stop listening."""
        self._closed.set()
        signals.leave(self._hear)

    def _hear(self, name: str) -> None:
        if name == "SIGCONT":  # the process was stopped for a while: that was no part of the step
            self._paused = True
            return
        if name == "SIGINT":
            self._interrupts += 1
            if self._interrupts > 1:
                if self.patient:
                    return
                raise KeyboardInterrupt
            self.request_stop("cancelled", "interrupted (Ctrl-C again stops without saving)", signal=name)
        else:
            self.request_stop(signals.REASONS.get(name, "preempted"), f"{name} received", signal=name)

    def _wait_for_notice(self) -> None:
        notice = self.environment.notice
        sentence = notice(self._closed) if notice else None
        if sentence:
            self.request_stop("preempted", sentence)

    def _out_of_time(self) -> bool:
        self.request_stop("budget", f"the session's time is used up ({self.reserve:.0f} s kept back to save)")
        return True

    def _reckon(self) -> None:
        ends = []
        if self.budget is not None:
            ends.append(self.started + self.budget - self.reserve)
        if self.environment.limits.seconds is not None:
            ends.append(self._limited_since + self.environment.limits.seconds - self.limit_reserve)
        if ends:
            self._stop_at = min(ends) - self._longest_step
