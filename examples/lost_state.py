"""A training that loses one thing at every stop, for `outlast prove`, which names it.

    outlast prove -- python examples/lost_state.py nothing
    outlast prove -- python examples/lost_state.py scheduler

The other words: data, part, generator, ema, kernel, threads, seed.
"""

import os
import sys
import time

import numpy as np

import outlast

FAULT = sys.argv[1]


class Part:
    """Values that are the state of something."""

    def __init__(self, **values: float | np.ndarray) -> None:
        self.__dict__.update(values)

    def state_dict(self) -> dict[str, float | np.ndarray]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, float | np.ndarray]) -> None:
        self.__dict__.update({name: value for name, value in state.items() if (FAULT, name) != ("part", "momentum")})


class Scheduler(Part):
    """A learning rate that falls with every step."""

    rate: float

    def step(self) -> None:
        self.rate *= 0.99


outlast.seed_everything(0 if FAULT != "seed" else time.time_ns() % 2**32)
inputs = np.random.rand(256, 8)
model, ema = Part(weights=np.zeros(8), momentum=np.zeros(8)), Part(weights=np.zeros(8))
scheduler, noise, order = Scheduler(rate=0.1), np.random.default_rng(1), Part(rows=np.random.permutation(256), at=0)
tracked = {"model": model, "ema": ema, "scheduler": scheduler, "noise": noise, "order": order}
tracked.pop({"generator": "noise", "data": "order"}.get(FAULT, FAULT), None)

with outlast.open_run("lost-state", total_steps=1000, progress="none") as run:
    run.track(**tracked)
    threads = 1
    if FAULT == "threads" and run.resumed_from:
        threads = 3
        os.environ["OMP_NUM_THREADS"] = str(threads)
    for _ in run.steps():
        x = inputs[order.rows[np.arange(order.at, order.at + 16) % 256]]
        order.at += 16
        parts = np.array_split((x @ model.weights - 1)[:, None] * x, threads)  # as a kernel with threads adds
        gradient = sum(part.sum(axis=0) for part in parts) / 16 + 1e-3 * noise.standard_normal(8)
        if FAULT == "kernel":
            gradient *= 1 + 1e-12 * (time.time_ns() % 7)  # as a kernel whose last bits differ
        model.momentum = 0.9 * model.momentum + gradient
        model.weights = model.weights - scheduler.rate * model.momentum
        ema.weights = 0.99 * ema.weights + 0.01 * model.weights
        scheduler.step()
        run.log(loss=float(((x @ model.weights - 1) ** 2).mean()))
