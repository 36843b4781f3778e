"""The loop of an attempt: counts steps, does the work between two steps, and ends the loop.

Everything is saved between two steps and never in the middle of one. Loops over batches are in `epochs`, loops that
outlast does not run in `foreign`; both count their steps here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from outlast.checkpoint import OpenedCheckpoint
from outlast.checkpoint.record import LoopRecord
from outlast.errors import SessionEnded, UsageError
from outlast.folder.records import LARGEST
from outlast.run import arguments, best
from outlast.run.attempt import Attempt
from outlast.run.measure import Measure
from outlast.run.metrics import Metrics
from outlast.run.parts import Parts
from outlast.run.position import Position
from outlast.run.saver import Saver
from outlast.run.schedule import SaveSchedule
from outlast.run.start import Start
from outlast.run.stopping import Stopping
from outlast.run.validation import Validation
from outlast.run.witness import Witness
from outlast.tracking import TimeSpent

__all__ = ["Loop", "Position", "is_step"]

_MINUTE = 60.0  # seconds between two events that say where the time went


class Loop:
    """Counts steps, and does between two of them what is due.

    Args:
        attempt: the attempt.
        parts: what is saved.
        saver: saves it.
        schedule: when.
        stopping: decides whether the attempt stops.
        opened: the checkpoint that the attempt continues, or None for a fresh start.
        total_steps: total number of steps, or None.

    Attributes:
        step, total_steps, epoch, epoch_end, update_due: as those of `Run`.
        position: where the loop is in its epochs.
        begun: whether it has begun.
        own: whether outlast runs it.
        in_step: whether a step runs.
        told_late: whether a framework's callback counts a step only when the next one begins. Until then the state is
            further than the step that is counted.
        done_here: steps done in this attempt.
        ended_early: whether the script called the run finished before its last step.
        loader: what is saved of the loader of a loop over batches, besides its state; empty in other loops.
        loader_before: what the checkpoint remembers of it, or None.
        undo: returns the batches of a step that is not made.
        witness: records the steps for `outlast prove`, or measures them for `outlast doctor`; or None.
    """

    def __init__(
        self,
        attempt: Attempt,
        parts: Parts,
        saver: Saver,
        schedule: SaveSchedule,
        stopping: Stopping,
        opened: OpenedCheckpoint | None,
        total_steps: int | None,
    ) -> None:
        self.attempt, self.parts, self.saver = attempt, parts, saver
        self.schedule, self.stopping, self.metrics = schedule, stopping, Metrics(attempt)
        self.validation = Validation(attempt, parts, self.metrics, stopping, opened)
        self.step, self.total_steps = opened.checkpoint.step if opened else 0, total_steps
        self.epoch: int | None = None
        self.epoch_end, self.update_due = False, True
        self.position = Position(*opened.state.loop.position) if opened else Position()
        self.loader: Mapping[str, Any] = {}
        self.loader_before: Mapping[str, Any] | None = opened.state.loop.loader or None if opened else None
        self.begun = self.own = self.in_step = self.ended_early = self.told_late = False
        self.done_here = 0
        self.undo: Callable[[], None] = lambda: None
        self.witness: Witness | Measure | None = None
        self._start, self._session = Start(attempt, parts, saver, opened), attempt.session
        self._resumed_from = opened.checkpoint.step if opened else None
        self._clock = time.perf_counter()
        self._timed = float("inf")
        self._looked_for_best = False

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or the run was ended early for good."""
        return (
            self.begun
            and not self.validation.cut
            and (self.ended_early or (self.total_steps is not None and self.step >= self.total_steps))
        )

    @property
    def left(self) -> bool:
        """Whether a finished loop has been left, and its last step is saved."""
        return self.finished and not self.in_step and self.saver.saved_step == self.step

    # the way through -----------------------------------------------------------------------------------------------

    def begin(self, *, own: bool, inexact: Sequence[str] | None = None) -> None:
        """Check all that is known, then begin to write; nothing of the run was touched before.

        Args:
            own: whether outlast runs the loop.
            inexact: why batches come otherwise after a resume; None: the loop takes them out of tracked loaders itself.

        Raises:
            UsageError: it has begun already.
            ResumeRefused: what was loaded does not fit.
        """
        attempt = self.attempt
        if self.begun:
            raise UsageError("steps(), batches() or begin() was called already in this attempt; a run has one loop.")
        self.parts.check_complete()
        if inexact is None:
            inexact = self.parts.look_at_loaders()
            attempt.watch.watch_loaders(self.parts.things)
        self._start.check()
        self.begun, self.own = True, own
        ended_early = attempt.ended_early(self.step, self.total_steps)
        self.ended_early = bool(attempt.ranks.all_gather_numbers("beginning the loop", ended_early)[0][0])
        self._start.write(self.step, self.total_steps, inexact)
        self.metrics.begin()
        for sentence in self._session.listen():
            attempt.tell("warning", sentence)
        self.stopping.begin(self.step, own=own)
        attempt.begin_events(self.step, self.total_steps, self._resumed_from)
        if attempt.journal.was_longer or attempt.went_further(self.step):
            attempt.shown.send("rewound", self.step)
        self._clock = time.perf_counter()
        self._timed = self._clock + _MINUTE

    def go_on(self) -> None:
        """Set the random generators, and do the validation that the attempt before interrupted; then steps may come."""
        self.parts.restore_generators()
        self._validate_what_was_cut()
        if self.witness:
            self.witness.begin(self.step, self.total_steps)

    def steps(self, total_steps: int | None = None) -> Iterator[int]:
        """Yield step numbers up to the total; see `Run.steps`."""
        total = self.set_total("steps()", total_steps)
        if total is None:
            raise UsageError("How many steps? Give total_steps to open_run() or to steps().")
        if self.schedule.by_epochs_only:
            raise UsageError(
                "steps() has no epochs to save by, so nothing would be saved: add steps or time, such as save='10m'."
            )
        self.begin(own=True)
        self.go_on()
        while self.step < total and not self.ended_early:
            self.leave_if_over()
            self.enter_step()
            yield self.step
            self.finish_step()
        self.save("final", must=True)

    def enter_step(self, epoch: int | None = None) -> None:
        """Another step begins."""
        self.metrics.of_step = {}
        self.parts.begin_step()
        self.epoch = epoch
        self.step += 1
        self.in_step = True

    def finish_step(self, *, epoch_ended: int | None = None, again: bool = False) -> None:
        """The step is done: validate, save and show what is due.

        Args:
            epoch_ended: the number of the epoch that it ended, or None.
            again: only its validation is done once more, so it is no step further.
        """
        missing = [] if again else self.parts.not_offered(self.done_here)
        if missing:
            raise UsageError(
                f"Step {self.step} ended without run.offer({missing[0]}): offer the state in every step; it is copied "
                "only when a save is due."
            )
        if self.validation.due(self.step, epoch_ended):
            self._validate(epoch_ended)
        self.in_step = False
        clock = time.perf_counter()
        self.attempt.check_ours(at_once=False)
        took, self._clock = clock - self._clock, clock
        # The first step of an attempt compiles and warms up; it says nothing of the next.
        telling = bool(self.done_here) and self._session.observe_step(took)
        self.saver.check(clock, took if telling else None)
        if telling:
            self.metrics.observe_step(took)
        if telling or not self.done_here:
            self.attempt.watch.steps += took
        self.done_here += not again
        if self.witness:
            self.witness.after_step(self.step)
        reason = self._save_if_due(epoch_ended, clock)
        if epoch_ended is not None or (
            reason and not self.epoch and (self.validation.completed or not self.validation.given)
        ):
            self._look_for_best()
        if epoch_ended is not None:
            self.attempt.shown.send("epoch_ended", epoch_ended)
        if self.metrics.is_time(clock) or self.step == self.total_steps:
            self._show_progress(clock)

    def _save_if_due(self, epoch_ended: int | None, clock: float) -> str | None:
        """Save after this step if that is due; returns the reason."""
        if self.step == self.total_steps:
            return "final"  # the loop saves it when it is left
        reason = self.schedule.due(self.step, epoch_ended, self.metrics.of_step, clock, self.saver.coming)
        if reason and not self.stopping.requested():  # else the save of the session's end is next
            self.save(reason)
        elif self.schedule.each_step:
            place = LoopRecord(self.position, self.loader)
            self._clock += self.saver.keep(self.step, place, self.metrics.of_step)
            self.parts.tell_notes(self.attempt.tell)
        return reason

    def _look_for_best(self) -> None:
        """Say once, after a first epoch or a first save, that nobody logs the metric of the best checkpoint."""
        if not self._looked_for_best and (sentence := best.complaint(self.attempt.store, self.metrics.last)):
            self._looked_for_best = True
            self.attempt.tell("warning", sentence)

    def save(self, reason: str, *, must: bool = False, pending: Mapping[str, int | None] | None = None) -> None:
        """Save now.

        Args:
            reason: why.
            must: return only when it is on the disk.
            pending: the step's validation that is still to be done.

        Raises:
            SaveFailed: it is one that must succeed.
            RunBusy: another machine has taken the run over.
        """
        self.attempt.check_ours()
        place = LoopRecord(self.position, self.loader, pending)
        # The save is no part of the step that follows it.
        self._clock += self.saver.save(self.step, place, reason, self.metrics.of_step, must=must)
        self.parts.tell_notes(self.attempt.tell)

    def complete(self) -> SessionEnded | None:
        """The with-block ends without an error: save; returns what it is to raise if the run is not finished."""
        if self.in_step and (not self.update_due or self.parts.not_offered(self.done_here)):
            self.step -= 1  # left in the middle of a step that changed nothing yet
            self.undo()
        self.in_step = False
        if not self.finished:
            self.stopping.agree(self.step)
        stopped = self._session.reason if not self.finished else None
        self.save(stopped or "final", must=True)
        return SessionEnded(stopped) if stopped else None

    # the session's end ---------------------------------------------------------------------------------------------

    @property
    def _further(self) -> bool:
        """Whether the run has got further in this attempt; the update of a step that runs counts."""
        return self.done_here > 0 or self.in_step

    def over(self) -> bool:
        """Whether the session ends between these two steps."""
        return self.stopping.over(further=self.done_here > 0)

    def leave_if_over(self) -> None:
        """Save and raise SessionEnded if the session ends between these two steps."""
        if self.over():
            ended = self.stopping.ended()
            self.save(ended.reason, must=True)
            raise ended

    # validation ----------------------------------------------------------------------------------------------------

    def give_validation(self, function: Callable[[], Mapping[str, Any] | None], every: str) -> None:
        """Have a validation done between two steps; see `Run.validate`."""
        self.check_early("validate() was called")
        self.validation.give(function, every)

    def _validate(self, epoch_ended: int | None) -> None:
        changed = self.validation.run(self.step, self.log, further=self._further)
        if changed is None:
            return
        self.in_step = False
        ended = self.stopping.ended()
        if changed:
            self.attempt.tell(
                "warning",
                f"The validation of step {self.step} was interrupted and left {', '.join(changed)} changed, so the "
                "step is not saved. Restore what the validation changes in a `finally` block.",
            )
        else:
            self.save(ended.reason, must=True, pending={"epoch_ended": epoch_ended, "epoch": self.epoch})
        raise ended

    def _validate_what_was_cut(self) -> None:
        """The validation that the attempt before interrupted, before anything else."""
        if pending := self.validation.take_pending(self.step):
            self.epoch, self.metrics.of_step = pending.epoch, pending.metrics
            self.finish_step(epoch_ended=pending.epoch_ended, again=True)

    def evaluate(self, loader: Iterable[Any]) -> Iterator[Any]:
        """The batches of a validation; see `Run.evaluate`."""
        inside = self.in_step or not self.own
        return self.validation.evaluate(loader, self.step, inside=inside, further=self._further)

    # what a script says --------------------------------------------------------------------------------------------

    def log(self, named: Mapping[str, Any], step: int | None = None) -> None:
        """Add a line to the journal; see `Run.log`."""
        if not self.begun:
            raise UsageError("log() was called before the loop began: log inside the loop, or after it.")
        self.attempt.check_no_sink("log")
        if not self.attempt.in_own_process:
            self.attempt.check_ours()
        if step is not None and step != self.step:
            if self.own or not is_step(step) or step < self.step:
                named = {**named, "step": step}  # the journal keeps it as a metric and says so
            else:
                self.set_step(int(step))
        self.metrics.log(self.step, self.epoch, named)
        if not self.own and not self.validation.running and self.metrics.is_time(clock := time.perf_counter()):
            self.saver.check(clock)
            self._show_progress(clock)

    def tell(self, sentence: str) -> None:
        """Show the user a sentence; see `Run.tell`."""
        self.attempt.check_no_sink("tell")
        self.attempt.tell("info", sentence)

    def track(self, things: Mapping[str, Any], keep: Mapping[str, Sequence[str]] | None = None) -> None:
        """Save these objects with every checkpoint, and load them now; see `Run.track`."""
        for name in things:
            self.check_early(f"{name!r} was tracked")
        self.parts.track(things, keep)
        self.parts.tell_notes(self.attempt.tell)

    def check_early(self, words: str) -> None:
        """Refuse what has to come before the loop."""
        if self.begun:
            raise UsageError(f"{words} after the loop began; call track() and restore() before it.")

    def restore(self, initial: Any, name: str) -> Any:
        """Return the pytree of the checkpoint, or the argument itself; see `Run.restore`."""
        self.check_early(f"{name!r} was restored")
        return self.parts.restore(name, initial)

    def offer(self, tree: Any, name: str, metrics: Mapping[str, Any]) -> None:
        """Take the state after this step, and log metrics; see `Run.offer`."""
        self.parts.offer(name, tree, self.done_here)
        if metrics:
            self.log(metrics)

    def set_total(self, call: str, total_steps: int | None) -> int | None:
        """Take the total number of steps that a call of the script gives; returns what is known of it.

        Raises:
            UsageError: it is no number of steps.
        """
        self.total_steps = arguments.steps(call, total_steps) or self.total_steps
        return self.total_steps

    def set_step(self, step: int) -> None:
        """A loop that outlast does not run has come this far."""
        if step != self.step:
            self.metrics.of_step = {}
            self.step = step

    def _show_progress(self, clock: float) -> None:
        self.metrics.show_progress(clock, self.step, self.total_steps, self.epoch, self.schedule.next_save)
        if clock >= self._timed:
            self._timed = clock + _MINUTE
            self.show_time()

    def show_time(self) -> TimeSpent:
        """Tell sinks where the time of the attempt went so far; returns it."""
        spent = self.attempt.watch.spent()
        self.attempt.shown.send("timed", self.step, self.metrics.rate, spent)
        return spent


def is_step(step: Any) -> bool:
    """Whether this can count steps."""
    return isinstance(step, int) and not isinstance(step, bool) and 0 <= step <= LARGEST
