"""The façade that a training script holds: one run, in one attempt. Everything is done by what it is made of."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

from outlast.run import arguments, best
from outlast.run.artifact import artifact
from outlast.run.ending import Ending
from outlast.run.epochs import Epochs
from outlast.run.foreign import ForeignLoop
from outlast.run.loop import Loop


def _of_loop(name: str) -> Any:
    """An attribute that the loop keeps; a script reads it."""
    return property(operator.attrgetter(f"_loop.{name}"))


class Run:
    """One run, held by one attempt. Made by `open_run`.

    Attributes:
        id: the run's name.
        folder: its folder.
        session: the lease of the machine.
        resumed_from: the step of the checkpoint that this attempt continues, None for a fresh start.
        step: the step that runs, counted from 1; between steps, the steps done.
        total_steps: steps in all, None until known.
        epoch: the epoch that runs, counted from 1, in `batches` loops; None in `steps` loops.
        epoch_end: whether the running batch is the last of its epoch.
        update_due: whether the optimizer is to step after the running batch (gradient accumulation).
        finished: whether all steps are done, or the run was ended early for good.
        should_stop: call it to ask whether the session must end; costs well under a microsecond. Several ranks answer
            alike, and in a loop that outlast does not run all of them must ask.
    """

    step: int = _of_loop("step")
    total_steps: int | None = _of_loop("total_steps")
    epoch: int | None = _of_loop("epoch")
    epoch_end: bool = _of_loop("epoch_end")
    update_due: bool = _of_loop("update_due")
    finished: bool = _of_loop("finished")
    should_stop: Callable[[], bool] = _of_loop("should_stop")

    def __init__(self, loop: Loop, ending: Ending, *, resumed_from: int | None) -> None:
        self._loop, self._ending, self._foreign, self.resumed_from = loop, ending, ForeignLoop(loop), resumed_from
        self.id, self.folder, self.session = loop.attempt.id, loop.attempt.folder.path, loop.attempt.session

    def track(self, *, keep: Mapping[str, Sequence[str]] | None = None, **parts: Any) -> None:
        """Save these objects with every checkpoint, and load them now when the run continues.

        What was loaded is compared with the checkpoint before the first step; until then more may be built.

        Args:
            keep: part name -> values of this program that win over the checkpoint: `keep={"optimizer": ["lr"]}`; other
                values go on as the run was begun. A kept `lr` of a scheduled optimizer continues at the present point
                of the schedule. `["*"]`: the part begins anew.
            **parts: name=object with `state_dict()` and `load_state_dict()`, a random generator of torch, NumPy or
                Python, or a list or dict of such. The global generators of all three are always included.

        Raises:
            StateError: an object has no usable state_dict, or its state could not be loaded again.
            ResumeRefused: the checkpoint holds another kind of state under this name.
            UsageError: a name is taken or cannot be used; or `keep` names something that is not tracked.
        """
        self._loop.track(parts, keep)

    def restore(self, initial: Any, name: str = "state") -> Any:
        """Return the pytree of the checkpoint, or the argument itself when there is nothing to restore.

        Args:
            initial: the initial state; its structure, shapes, dtypes and placement are those of the result.
            name: the name of this state, when there are several.

        Raises:
            StateError: it holds something that cannot be saved without pickle.
            ResumeRefused: the checkpoint's state has another form.
        """
        return self._loop.restore(initial, name)

    def offer(self, tree: Any, name: str = "state", **metrics: Any) -> None:
        """Hand over the state after this step, and log metrics. It is copied only when a save is due.

        Raises:
            UsageError: no state of this name was restored before.
            StateError: it has other leaves than the state that was restored.
        """
        self._loop.offer(tree, name, metrics)

    def steps(self, total_steps: int | None = None) -> Iterator[int]:
        """Yield step numbers from the one after the last committed step up to the total.

        When the session must end before that, the state is saved and SessionEnded leaves the loop and the script, with
        exit code 75, so code after the loop runs for a finished run only. `break` ends the run early and for good; the
        running step counts as done.

        Raises:
            UsageError: no total was given, here or to `open_run`; or a state was not offered in some step.
            SessionEnded: the session is over and the run is not.
        """
        self._loop.total_steps = arguments.steps("steps()", total_steps) or self._loop.total_steps
        with self._ending:
            yield from self._loop.steps()

    def batches(self, loader: Any, epochs: int, accumulate: int = 1) -> Iterator[Any]:
        """Yield the batches of several epochs, from the batch after the last committed one.

        A step is an optimizer update of `accumulate` batches; the last batch of an epoch always completes one.
        `update_due` says when to update, `epoch_end` is true in an epoch's last body. The end is as in `steps`.

        Args:
            loader: an outlast.DataLoader, a torchdata StatefulDataLoader, or any iterable of one epoch whose state_dict
                tells its position. It is tracked as "data" unless it is tracked. Without a len(), one batch is taken
                ahead to know the last. set_epoch(epoch), from 0, is called where it exists.
            epochs: epochs in all.
            accumulate: batches per optimizer update.

        Raises:
            StateError: the loader cannot say where it is.
            ResumeRefused: in the middle of an epoch, it is another loader than the checkpoint's.
            DataError: it has no batches, or more or fewer than len() says.
        """
        with self._ending:
            yield from Epochs(self._loop, loader, epochs, accumulate).batches()

    def begin(self, total_steps: int | None = None) -> None:
        """Start a loop that outlast does not run (ultralytics, Lightning, Hugging Face).

        Call it after `track`, and `after_step` after every step; count on from `run.step`. With a save policy by epochs
        alone, the state is also saved every 15 minutes, because such a loop may never say that an epoch has ended.
        `total_steps`, if known, decides whether the run is finished.

        Raises:
            UsageError: a loop began already in this attempt.
        """
        self._loop.total_steps = arguments.steps("begin()", total_steps) or self._loop.total_steps
        with self._ending:
            self._foreign.begin()

    def after_step(self, step: int | None = None, *, epoch_ended: int | bool | None = None, **metrics: Any) -> bool:
        """Do all that `steps` does after its body, in a loop that outlast does not run.

        Counts the step, logs its metrics, and saves if that is due. Call it when the framework has finished the step:
        parameters updated, schedulers moved on, the next batch not fetched yet. Leave the loop when it returns True:
        the with-block then ends with SessionEnded, or well when all steps are done.

        Args:
            step: steps (optimizer updates) done; one more than before when not given.
            epoch_ended: whether this step ended an epoch, or that epoch's number from 1. save="1 epoch" needs it.
            **metrics: as in `log`.

        Raises:
            UsageError: begin() was not called; outlast runs the loop itself; or a step that is done already.
            SaveFailed: the last save of the session could not be written.
        """
        with self._ending:
            return self._foreign.after_step(step, epoch_ended=epoch_ended, metrics=metrics)

    def validate(self, function: Callable[[], Mapping[str, Any] | None], every: str = "1 epoch") -> None:
        """Have a validation done between two steps, such that a stop may break it off.

        Its metrics are logged at the step before it and count for the best checkpoint. Where it iterates
        `run.evaluate(loader)` or asks `run.should_stop()`, it hears that the session must end. The state is then saved
        as it was before, and the next attempt begins with this validation. What it changes for a while (averaged
        weights, eval mode) it puts back in a `finally`.

        Args:
            function: takes nothing and returns metrics, name -> number; or nothing.
            every: "1 epoch", "500 steps", or both with a comma.

        Raises:
            UsageError: there is one already; the loop has begun; or another interval.
        """
        self._loop.give_validation(function, every)

    def evaluate(self, loader: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches of a validation; raise SessionEnded in the middle of it when the session must end.

        A loader of outlast gives the batches of its first epoch every time. In the function of `validate` nothing is
        lost; in a loop's body, the next attempt continues from the last save. Several ranks do not break it off.
        """
        with self._ending:
            yield from self._loop.evaluate(loader)

    def log(self, metrics: Mapping[str, Any] | None = None, /, *, step: int | None = None, **named: Any) -> None:
        """Add a line to the journal. What cannot be kept is left out and said once; training goes on.

        Args:
            metrics: name -> value, as W&B takes them; or give them as keywords.
            step: the step it belongs to, in a loop that outlast does not run; elsewhere it is known.
            **named: name=number, tensors and arrays of one element included. None and text are kept, without a curve.

        Raises:
            UsageError: the loop has not begun.
        """
        self._loop.log({**metrics, **named} if metrics else named, step)

    def save(self, *, step: int | None = None) -> None:
        """Save at the end of the running step; at once in a loop that outlast does not run, which gives its `step`.

        Raises:
            SaveFailed: in such a loop, the checkpoint could not be written.
            UsageError: the loop has not begun; or such a loop does not say that it came further.
        """
        self._foreign.ask_save(step)

    def artifact(self, name: str, *, part: str | None = None) -> AbstractContextManager[Path]:
        """A path to write a named output to, file or folder; it gets its name when the block ends without an error.

        `name` is that of a file, such as "confusion.png"; folders in it are made. Beside it lies NAME.manifest.json,
        with run, step, config's fingerprint, hashes, and `part`: the tracked name that it was made from, such as "ema".

        Raises:
            UsageError: the name leads out of the folder for artifacts, or ends in .manifest.json.
        """
        return artifact(self._loop.attempt, name, step=self._loop.step, part=part)

    def tell(self, sentence: str) -> None:
        """Say something to whoever watches: on the screen and in the attempt's record."""
        self._loop.attempt.tell("info", sentence)

    def load_best(self, *names: str) -> int:
        """Load the weights of the best checkpoint by `keep`'s metric, after training; return its step.

        Args:
            *names: tracked names to load; by default every tracked object that has parameters, so no optimizer.

        Raises:
            UsageError: the run is not at its end, has no metric, or tracks no network.
            UnknownName: a name is not tracked, or no checkpoint logged the metric.
            CorruptCheckpoint: the checkpoint does not verify.
        """
        self._ending.check_over("load_best")
        return best.load_best(self._loop.attempt.store, self._loop.parts, names)

    def __enter__(self) -> Self:
        self._ending.enter()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._ending.leave_block(error)

    def close(self) -> None:
        """End the attempt as the end of a with-block does."""
        self._ending.leave_block(None)
