"""Ends a training whose numbers are no longer finite, before they are saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

import outlast

SKIPPED = 20
"""Steps in a row that loss scaling may skip: it halves the scale for each."""

WHOLE = "Nothing of this step is saved, and earlier checkpoints are whole."


class Finite:
    """Ends the attempt at losses and weights that are not finite, before they are saved.

    A step without a finite loss may be followed by good ones only where losses are scaled (float16): it is skipped, and
    the scale lowered.

    Args:
        network: that is trained.
        scaled: whether losses are scaled.
    """

    def __init__(self, network: nn.Module, *, scaled: bool) -> None:
        self._tensors = [
            each.detach() for each in (*network.parameters(), *network.buffers()) if each.is_floating_point()
        ]
        self._scaled, self._skipped = scaled, 0

    def check(self, step: int, losses: Mapping[str, Any]) -> None:
        """Look at the losses of a step, and at the weights after it.

        Raises:
            outlast.OutlastError: one is not finite.
        """
        wrong = [name for name, value in losses.items() if not torch.as_tensor(value).detach().isfinite()]
        self._skipped = self._skipped + 1 if wrong else 0
        if wrong and (not self._scaled or self._skipped > SKIPPED):
            more = f", for {self._skipped} steps in a row" if self._skipped > 1 else ""
            raise _not_finite(f"{', '.join(wrong)} of step {step} is not finite{more}")
        if not torch.nn.utils.get_total_norm(self._tensors).isfinite():
            raise _not_finite(f"The losses of step {step} are finite, and a weight is not finite after it")


def _not_finite(words: str) -> outlast.OutlastError:
    return outlast.OutlastError(
        f"{words}. {WHOLE} The same command would reach the same step again; continue with a lower --lr."
    )
