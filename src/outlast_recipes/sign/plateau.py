"""How long the validation has not become better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

_STATE = ("epoch", "best_epoch", "waited", "halvings", "best")


class Plateau:
    """Counts epochs since the best validation, for early stopping and for the halving of the learning rate.

    All of it is state, so a resumed run stops and slows down where an uninterrupted one does.

    Args:
        mode: "max" when a larger value is better.

    Attributes:
        epoch: the last epoch that was validated; 0 before the first.
        best_epoch: the first epoch with the best value.
        best: that value.
        waited: epochs since the best one, or since the last halving.
        halvings: number of them.
    """

    def __init__(self, mode: Literal["max", "min"] = "max") -> None:
        self._mode = mode
        self.epoch = self.best_epoch = self.waited = self.halvings = 0
        self.best = -math.inf if mode == "max" else math.inf

    def update(self, epoch: int, value: float, patience: int | None) -> None:
        """Count an epoch; an equal value is not better.

        Args:
            epoch: that was validated, from 1.
            value: of the metric.
            patience: epochs without a better value that are allowed before a halving; None: no halvings.
        """
        self.epoch = epoch
        if value > self.best if self._mode == "max" else value < self.best:
            self.best, self.best_epoch, self.waited = value, epoch, 0
            return
        self.waited += 1
        if patience is not None and self.waited > patience:
            self.halvings, self.waited = self.halvings + 1, 0

    def is_over(self, early_stop: int | None) -> bool:
        """Whether so many epochs have brought nothing better."""
        return early_stop is not None and self.epoch - self.best_epoch >= early_stop

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in _STATE:
            setattr(self, name, state[name])
