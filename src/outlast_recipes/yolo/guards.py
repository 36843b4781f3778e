"""What ends a training before it ruins its checkpoints, with what can be done: numbers, memory, files."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

import outlast
from outlast import Run
from outlast_recipes.yolo.config import YoloConfig

SKIPPED = 20
"""Steps in a row that loss scaling may skip: it halves the scale for each."""

_WHOLE = "Nothing of this step is saved, and earlier checkpoints are whole."
_ON_A_CPU = ("can't allocate memory", "not enough memory")  # torch has no class of its own for them


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
        wrong = [name for name, value in losses.items() if not math.isfinite(float(value))]
        self._skipped = self._skipped + 1 if wrong else 0
        if wrong and (not self._scaled or self._skipped > SKIPPED):
            more = f", for {self._skipped} steps in a row" if self._skipped > 1 else ""
            raise _not_finite(f"{', '.join(wrong)} of step {step} is not finite{more}")
        if not torch.nn.utils.get_total_norm(self._tensors).isfinite():
            raise _not_finite(f"The losses of step {step} are finite, and a weight is not finite after it")


def _not_finite(words: str) -> outlast.OutlastError:
    return outlast.OutlastError(
        f"{words}. {_WHOLE} The same command would reach the same step again; continue with a lower --lr."
    )


@contextlib.contextmanager
def explained(run: Run, config: YoloConfig, device: torch.device) -> Iterator[None]:
    """Says what can be done about too little memory, a full disk and a file that cannot be read.

    Raises:
        outlast.OutlastError: in place of what torch, Python and the system raise.
    """
    try:
        yield
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        raise outlast.OutlastError(
            f"{what}{error.strerror or error}, at step {run.step}. {_WHOLE} When the cause is removed, the same "
            "command continues."
        ) from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in _ON_A_CPU):
            raise _too_little_memory(run, config, device) from error
        raise


def _too_little_memory(run: Run, config: YoloConfig, device: torch.device) -> outlast.OutlastError:
    """The batch is never made smaller silently: it would be another training."""
    size, batch = config.model.image_size, config.batch_size
    advice = "Take a smaller architecture, or another machine."
    if batch > 1:
        advice = (
            f"Continue with --batch-size {batch // 2}; gradients are added up to training.nominal_batch all the same. "
            "A checkpoint from within an epoch keeps its batches: then also give another --experiment-name."
        )
    half = "" if config.mixed_precision else " --mixed-precision needs less as well."
    return outlast.OutlastError(
        f"The memory of {device} is too small for batches of {batch} images of {size} pixels, at step {run.step}. "
        f"{_WHOLE} {advice}{half}"
    )
