"""The weights with the best validation metric."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

_FORMER = "accuracy"
"""Checkpoints of version 0.4 and before hold the value under this key."""


class BestByValidation:
    """The weights of the epoch with the best validation metric so far, that epoch, and the value of the metric.

    Track both: `run.track(best=best.weights, choice=best)`.

    Args:
        network: what is validated; a copy is kept.
        mode: "max" when a larger value is better.

    Attributes:
        weights: the copy, in evaluation mode.
        epoch: epoch of the best value; 0 before the first.
        value: the best value.
    """

    def __init__(self, network: nn.Module, mode: Literal["max", "min"] = "max") -> None:
        self.weights = copy.deepcopy(network).eval()
        self.mode = mode
        self.epoch = 0
        self.value = -math.inf if mode == "max" else math.inf
        self._key = "value"

    def update(self, epoch: int, value: float, network: nn.Module) -> bool:
        """Keep the network's weights if the value is at least as good as the best; of equal ones the later has learned
        more.

        Args:
            epoch: the epoch that has ended, from 1.
            value: the monitored metric, of the validation split.
            network: what reached it.
        """
        better = value >= self.value if self.mode == "max" else value <= self.value
        if better:
            self.epoch, self.value = epoch, value
            self.weights.load_state_dict(network.state_dict())
        return better

    def state_dict(self) -> dict[str, Any]:
        """Epoch and value; the weights are tracked by themselves."""
        return {"epoch": self.epoch, self._key: self.value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Back from `state_dict`. A run keeps the key that it began with, so that what was loaded equals the
        checkpoint."""
        self._key = _FORMER if _FORMER in state else "value"
        self.epoch, self.value = int(state["epoch"]), float(state[self._key])
