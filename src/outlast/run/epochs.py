"""The loop over batches: its starting point, and the batches of each step."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from outlast import terminal
from outlast.data.feed import Feed
from outlast.data.leaving import Interrupted
from outlast.errors import UsageError
from outlast.folder.records import LARGEST
from outlast.run import arguments
from outlast.run.loop import Loop


class Epochs:
    """Takes batches out of a loader, and makes steps of them.

    Args:
        loop: counts the steps.
        loader: gives the batches; see `Run.batches`. It is tracked as "data" unless it is tracked already.
        epochs: total number of epochs.
        accumulate: batches per optimizer update.

    Raises:
        UsageError: a number that cannot be, or a loop that knows its length already.
    """

    def __init__(self, loop: Loop, loader: Any, epochs: int, accumulate: int) -> None:
        for name, value in (("accumulate", accumulate), ("epochs", epochs)):
            if not isinstance(value, int) or not 1 <= value <= LARGEST:
                what = "the batches of one optimizer update" if name == "accumulate" else "the epochs of the run"
                raise UsageError(
                    f"{name} is {terminal.number(value)}; it counts {what} and is a whole number of at least 1."
                )
        if loop.total_steps is not None:
            raise UsageError(
                "total_steps and batches() both say how long the run is; leave total_steps out of open_run()."
            )
        if not loop.parts.tracks(loader):
            loop.track({"data": loader})
        self._loop, self._epochs, self._accumulate = loop, epochs, accumulate
        self._feed = Feed(loader, loop.loader_before)
        self._gathered = 0  # batches of the running step

    def batches(self) -> Iterator[Any]:
        """Yield the batches that are left; see `Run.batches`."""
        loop, feed = self._loop, self._feed
        self._begin()
        waits = loop.attempt.watch.waits_for_data
        try:
            while loop.position.epoch < self._epochs and not loop.ended_early:
                if waits(functools.partial(feed.open, *loop.position)):
                    yield from self._epoch()
                else:
                    loop.position = loop.position.after_epoch()
        finally:
            feed.release()
        loop.total_steps = loop.step if loop.total_steps is None else loop.total_steps
        loop.epoch, loop.epoch_end = None, False
        loop.save("final", must=True)

    def _begin(self) -> None:
        """Compare the loader with the checkpoint's, stand at the run's place in it, and begin."""
        loop, feed, (epoch, done) = self._loop, self._feed, self._loop.position
        told = feed.compare(self._accumulate, epoch, done)
        inexact = feed.inexact(done, loop.parts.things)
        again = functools.partial(loop.parts.load_once_more, feed.loader)
        told += feed.begin(epoch, done, reload=again, leave=self._gives_up_waiting)
        if feed.per_epoch is None:
            loop.parts.substitute(feed.loader, feed)
        elif done == feed.per_epoch:  # left in the last batch of an epoch
            loop.position = loop.position.after_epoch()
        left = self._steps_left()
        loop.total_steps = None if left is None else arguments.steps("batches()", loop.step + left)
        loop.loader = feed.facts(self._accumulate)
        loop.undo = self._put_back
        loop.begin(own=True, inexact=inexact)
        for sentence in told:
            loop.attempt.tell("info", sentence)
        loop.go_on()

    def _steps_left(self) -> int | None:
        """Counted from here: a resume may have changed the batch size at the end of an epoch.

        None where the loader has no length.
        """
        (epoch, done), per_epoch = self._loop.position, self._feed.per_epoch
        if epoch >= self._epochs:
            return 0
        if per_epoch is None:
            return None
        in_this = -(-(per_epoch - done) // self._accumulate)
        return in_this + (self._epochs - epoch - 1) * -(-per_epoch // self._accumulate)

    def _epoch(self) -> Iterator[Any]:
        """The batches of one epoch, from the next one on, and the steps that they make."""
        loop, feed, waits = self._loop, self._feed, self._loop.attempt.watch.waits_for_data
        self._gathered, loop.epoch_end = 0, False
        while not loop.epoch_end:
            if not loop.in_step:
                loop.leave_if_over()
                loop.enter_step(epoch=loop.position.epoch + 1)
                self._gathered = 0
            try:
                batch, loop.epoch_end = waits(feed.take)
            except Interrupted:  # in a step that has not begun
                loop.step, loop.in_step = loop.step - 1, False
                loop.leave_if_over()
                raise
            loop.position = loop.position.after_batch()
            self._gathered += 1
            loop.update_due = loop.epoch_end or self._gathered == self._accumulate
            yield batch
            if loop.epoch_end:
                feed.finish()
                loop.position = loop.position.after_epoch()
                loop.finish_step(epoch_ended=loop.position.epoch)
            elif loop.update_due:
                loop.finish_step()

    def _gives_up_waiting(self) -> bool:
        """Whether to leave while the loop waits for the first batch of a step.

        Several ranks leave together, so none does it alone.
        """
        loop = self._loop
        if not loop.stopping.alone or self._gathered or not loop.in_step or not self._feed.may_leave:
            return False
        return loop.over()

    def _put_back(self) -> None:
        """Batches that were gathered for a step that is not made are to come again."""
        loop = self._loop
        if not self._gathered or loop.update_due:
            return
        before = loop.position._replace(batch=loop.position.batch - self._gathered)
        if self._feed.put_back(before.batch):
            loop.position = before
        else:
            loop.attempt.tell(
                "warning",
                f"The loop was left {self._gathered} batches into a step, before its update. The loader cannot return "
                "them, so a longer run would continue after them.",
            )
