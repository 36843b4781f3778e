"""A small model of Keras, in sessions or alone. `python -m tests.integrations.with_keras BACKEND FOLDER`: all of it."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = sys.argv[1]
    warnings.simplefilter("ignore")

import keras
import numpy as np
from tests.integrations import twins

import outlast
from outlast.errors import UsageError
from outlast.integrations.keras import Batches, OutlastCallback

X = np.random.default_rng(1).normal(size=(42, 6)).astype("float32")
Y = X.sum(1, keepdims=True)


class Asking(keras.callbacks.Callback):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function, self.step = function, 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.step += 1
        self.function(self.step)


class Noise(keras.layers.Layer):
    """Draws from Keras' global seed generator, which a program traced by JAX may not."""

    def call(self, x: Any, training: bool = False) -> Any:
        drawn = training and keras.backend.backend() != "jax"
        return x + 0.1 * keras.random.normal(keras.ops.shape(x)) if drawn else x


def network(optimizer: keras.optimizers.Optimizer | None = None) -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Dense(8),
        Noise(),
        keras.layers.Dropout(0.3),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(1),
    ]
    model = keras.Sequential([keras.Input((6,)), *layers])
    model.compile(optimizer=optimizer or keras.optimizers.Adam(0.01), loss="mse", metrics=["mae"])
    return model


def others() -> list[keras.callbacks.Callback]:
    return [
        keras.callbacks.EarlyStopping(patience=50),
        keras.callbacks.ReduceLROnPlateau(patience=0, cooldown=1, min_delta=9.0),
    ]


def fit(run: outlast.Run, stops: twins.Stops, model: keras.Model | None = None) -> keras.Model:
    model = model or network()
    data, before, begun = Batches(X, Y, batch_size=8), others(), run.step
    asking = Asking(lambda step: stops(begun + step))
    callbacks = [*before, asking, OutlastCallback(run, data, before)]
    model.fit(data, epochs=4, shuffle=False, validation_data=(X[:8], Y[:8]), callbacks=callbacks, verbose=0)
    assert len(model.history.history["loss"]) >= (3 if begun < 24 else 0)
    return model


def fit_averaged(run: outlast.Run, stops: twins.Stops) -> None:
    """With averaged weights, accumulation, and a scale of the loss that grows."""
    average = {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 5, "gradient_accumulation_steps": 2}
    inner = keras.optimizers.Adam(0.01, **(average if keras.__version__ >= "3.3" else {}))
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**12, dynamic_growth_steps=3)
    fit(run, stops, network(optimizer))


def refuse(run: outlast.Run, name: str) -> None:
    """What a resume would not continue exactly."""
    data = Batches(X, Y, batch_size=8)
    ours = OutlastCallback(run, X if name == "array" else data)
    given = {"shuffle": False, "callbacks": [ours], "verbose": 0, "epochs": 2}
    if name == "steps":
        network().fit(data, steps_per_epoch=4, **given)
    elif name == "samples":
        Batches(X, Y[:5])
    elif name == "data":
        network().fit(Batches(X, Y, batch_size=8), **given)
    elif name == "again":
        model = network()
        for _ in range(2):
            model.fit(data, **given)
    elif name == "last":
        stops = keras.callbacks.EarlyStopping("loss", patience=0, min_delta=9.0)
        network().fit(data, **(given | {"epochs": 9, "callbacks": [ours, stops]}))


REFUSED = ("steps", "array", "samples", "data", "again", "last")


def alone(folder: Path, stop: int | None = None) -> np.ndarray:
    """Keras with its own BackupAndRestore, all weights in one vector."""

    class Killed(Exception):
        pass

    def leave(step: int) -> None:
        if step == stop:
            raise Killed

    backup = keras.callbacks.BackupAndRestore(folder, save_freq=1, delete_checkpoint=False)
    model = network()
    with contextlib.suppress(Killed):
        model.fit(
            X, Y, batch_size=8, epochs=4, validation_data=(X[:8], Y[:8]), verbose=0,
            callbacks=[*others(), backup, Asking(leave)],
        )  # fmt: skip
    return np.concatenate([np.ravel(each) for each in model.get_weights()])


if __name__ == "__main__":
    place = Path(sys.argv[2])
    twin = twins.train(place / "twin", fit)
    assert twins.train(place / "cut", fit, range(1, 24)) == twin
    assert twins.train(place / "cut", fit) == twin  # finished: not trained again
    twin = twins.train(place / "averaged twin", fit_averaged)
    assert twins.train(place / "averaged", fit_averaged, (3, 8, 15)) == twin
    for name in REFUSED:
        try:
            with outlast.open_run(name, root=place, progress="none") as run:
                refuse(run, name)
        except UsageError as error:
            print(f"refused {name}: {error}")
    own = alone(place / "own")
    alone(place / "stopped", stop=8)
    print("without:", np.abs(own - alone(place / "stopped")).max())
