"""The end of an attempt: the reason in its record, and the exception for its process or cell.

Whatever happens while it ends (a full disk, a sink that fails, Ctrl-C once more), the attempt's end is written down if
it can be, the lock is released and the signal handlers are returned.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from outlast import terminal
from outlast.errors import RunBusy, RunNotFinished, SaveFailed, SessionEnded, UsageError
from outlast.run import cells
from outlast.run.loop import Loop
from outlast.tracking.timing import LONG

_open: dict[Path, Ending] = {}
"""The attempts that this process has not ended, by their folders."""


class Ending:
    """Ends an attempt, once. Used as a context manager, it ends a run outside a with-block when the session does.

    Args:
        loop: the loop of the attempt.

    Attributes:
        entered: whether the script is inside the run's with-block.
        ended: whether the attempt has ended.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop, self._attempt, self._session = loop, loop.attempt, loop.attempt.session
        self.entered = self.ended = False
        self._place = self._attempt.folder.path.resolve()
        _open[self._place] = self

    def enter(self) -> None:
        """The with-block begins."""
        if self.ended:
            raise UsageError(f"This attempt at {self._attempt.id} has ended; call open_run() again for the next one.")
        self.entered = True

    def leave_block(self, error: BaseException | None) -> None:
        """The with-block ends, with this error or without one: save, write the end down, let go.

        Raises:
            SessionEnded: the session is over and the run is not.
            SaveFailed: the last save, or the record of the end, could not be written.
        """
        if not self._attempt.in_own_process:
            return  # a forked child that leaves the block; the run is its parent's
        left = error if error is not None else self._complete()
        failed = self.close(left)
        if failed and (left is None or isinstance(left, SessionEnded) or isinstance(failed, KeyboardInterrupt)):
            raise failed
        if isinstance(left, SessionEnded) and cells.interactive():
            raise cells.in_a_cell(left, self._how_to_go_on(left)) from None
        if left is not None and left is not error:
            raise left

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, SessionEnded) or self.entered or self._loop.validation.running:
            return
        left = self.close(error) or cells.in_a_cell(error, self._how_to_go_on(error))
        if left is not error:
            raise left from None

    def check_over(self, call: str) -> None:
        """Refuse what changes the state while the run continues; raises UsageError."""
        if not (self.ended or self._loop.left):
            raise UsageError(
                f"{call}() was called while the run goes on: what it loads would be saved as the newest state. Call it "
                "when the loop has reached its last step, or after the with-block."
            )

    def _complete(self) -> BaseException | None:
        """The meaning of a with-block that ends without an error: finished, stopped, or no training."""
        if not self._loop.begun or self.ended:
            return None
        try:
            return self._loop.complete()
        except BaseException as error:  # noqa: BLE001 - the attempt ends in every case, and then it is raised
            return error

    def close(self, error: BaseException | None, reason: str | None = None) -> BaseException | None:
        """Write down how the attempt ended and release everything, whatever fails; returns the first failure.

        Args:
            error: what ended it, or None.
            reason: the end reason, where the error does not say it.
        """
        if self.ended:
            return None
        self.ended = True
        loop, attempt, saver = self._loop, self._attempt, self._loop.saver
        lost = attempt.lost
        failed = each(lambda: saver.close(abandon=lost or isinstance(error, KeyboardInterrupt)))
        if failed:  # interrupted while it waited for the disk: the save in progress is abandoned
            each(lambda: saver.close(abandon=True))
        reason = reason or reason_of(error)
        if error is None and not loop.begun:
            reason = attempt.reason_before or "cancelled"  # opened to look at: nothing has changed
        failed = failed or each(lambda: None if lost else attempt.following.finish(reason))
        self._session.patient = True  # the next few file operations are not interrupted
        write = (
            [] if lost else [lambda: self._write_end(reason, terminal.words_of(error) if reason == "failed" else None)]
        )
        unrecorded = each(
            lambda: self._say_what_is_lost(reason),
            self._say_where_time_went,
            *write,
            lambda: attempt.following.close(None if lost else reason),
        )
        self._session.patient = False
        failed = failed or unrecorded
        failed = failed or each(
            lambda: attempt.shown.send("ended", reason, loop.step, loop.total_steps),
            attempt.shown.close,
            *([] if lost else [attempt.write_what_was_told]),
        )
        self._session.patient = True
        released = each(attempt.hide, attempt.release, self._session.close, loop.parts.close)
        _open.pop(self._place, None)
        return failed or released

    def _say_what_is_lost(self, reason: str) -> None:
        loop, saved = self._loop, self._loop.saver.saved_step
        if not loop.begun:
            return
        if reason == "finished" and loop.total_steps is not None and loop.step < loop.total_steps:
            self._attempt.tell(
                "info",
                f"The loop was left at step {loop.step} of {loop.total_steps}, so the run counts as finished there; "
                "give another total_steps to continue it.",
            )
        if reason != "finished" and saved < loop.step:
            words = (
                f"step {saved} is saved; the next attempt repeats the steps after it."
                if saved > 0
                else "nothing had been saved; the next attempt begins again from step 0."
            )
            self._attempt.tell("warning", words)

    def _say_where_time_went(self) -> None:
        """To sinks always; to the user when the attempt was long enough for it to mean something."""
        if not self._loop.begun:
            return
        spent = self._loop.show_time()
        if spent.total >= LONG:
            for sentence in spent.sentences():
                self._attempt.tell("info", sentence)

    def _write_end(self, reason: str, words: str | None) -> None:
        """The journal's last lines and the attempt's end."""
        loop, attempt = self._loop, self._attempt
        journal: list[Callable[[], Any]] = [attempt.journal.seal, attempt.journal.flush] if loop.begun else []
        failure = each(*journal, lambda: attempt.write_end(reason, loop.step, loop.total_steps, words))
        if failure:
            why = failure.strerror if isinstance(failure, OSError) else terminal.words_of(failure)
            sentence = (
                f"How this attempt ended ({reason} at step {loop.step}) could not be recorded: {why}. Its last "
                f"checkpoint is intact. Free disk space below {attempt.folder.path} and start the run again."
            )
            attempt.shown.send("told", "warning", sentence)
            raise SaveFailed(sentence) from failure

    def _how_to_go_on(self, ended: SessionEnded) -> str:
        loop = self._loop
        of = f" of {loop.total_steps}" if loop.total_steps is not None else ""
        return (
            f"the run {self._attempt.id} is not finished; it is saved at step {max(loop.saver.saved_step, 0)}{of} "
            f"({self._session.explanation or ended.reason}). Run this cell again to continue."
        )

    def give_way(self) -> str | None:
        """End the attempt because its own process opens the run again.

        Returns a sentence about it, None in a forked child.

        Raises:
            RunBusy: the script is inside the with-block.
        """
        if not self._attempt.in_own_process:
            return None
        if self.entered:
            raise RunBusy(
                f"This process holds the run {self._place} already, in a with-block that has not ended. One run has "
                "one writer: leave that block first, or choose another name."
            )
        reason = "finished" if self._loop.finished else "cancelled"
        self.close(None, reason)
        return (
            f"attempt {self._attempt.number} was left open by this process at step {self._loop.step}; it is recorded "
            f"as {reason}, and this one takes over"
        )

    def at_exit(self) -> None:
        """A script without a with-block ends: what became of the run is written down, as far as it is known."""
        error = None if cells.interactive() else getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        if self._attempt.in_own_process:
            self.close(error, None if error else "finished" if self._loop.finished else "cancelled")


def make_way(folder: Path) -> str | None:
    """Let go of a run that this process left open without a with-block, as a cell does that is run again.

    Raises:
        RunBusy: it is inside a with-block that has not ended.
    """
    earlier = _open.get(folder.resolve())
    return earlier.give_way() if earlier else None


@atexit.register
def _end_what_is_open() -> None:
    for ending in list(_open.values()):
        ending.at_exit()


def reason_of(error: BaseException | None) -> str:
    """The end reason of an attempt that this error ended."""
    if error is None:
        return "finished"
    if isinstance(error, SessionEnded | RunNotFinished):
        return error.reason
    if isinstance(error, KeyboardInterrupt | GeneratorExit) or (isinstance(error, SystemExit) and not error.code):
        return "cancelled"
    return "failed"


def each(*actions: Callable[[], Any]) -> BaseException | None:
    """Do all of these, whatever becomes of them; returns what the first that failed raised."""
    first: BaseException | None = None
    for action in actions:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - the next ones matter more than this one
            first = first or error
    return first
