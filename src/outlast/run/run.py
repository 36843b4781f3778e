"""The façade for a training script: one run, in one attempt. It delegates to its components."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

from outlast.run import best
from outlast.run.artifact import artifact
from outlast.run.ending import Ending
from outlast.run.epochs import Epochs
from outlast.run.foreign import ForeignLoop
from outlast.run.loop import Loop


def _of_loop(name: str) -> Any:
    """An attribute of the loop, read-only for a script."""
    return property(operator.attrgetter(f"_loop.{name}"))


class Run:
    """A run in one attempt. `open_run` creates it.

    Attributes:
        id: the run's name.
        folder: its folder.
        session: the lease of the machine.
        resumed_from: the step of the checkpoint that this attempt continues, None for a fresh start.
        step: the running step, counted from 1; between steps, the number of completed steps.
        total_steps: total number of steps, None until known.
        epoch: the running epoch, counted from 1, in `batches` loops; None in `steps` loops.
        epoch_end: whether the running batch is the last of its epoch.
        update_due: whether the optimizer must step after the running batch (gradient accumulation).
        finished: whether all steps are done, or the run was ended early.
        should_stop: function that returns whether the session must end; takes less than a microsecond. All ranks get
            the same answer. In the loop of another framework, all ranks must call it.
    """

    step: int = _of_loop("step")
    total_steps: int | None = _of_loop("total_steps")
    epoch: int | None = _of_loop("epoch")
    epoch_end: bool = _of_loop("epoch_end")
    update_due: bool = _of_loop("update_due")
    finished: bool = _of_loop("finished")
    should_stop: Callable[[], bool] = _of_loop("stopping.asked")

    def __init__(self, loop: Loop, ending: Ending, *, resumed_from: int | None) -> None:
        self._loop, self._ending, self._foreign, self.resumed_from = loop, ending, ForeignLoop(loop), resumed_from
        self.id, self.folder, self.session = loop.attempt.id, loop.attempt.folder.path, loop.attempt.session

    def track(self, *, keep: Mapping[str, Sequence[str]] | None = None, **parts: Any) -> None:
        """Save these objects with every checkpoint. If the run resumes, load their state now.

        The loaded state is compared with the checkpoint before the first step. Objects may be built until then.

        Args:
            keep: part name -> values of this program that win over the checkpoint, such as `keep={"optimizer":
                ["lr"]}`. All other values are those of the run. A kept `lr` of a scheduled optimizer continues at the
                present point of the schedule. `["*"]`: the part starts with a fresh state.
            **parts: name=object with `state_dict()` and `load_state_dict()`, a random generator of torch, NumPy or
                Python, or a list or dict of these. The global generators of all three are always included. Names:
                letters, digits, "_", "." and "-", and not "rng" or "gradients", which outlast uses.

        Raises:
            StateError: an object has no usable state_dict, or its state could not be loaded again.
            ResumeRefused: the checkpoint holds another kind of state under this name.
            UsageError: a name is taken or invalid; or `keep` names an object that is not tracked.
        """
        self._loop.track(parts, keep)

    def restore(self, initial: Any, name: str = "state") -> Any:
        """Return the pytree of the checkpoint, or the argument itself if there is no checkpoint.

        Args:
            initial: the initial state; its structure, shapes, dtypes and placement are those of the result.
            name: the name of this state, if there are several.

        Raises:
            StateError: it holds a value that cannot be saved without pickle.
            ResumeRefused: the checkpoint's state has another structure.
        """
        return self._loop.restore(initial, name)

    def offer(self, tree: Any, name: str = "state", **metrics: Any) -> None:
        """Offer the state after this step, and log metrics. The state is copied only when a save is due.

        Raises:
            UsageError, StateError: no state of this name was restored before; or it has other leaves.
        """
        self._loop.offer(tree, name, metrics)

    def steps(self, total_steps: int | None = None) -> Iterator[int]:
        """Yield step numbers from the one after the last committed step up to the total.

        If the session must end earlier, the state is saved, and SessionEnded leaves the loop and the script with exit
        code 75. Code after the loop therefore runs only for a finished run. `break` ends the run early and permanently;
        the running step counts as done.

        Raises:
            UsageError: no total was given, here or to `open_run`; or a state was not offered in a step.
            SessionEnded: the session is over and the run is not.
        """
        with self._ending:
            yield from self._loop.steps(total_steps)

    def batches(self, loader: Any, epochs: int, accumulate: int = 1) -> Iterator[Any]:
        """Yield the batches of several epochs, from the batch after the last committed one.

        A step is an optimizer update of `accumulate` batches; the last batch of an epoch always completes a step.
        `update_due` is true when the optimizer must step, `epoch_end` in the last batch of an epoch. The loop ends as
        in `steps`.

        Args:
            loader: an outlast.DataLoader, a torchdata StatefulDataLoader, or any iterable of one epoch whose state_dict
                contains its position. It is tracked as "data" unless it is tracked already. Without a len(), it is
                read one batch ahead. set_epoch(epoch), from 0, is called if it exists.
            epochs: total number of epochs.
            accumulate: batches per optimizer update.

        Raises:
            StateError: the loader has no position.
            ResumeRefused: in the middle of an epoch, it is another loader than the checkpoint's.
            DataError: it has no batches, or more or fewer than len() returns.
        """
        with self._ending:
            yield from Epochs(self._loop, loader, epochs, accumulate).batches()

    def begin(self, total_steps: int | None = None) -> None:
        """Start the loop of another framework (ultralytics, Lightning, Hugging Face).

        Call it after `track`, call `after_step` after every step, and start counting at `run.step`. `total_steps`
        decides whether the run is finished. With a save policy of epochs only, it is also saved every 15 minutes.

        Raises:
            UsageError: a loop began already in this attempt.
        """
        with self._ending:
            self._foreign.begin(total_steps)

    def after_step(self, step: int | None = None, *, epoch_ended: int | bool | None = None, **metrics: Any) -> bool:
        """Complete a step in the loop of another framework; does what `steps` does after its body.

        It counts the step, logs its metrics, and saves if a save is due. Call it when the framework has finished the
        step: parameters and schedulers are updated, and the next batch is not fetched yet. Leave the loop when it
        returns True. The with-block then ends with SessionEnded or well; code in between has to test `finished`.

        Args:
            step: number of completed steps (optimizer updates); one more than before if not given.
            epoch_ended: whether this step ended an epoch, or the number of that epoch from 1. save="1 epoch" needs it.
            **metrics: as in `log`.

        Raises:
            UsageError: begin() was not called; outlast runs the loop itself; or the step is done already.
            SaveFailed: the last save of the session could not be written.
        """
        with self._ending:
            return self._foreign.after_step(step, epoch_ended=epoch_ended, metrics=metrics)

    def validate(self, function: Callable[[], Mapping[str, Any] | None], every: str = "1 epoch") -> None:
        """Register a validation that runs between two steps and that a stop can interrupt.

        Its metrics are logged at the step before it and count for the best checkpoint. In `run.evaluate(loader)` or
        `run.should_stop()`, the function is stopped when the session must end. The state before it is then saved, and
        the next attempt begins with this validation. The function must restore temporary changes (averaged weights,
        eval mode) in a `finally`.

        Args:
            function: takes no arguments and returns metrics, name -> number, or None.
            every: "1 epoch", "500 steps", or both with a comma.

        Raises:
            UsageError: there is a validation already; the loop has begun; or the interval is of another kind.
        """
        self._loop.give_validation(function, every)

    def evaluate(self, loader: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches of a validation; raise SessionEnded between two batches when the session must end.

        An outlast loader yields the batches of its first epoch every time. Inside the function of `validate`, nothing
        is lost. In the body of a loop, the next attempt continues from the last save. With several ranks, the
        validation is not interrupted.
        """
        with self._ending:
            yield from self._loop.evaluate(loader)

    def log(self, metrics: Mapping[str, Any] | None = None, /, *, step: int | None = None, **named: Any) -> None:
        """Add a line to the journal. A value that cannot be logged is left out and reported once; training continues.

        Args:
            metrics: name -> value, as in W&B; or give them as keywords.
            step: the step of the metrics, in the loop of another framework; in other loops it is known.
            **named: name=number, also tensors and arrays of one element. None and text are logged, but not plotted.

        Raises:
            UsageError: the loop has not begun.
        """
        self._loop.log({**metrics, **named} if metrics else named, step)

    def save(self, *, step: int | None = None) -> None:
        """Save at the end of the running step. In the loop of another framework, which gives its `step`, save at once.

        Raises:
            SaveFailed: in such a loop, the checkpoint could not be written.
            UsageError: the loop has not begun; or such a loop gives a step that is not new.
        """
        self._foreign.ask_save(step)

    def artifact(self, name: str | Path, *, part: str | None = None) -> AbstractContextManager[Path]:
        """A path for a named output, a file or a folder; it gets its name when the block ends without an error.

        `name` is a file name, such as "confusion.png"; its folders are created. NAME.manifest.json is written next to
        it, with run, step, config fingerprint, hashes, and `part`: the tracked name of its source, such as "ema".

        Raises:
            UsageError: the name, part, or what was written, is not valid; an earlier artifact of this name stays.
        """
        self._loop.parts.check_known(part)
        return artifact(self._loop.attempt, name, step=self._loop.step, part=part)

    def tell(self, sentence: str) -> None:
        """Show the user a sentence, on the screen and in the attempt's record."""
        self._loop.tell(sentence)

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
        """End the attempt, as the end of a with-block does."""
        self._ending.leave_block(None)
