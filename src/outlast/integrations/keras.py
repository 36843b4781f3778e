"""Keras 3 in sessions that end, with the torch or the JAX backend; needs keras 3.0.5 or newer.

data = Batches(x, y, batch_size=64)
callbacks = [keras.callbacks.EarlyStopping()]
model.fit(data, epochs=10, shuffle=False, callbacks=[*callbacks, OutlastCallback(run, data, callbacks)])
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras.src.random.seed_generator import global_seed_generator  # it has no public name

from outlast.errors import SessionEnded, UsageError
from outlast.integrations import refusals
from outlast.integrations.keras_data import Batches
from outlast.run.run import Run
from outlast.state import rng

__all__ = ["Batches", "OutlastCallback"]

_KEPT = ("wait", "best", "best_epoch", "best_weights", "stopped_epoch", "cooldown_counter", "history", "epoch")
"""Attributes of Keras' callbacks that are state."""


class OutlastCallback(keras.callbacks.Callback):
    """Saves what `fit` trains in the checkpoints of a run, and continues it there. Place it last in the list.

    Weights, optimizer, seed generators, metrics of the running epoch, early stopping, plateau schedule and history are
    kept. When the session must end, `fit` raises `SessionEnded`, as `run.steps()` does. Metrics of epochs are logged.

    Args:
        run: the run; its with-block is around `fit`.
        data: what `fit` is given.
        others: the callbacks before it, whose state is kept (Keras does not say which there are).
    """

    def __init__(self, run: Run, data: Batches, others: Sequence[keras.callbacks.Callback] = ()) -> None:
        super().__init__()
        if not isinstance(data, Batches):
            raise UsageError(f"OutlastCallback takes Batches, which fit() is given as well, and got {type(data)}.")
        self._run, self._data, self._others, self._per_epoch = run, data, others, len(data.sampler)
        self._done = self._step = -1  # steps that the run has counted; that Keras has done
        self._generators: dict[str, Any] | None = None
        self._quiet: warnings.catch_warnings[Any] | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        refusals.check_fit(self._per_epoch, self.params["steps"], again=self._done >= 0)
        self._reads = self._data.reads
        self.model._initial_epoch = self._run.step // self._per_epoch

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._done < 0:
            self._begin()
        self._first = self._done - epoch * self._per_epoch if self._done > epoch * self._per_epoch else 0
        self._data.stand(epoch, self._first)
        self._epoch = epoch
        if self._first:  # Keras warns of an epoch that is shorter than the others
            self._quiet = warnings.catch_warnings()
            self._quiet.__enter__()
            warnings.filterwarnings("ignore", message="Your input ran out of data")

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._first + batch >= self._per_epoch:
            return  # asked once more with JAX; validation and on_epoch_end come first
        self._restore_generators()
        if self._complete():
            raise SessionEnded(self._run.session.reason or "budget")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        refusals.check_read(self._data.reads - self._reads)
        self._step = self._epoch * self._per_epoch + self._first + batch + 1
        if self._step % self._per_epoch == 0:
            self._generators = rng.capture()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._quiet:
            self._quiet.__exit__(None, None, None)
            self._quiet = None
        self._run.log({name: float(value) for name, value in (logs or {}).items()}, step=self._step)
        if self.model.stop_training or epoch + 1 == self.params["epochs"]:
            self._restore_generators()
            self._complete()  # before weights are averaged, or the best ones restored

    def on_train_end(self, logs: Any = None) -> None:
        if self._done < 0:
            self._begin()  # all was done before
        refusals.check_last(self._step, self._done)
        self.model._initial_epoch = 0

    def _begin(self) -> None:
        model = self.model
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        self._run.track(
            model=_Variables(lambda: self.model.variables),
            optimizer=_Variables(lambda: self.model.optimizer.variables),
            metrics=_Variables(lambda: [*self.model.metrics_variables, global_seed_generator().state]),
            data=self._data.sampler,
            callbacks=_Callbacks([*self._others, model.history]),
        )
        self._run.begin(total_steps=self.params["epochs"] * self._per_epoch)
        self._run._loop.told_late = True
        self._done = self._step = self._run.step
        self._generators = rng.capture() if self._done else None
        model.stop_training |= self._run.finished

    def _restore_generators(self) -> None:
        """Torch's loaders draw from them between two epochs, and once more at a resume."""
        if self._generators:
            rng.restore(self._generators)
        self._generators = None

    def _complete(self) -> bool:
        if self._step == self._done:
            return False
        self._done = self._step
        self._data.sampler.epoch, self._data.sampler.batch = divmod(self._step, self._per_epoch)
        return self._run.after_step(self._step, epoch_ended=self._data.sampler.batch == 0)


class _Variables:
    """Variables of Keras as NumPy arrays of their own: the next step of JAX frees what it was given.

    They are in Keras' order: their paths contain numbers that depend on what a process made before.
    """

    def __init__(self, find: Callable[[], Sequence[Any]]) -> None:
        self._find = find

    def state_dict(self) -> dict[str, Any]:
        return {"variables": [np.array(keras.ops.convert_to_numpy(each)) for each in self._find()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for each, value in zip(self._find(), state["variables"], strict=True):
            each.assign(value)


class _Callbacks:
    """What callbacks of Keras count."""

    def __init__(self, callbacks: Sequence[Any]) -> None:
        self._callbacks = callbacks

    def state_dict(self) -> dict[str, Any]:
        held = [[type(each).__name__, {k: v for k, v in vars(each).items() if k in _KEPT}] for each in self._callbacks]
        return {"callbacks": held}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for each, (name, values) in zip(self._callbacks, state["callbacks"], strict=False):
            if type(each).__name__ == name:
                vars(each).update(values)
