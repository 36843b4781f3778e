"""How a framework must not be asked to train with a callback of outlast, because a resume would not be exact.

It imports no framework.
"""

from __future__ import annotations

from typing import Any

from outlast.errors import UsageError


def check_trainer(trainer: Any, callback: Any, *, endless: bool, again: bool) -> None:
    """Refuse a Trainer of Hugging Face that could not be continued exactly.

    Args:
        trainer: the Trainer.
        callback: outlast's, whose `train` was called with it.
        endless: whether its dataset has no position.
        again: whether the callback has trained before.

    Raises:
        UsageError: it is one.
    """
    if trainer.args.world_size > 1 or endless:
        what = "several processes" if trainer.args.world_size > 1 else "an IterableDataset, which has no position"
        raise UsageError(
            f"OutlastCallback was given a Trainer with {what}; expected one process and a dataset with a length. "
            "Use `outlast run` around the script, which keeps the Trainer's own checkpoints."
        )
    if again:
        raise UsageError(
            "callback.train() was called again with the same run; one run is one training. To train on, start the "
            "script with more epochs, and for another training give open_run() another name."
        )
    if callback not in trainer.callback_handler.callbacks:
        raise UsageError(
            "The Trainer given to callback.train() does not have this callback, so nothing would be saved; expected "
            "Trainer(..., callbacks=[callback])."
        )


def check_begun(trainer: Any) -> None:
    """Raise UsageError if there is no Trainer yet: it was started by itself."""
    if trainer is None:
        raise UsageError(
            "trainer.train() was called, and the run could not be continued; expected callback.train(trainer) in its "
            "place."
        )


def check_fit(batches: int, steps: int, *, again: bool) -> None:
    """Refuse a `fit` that could not be continued exactly.

    Args:
        batches: those of an epoch of the data that the callback was given.
        steps: steps of an epoch, as Keras counts them.
        again: whether the callback has seen a `fit` before.

    Raises:
        UsageError: it is one.
    """
    if again:
        raise UsageError(
            "fit() was called again with the same run; one run is one fit(). To train on, start the script with more "
            "epochs=, and for another training give open_run() another name."
        )
    if steps != batches:
        raise UsageError(
            f"fit() was given epochs of {steps} steps, and the data have {batches} batches; expected no "
            "steps_per_epoch=, and the same Batches in fit() and in OutlastCallback()."
        )


def check_read(reads: int) -> None:
    """Raise UsageError if a step has read no batch of the data that the callback was given: `fit` was given others."""
    if not reads:
        raise UsageError(
            "fit() trains on other data than OutlastCallback() was given, so their position is not known; expected "
            "the same Batches in both: data = Batches(x, y); fit(data, ..., callbacks=[OutlastCallback(run, data)])."
        )


def check_last(step: int, done: int) -> None:
    """Raise UsageError if a callback behind outlast's has ended `fit` after a step that outlast has not seen end."""
    if step > done:
        raise UsageError(
            f"A callback behind OutlastCallback has stopped fit() after step {step}, which is not saved; expected "
            "OutlastCallback at the end of the list: callbacks=[*others, OutlastCallback(run, data, others)]."
        )
