"""A wrapped command is started once, or again and again until it has finished."""

from __future__ import annotations

from outlast.errors import EXIT_RUN_AGAIN, OutlastError
from outlast.integrations.command import Wrapped, WrappedAttempt
from outlast.run.session import Session

_MOST_IDLE, _SHORT = 3, 60.0  # attempts in a row that change nothing and take less than these seconds


def run(wrapped: Wrapped, session: Session, *, until_finished: bool) -> int:
    """Run a command; returns the exit code of `outlast run`.

    Args:
        wrapped: the command.
        session: the lease of the machine. Its end ends the repetition.
        until_finished: start the command again while it wants to be run again.

    Raises:
        OutlastError: the command makes no progress.
    """
    idle = 0
    try:
        while True:
            outcome = WrappedAttempt(wrapped, session).run()
            if not until_finished or outcome.code != EXIT_RUN_AGAIN or session.should_stop():
                return outcome.code
            idle = 0 if outcome.changed or outcome.seconds >= _SHORT else idle + 1
            if idle == _MOST_IDLE:
                raise OutlastError(
                    f"The command was started {idle} times in a row, ended within a minute, and changed no kept file "
                    f"(--keep), so it is not started again. Its output is in {wrapped.run.logs}."
                )
    finally:
        session.close()
