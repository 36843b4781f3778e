"""A training that a remote follows: `python -m tests.durability.followed ROOT REMOTE STEPS`."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

import outlast

KEEP = outlast.Retention(last=2, best=1, metric="loss", mode="min")


class Weights:
    """Some thousands of numbers that depend on every step before."""

    def __init__(self) -> None:
        self.values, self.moment = np.zeros(20_000), np.zeros(20_000)

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values, "moment": self.moment}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.values, self.moment = state["values"], state["moment"]

    def update(self) -> float:
        self.moment = 0.9 * self.moment + np.random.standard_normal(self.moment.size)
        self.values = self.values + 0.01 * self.moment
        return float(abs(self.values).mean())


def main(root: str, remote: str, total: int) -> None:
    """Train to the end."""
    weights = Weights()
    outlast.seed_everything(7)
    with outlast.open_run(
        "r", root=root, total_steps=total, save="2 steps", keep=KEEP, progress="plain", remote=remote or None
    ) as run:
        run.track(weights=weights)
        for _ in run.steps():
            run.log(loss=weights.update())
            time.sleep(0.004)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
