"""When a recipe validates: after so many epochs or steps, and at the end of the run."""

from __future__ import annotations

import re

import outlast

_EVERY = re.compile(r"([1-9][0-9]{0,14}) ?(step|epoch)s?")


def check_every(text: str) -> str:
    """An interval of validations as a config has it; raises ValueError for any other text."""
    if not _EVERY.fullmatch(text.strip().lower()):
        raise ValueError('expected epochs or steps, such as "1 epoch" or "500 steps"')
    return text


def validates(run: outlast.Run, every: str) -> bool:
    """Whether to validate in this step. A function of the step alone, so that a resume validates at the same steps.

    Args:
        run: in the body of its loop over batches.
        every: such as "1 epoch" or "500 steps".
    """
    found = _EVERY.fullmatch(every.strip().lower())
    if run.step == run.total_steps:
        return True
    if found is None:
        return False
    number = int(found[1])
    if found[2] == "step":
        return run.step % number == 0
    return run.epoch_end and (run.epoch or 0) % number == 0
