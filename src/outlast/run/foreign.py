"""The loop of another framework, which reports each of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outlast import terminal
from outlast.checkpoint.policy import LONGEST
from outlast.errors import UsageError
from outlast.run.loop import Loop, is_step
from outlast.run.position import Position
from outlast.run.session import now

_PATIENT_STEPS, _PATIENT_SECONDS = 100, 30.0  # that a loop which is saved by epochs may say nothing of them


class ForeignLoop:
    """Counts what another framework's loop says it has done, and does what is due after each step.

    Args:
        loop: counts the steps.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._counted = 0  # steps that `after_step` has counted
        self._epoch_awaited: float | None = None  # since when a loop that is saved by epochs has said nothing of them

    def begin(self, total_steps: int | None = None) -> None:
        """The framework's loop begins; see `Run.begin`."""
        loop = self._loop
        loop.set_total("begin()", total_steps)
        if loop.schedule.by_epochs_only:
            loop.schedule.save_by_time(LONGEST)
            self._epoch_awaited = now()
        loop.begin(own=False)
        self._counted = loop.step
        loop.go_on()

    def after_step(self, step: int | None, *, epoch_ended: int | bool | None, metrics: Mapping[str, Any]) -> bool:
        """A step is done; returns whether to leave the loop. See `Run.after_step`."""
        loop = self._loop
        loop.attempt.check_no_sink("after_step")
        if not loop.begun or loop.own:
            raise UsageError(
                "after_step() was called inside steps() or batches(), which do all of it themselves: leave it out."
                if loop.begun
                else "after_step() was called before run.begin(): call begin() once, before the framework's loop."
            )
        if step is None:
            done = loop.step if loop.step > self._counted else loop.step + 1
        else:
            done = self._check_step("after_step", step)
        if done <= self._counted:
            raise UsageError(
                f"after_step() was given step {done} and counts it already: the run is at step {self._counted}. Let "
                "the loop count on from run.step, and call after_step() once a step."
            )
        ended = self._epoch_number(epoch_ended)
        if ended is not None:
            loop.position = Position(ended)
        loop.set_step(done)
        self._counted = done
        if metrics:
            loop.log(metrics)
        self._await_epochs(epoch_ended)
        loop.finish_step(epoch_ended=ended)
        if loop.finished or loop.over():
            loop.save("final" if loop.finished else loop.attempt.session.reason or "budget", must=True)
            return True
        loop.parts.begin_step()
        return False

    def ask_save(self, step: int | None) -> None:
        """Save at the end of the running step, or now; see `Run.save`."""
        loop = self._loop
        loop.attempt.check_no_sink("save")
        if loop.in_step or (loop.told_late and step is None):
            loop.schedule.asked = True
            return
        if not loop.begun:
            raise UsageError(
                "save() was called before the loop began: call run.begin() first, or save inside run.steps()."
            )
        if step is not None:
            loop.set_step(self._check_step("save", step))
        if step is None and not loop.own and loop.step == max(loop.saver.saved_step, 0):
            raise UsageError(
                f"save() was called and the step is still {loop.step}: say how far the loop is, with "
                "run.save(step=...)."
            )
        loop.save("asked", must=True)

    def _check_step(self, call: str, step: Any) -> int:
        """A step that the loop says it has done.

        Raises:
            UsageError: it is none, or the run is further already.
        """
        loop = self._loop
        if loop.own:
            raise UsageError(
                f"{call}() was given step {terminal.number(step)} while step {loop.step} runs; steps() and batches() "
                "count by themselves: leave it out."
            )
        if not is_step(step):
            raise UsageError(
                f"{call}() was given step {terminal.number(step)}; expected the whole number of steps done, of at most "
                "2**62."
            )
        if step < loop.step:
            raise UsageError(
                f"{call}() was given step {step} and the run is at step {loop.step} already: a run never goes back. "
                "Let the loop count on from run.step, which is the step of the checkpoint that this attempt continues."
            )
        return int(step)

    def _epoch_number(self, ended: Any) -> int | None:
        """The number of the epoch that has ended, if the loop says so."""
        if ended is None or ended is False:
            return None
        number = self._loop.position.epoch + 1 if ended is True else ended
        if not is_step(number) or number < 1:
            raise UsageError(
                f"after_step() was given epoch_ended={terminal.number(ended)}; expected True, or the number of the "
                "epoch that has ended, counted from 1."
            )
        return int(number)

    def _await_epochs(self, ended: object) -> None:
        """Warn once if the save policy needs epochs and no end of an epoch is reported."""
        if self._epoch_awaited is None:
            return
        calls = self._loop.done_here + 1
        if ended is not None:  # False as well: the loop knows the argument
            self._epoch_awaited = None
        elif calls >= _PATIENT_STEPS or now() - self._epoch_awaited > _PATIENT_SECONDS:
            self._epoch_awaited = None
            self._loop.attempt.tell(
                "warning",
                f"save= counts epochs only, and the first {calls} calls of after_step() had no epoch_ended=. No epoch "
                f"is known to end, so the run is saved every {LONGEST / 60:.0f} minutes only. Give "
                "after_step() epoch_ended=True with the last step of an epoch and False with the others, or add time "
                "or steps to "
                'save=, such as "10m, 1 epoch".',
            )
