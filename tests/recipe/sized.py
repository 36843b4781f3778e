"""A recipe of NumPy alone that takes as much memory, time or trouble as it is told."""

from __future__ import annotations

import time

import numpy as np

import outlast
from outlast import setting


class Config(outlast.SupervisedConfig):
    batch_size: int = setting(4, "samples", flags=("-b",), ge=1)
    megabytes: float = setting(0.0, "MB of memory of a sample", ge=0)
    wait: float = setting(0.0, "seconds of a step", ge=0)
    fails: int = setting(0, "step that fails", ge=0)


def train(run: outlast.Run, config: Config) -> None:
    state = run.restore({"w": np.zeros(1000)})
    for step in run.steps(1000):
        held = np.ones(int(config.batch_size * config.megabytes * 1e6 / 8))
        time.sleep(config.wait)
        if step == config.fails:
            raise ValueError("as it was told to")
        state = {"w": state["w"] + 1e-3 * (held.sum() + 1)}
        run.offer(state)
        del held  # before the next step asks for as much


recipe = outlast.Recipe("sized", "as much as it is told", Config, train)
