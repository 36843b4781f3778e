"""What ends a training before it ruins its checkpoints, with what can be done: memory, files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

import outlast
from outlast import Run
from outlast_recipes.common.finite import WHOLE
from outlast_recipes.yolo.config import YoloConfig

_ON_A_CPU = ("can't allocate memory", "not enough memory")  # torch has no class of its own for them


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
            f"{what}{error.strerror or error}, at step {run.step}. {WHOLE} When the cause is removed, the same "
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
        f"{WHOLE} {advice}{half}"
    )
