"""Whether an attempt stops: between two steps, and inside a validation."""

from __future__ import annotations

from outlast.errors import SessionEnded
from outlast.run.agreement import Agreement
from outlast.run.session import Session


class Stopping:
    """Answers for the loop, for validations and for the script whether the attempt must stop.

    Time alone never stops an attempt before one step is done: a run must get further. Hence `further` below: whether
    the run has got further in this attempt.

    Args:
        session: the lease of the machine.
        agreement: of several ranks; None for one.

    Attributes:
        requested: function that returns whether a stop was requested; with several ranks, whether they agreed on one.
        asked: the same for a script (`Run.should_stop`), which may have to be answered otherwise for a while.
        alone: whether this process decides without others.
    """

    def __init__(self, session: Session, agreement: Agreement | None = None) -> None:
        self._session, self._agreement = session, agreement
        self.alone = agreement is None
        self.requested = self.asked = (agreement or session).should_stop

    def begin(self, step: int, *, own: bool) -> None:
        """The loop begins: agree on what each rank knows.

        Args:
            step: steps done.
            own: whether outlast runs the loop; in another framework's loop, the ranks agree whenever a script asks.
        """
        self.agree(step)
        if self._agreement and not own:
            self.asked = self._agreement.should_stop_now

    def agree(self, step: int) -> None:
        """Let the ranks agree now: one may know of an end that the others do not know yet."""
        if self._agreement:
            self._agreement.after(step, None, at_once=True)

    def over(self, *, further: bool) -> bool:
        """Whether the session ends between these two steps."""
        return self.requested() and (further or self._session.reason != "budget")

    def inside(self, *, further: bool) -> bool:
        """Whether a validation is interrupted. With several ranks it never is: they would leave it at different places.

        The update of a step that runs makes the run get further, too.
        """
        return self.alone and self.over(further=further)

    def ended(self) -> SessionEnded:
        """The exception that leaves the loop."""
        return SessionEnded(self._session.reason or "budget")
