"""The façade that a training script holds: one run, in one attempt. Everything is done by what it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from outlast.errors import UsageError
from outlast.run import arguments, best
from outlast.run.artifact import artifact
from outlast.run.ending import Ending
from outlast.run.epochs import Epochs
from outlast.run.foreign import ForeignLoop
from outlast.run.loop import Loop


class Run:
    """One run, held by one attempt. Made by `open_run`.

    Attributes:
        id: the run's name.
        folder: its folder.
        session: the lease of the machine.
        resumed_from: the step of the checkpoint that this attempt continues, None for a fresh start.
    """

    def __init__(self, loop: Loop, ending: Ending, *, resumed_from: int | None) -> None:
        self._loop, self._ending, self._foreign = loop, ending, ForeignLoop(loop)
        self.id, self.folder, self.session = loop.attempt.id, loop.attempt.folder.path, loop.attempt.session
        self.resumed_from = resumed_from

    @property
    def step(self) -> int:
        """The step that runs, counted from 1; between steps, the steps done."""
        return self._loop.step

    @property
    def total_steps(self) -> int | None:
        """Steps in all, None until known."""
        return self._loop.total_steps

    @property
    def epoch(self) -> int | None:
        """The epoch that runs, counted from 1, in `batches` loops; None in `steps` loops."""
        return self._loop.epoch

    @property
    def epoch_end(self) -> bool:
        """Whether the running batch is the last of its epoch."""
        return self._loop.epoch_end

    @property
    def update_due(self) -> bool:
        """Whether the optimizer is to step after the running batch (gradient accumulation)."""
        return self._loop.update_due

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or the run was ended early for good."""
        return self._loop.finished

    @property
    def should_stop(self) -> Callable[[], bool]:
        """Call it to ask whether the session must end; costs well under a microsecond.

        With several ranks they answer alike, and in a loop that outlast does not run all of them must ask.
        """
        return self._loop.should_stop

    def track(self, *, keep: Mapping[str, Sequence[str]] | None = None, **parts: Any) -> None:
        """Save these objects with every checkpoint, and load them now when the run continues.

        Before the first step all that was loaded is compared with the checkpoint, so schedulers and wrappers may be built after this call.

        Args:
            keep: part name -> names of values that this program wins over the checkpoint: `keep={"optimizer": ["lr"]}`. Without it the
                values that the run was begun with go on, and it is said which this program built otherwise. A kept `lr` of a
                scheduled optimizer goes on at the present point of the schedule. `["*"]`: the part begins anew.
            **parts: name=object with `state_dict()` and `load_state_dict()`: models, optimizers, schedulers, scalers, loaders; a random
                generator of torch, NumPy or Python; or a list or dict of such. The global random generators of Python, NumPy and
                torch are always included.

        Raises:
            StateError: an object has no usable state_dict, or its state could not be loaded again.
            ResumeRefused: the checkpoint holds another kind of state under this name.
            UsageError: a name is taken or cannot be used; or `keep` names what is not there.
        """
        self._loop.track(parts, keep)

    def restore(self, initial: Any, name: str = "state") -> Any:
        """Return the pytree of the checkpoint, or the argument itself when there is nothing to restore.

        Args:
            initial: the initial state; its structure, shapes, dtypes and placement are what is restored into.
            name: the name of this state, when there are several.

        Raises:
            StateError: it holds something that cannot be saved without pickle.
            ResumeRefused: the checkpoint's state has another form.
        """
        self._loop.check_early(f"{name!r} was restored")
        return self._loop.parts.restore(name, initial)

    def offer(self, tree: Any, name: str = "state", **metrics: Any) -> None:
        """Hand over the state after this step, and log metrics. It is copied only when a save is due, before the next step.

        Raises:
            UsageError: no state of this name was restored before.
            StateError: it has other leaves than the state that was restored.
        """
        self._loop.parts.offer(name, tree, self._loop.done_here)
        if metrics:
            self._loop.log(metrics)

    def steps(self, total_steps: int | None = None) -> Iterator[int]:
        """Yield step numbers from the one after the last committed step up to the total.

        When the session must end before that, the state is saved and SessionEnded leaves the loop and the script, with exit
        code 75; so whatever stands after the loop belongs to a finished run. `break` ends the run early, and for good: it
        counts the running step as done.

        Raises:
            UsageError: no total was given, here or to `open_run`; or a state was not offered in some step.
            SessionEnded: the session is over and the run is not.
        """
        self._loop.total_steps = arguments.steps("steps()", total_steps) or self._loop.total_steps
        with self._ending:
            yield from self._loop.steps()

    def batches(self, loader: Any, epochs: int, accumulate: int = 1) -> Iterator[Any]:
        """Yield the batches of several epochs, from the batch after the last committed one.

        A step is an optimizer update: with `accumulate` batches to a step, `update_due` says when to update; the last batch of
        an epoch always completes one. `epoch_end` is true in the last batch's body: validate there. The session's end and
        `break` are as in `steps`.

        Args:
            loader: an outlast.DataLoader, a torchdata StatefulDataLoader, or anything that is iterated once an epoch and has a
                state_dict that tells its position. It is tracked as "data" unless it is tracked already. Where it has no len(), one
                batch is taken ahead, to know the last. set_epoch(epoch), from 0, is called where it exists.
            epochs: epochs in all.
            accumulate: batches per optimizer update.

        Raises:
            StateError: the loader cannot say where it is.
            ResumeRefused: in the middle of an epoch, it is another loader than the checkpoint's.
            DataError: it has no batches, or more or fewer than len() says.
            SessionEnded: as in `steps`.
        """
        with self._ending:
            yield from Epochs(self._loop, loader, epochs, accumulate).batches()

    def begin(self, total_steps: int | None = None) -> None:
        """Start a loop that outlast does not run (ultralytics, Lightning, Hugging Face).

        Call it after `track`; then call `after_step` from that framework's own extension point after every step, and leave the loop
        when it returns True. The loop counts on from `run.step`. With a save policy by epochs alone, it is saved every 15 minutes as well,
        because such a loop may never say that an epoch has ended.

        Args:
            total_steps: steps in all, if known; it decides whether the run is finished.

        Raises:
            UsageError: a loop began already in this attempt.
        """
        self._loop.total_steps = arguments.steps("begin()", total_steps) or self._loop.total_steps
        with self._ending:
            self._foreign.begin()

    def after_step(self, step: int | None = None, *, epoch_ended: int | bool | None = None, **metrics: Any) -> bool:
        """Do all that `steps` does after its body, in a loop that outlast does not run.

        The step is counted, its metrics logged, and it is saved if the save policy says so: by steps, time, epochs or a new best. When the
        session must end, or all steps are done, the state is saved here and now. Call it where the framework has finished the step:
        parameters updated, schedulers moved on, the next batch not fetched yet.

        Args:
            step: steps (optimizer updates) done; one more than before when not given.
            epoch_ended: whether this step was the last of its epoch; or the number of that epoch, counted from 1. save="1 epoch" needs it.
            **metrics: as in `log`.

        Returns:
            True: leave the loop. The with-block then ends with SessionEnded and exit code 75, or well when all steps are done.

        Raises:
            UsageError: begin() was not called; outlast runs the loop itself; or a step that is done already.
            SaveFailed: the last save of the session could not be written.
        """
        with self._ending:
            return self._foreign.after_step(step, epoch_ended=epoch_ended, metrics=metrics)

    def validate(self, function: Callable[[], Mapping[str, Any] | None], every: str = "1 epoch") -> None:
        """Have a validation done between two steps, such that a stop may break it off.

        `function()` is called after a step is done, its metrics are logged at that step and count for the best checkpoint. Where it
        iterates `run.evaluate(loader)`, or asks `run.should_stop()`, it hears that the session must end; the state is then saved as it was
        when the validation began, and the next attempt begins with this validation. What it changes for a while (averaged weights, eval
        mode) it puts back in a `finally`.

        Args:
            function: takes nothing and returns metrics, name -> number; or nothing.
            every: "1 epoch", "500 steps", or both with a comma.

        Raises:
            UsageError: there is one already; the loop has begun; or another interval.
        """
        self._loop.check_early("validate() was called")
        self._loop.validation.give(function, every)

    def evaluate(self, loader: Iterable[Any]) -> Iterator[Any]:
        """The batches of a validation; ends the session in the middle of it when that must be.

        A loader of ours gives the batches of its first epoch every time. Inside the function of `validate` nothing is lost. In the body of a
        loop the step is not done yet, so the next attempt goes on from the last save. With several ranks, whose loaders may differ in
        length, a validation is not broken off.

        Raises:
            SessionEnded: the session must end.
        """
        with self._ending:
            yield from self._loop.evaluate(loader)

    def log(self, metrics: Mapping[str, Any] | None = None, /, *, step: int | None = None, **named: Any) -> None:
        """Add a line to the journal. Whatever is logged, training goes on: what cannot be kept is told once and left out.

        Args:
            metrics: name -> value, as W&B takes them; or give them as keywords.
            step: the step it belongs to, in a loop that outlast does not run; elsewhere it is known.
            **named: name=number; tensors and arrays of one element are read. None and text are kept, and no curve shows them.

        Raises:
            UsageError: the loop has not begun.
        """
        self._loop.log({**metrics, **named} if metrics else named, step)

    def save(self, *, step: int | None = None) -> None:
        """Save at the end of the running step; at once in a loop that outlast does not run.

        Args:
            step: steps done, in a loop that outlast does not run.

        Raises:
            SaveFailed: in such a loop, the checkpoint could not be written.
            UsageError: the loop has not begun; or such a loop does not say that it came further.
        """
        self._loop.ask_save(step)

    def artifact(self, name: str, *, part: str | None = None) -> AbstractContextManager[Path]:
        """A path to write a named output to, a file or a folder; it gets its name when the block ends without an error.

        Beside it lies NAME.manifest.json, with the run, the step, the config's fingerprint and the hashes of its files.

        Args:
            name: a file name, such as "confusion.png"; folders in it are made.
            part: the tracked name that it was made from, such as "ema", for the manifest.

        Raises:
            UsageError: the name leads out of the folder for artifacts, or ends in .manifest.json.
        """
        return artifact(self._loop.attempt, name, step=self._loop.step, part=part)

    def tell(self, sentence: str) -> None:
        """Say something to whoever watches: on the screen and in the attempt's record."""
        self._loop.attempt.tell("info", sentence)

    def load_best(self, *names: str) -> int:
        """Load the weights of the best checkpoint into what is tracked, after training: best by `keep`'s metric, at its own step.

        Args:
            *names: tracked names to load; by default every tracked object that has parameters, so no optimizer.

        Returns:
            The step of that checkpoint.

        Raises:
            UsageError: the run is not at its end, has no metric, or tracks no network.
            UnknownName: a name is not tracked, or no checkpoint logged the metric.
            CorruptCheckpoint: the checkpoint does not verify.
        """
        if not (self._ending.ended or self._loop.left):
            raise UsageError(
                "load_best() was called while the run goes on: what it loads would be saved as the newest state. Call it "
                "when the loop has reached its last step, or after the with-block."
            )
        return best.load_best(self._loop.attempt.store, self._loop.parts, names)

    def __enter__(self) -> Self:
        self._ending.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.leave_block(error)

    def close(self) -> None:
        """End the attempt as the end of a with-block does."""
        self.__exit__(None, None, None)
