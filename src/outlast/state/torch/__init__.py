"""PyTorch's kinds of tracked objects, in one table. Imported only when the program uses torch."""

from __future__ import annotations

from typing import Any

import torch

from outlast.state.objects import Generator, Tracked
from outlast.state.torch.modules import Module
from outlast.state.torch.optimizers import Optimizer
from outlast.state.torch.schedulers import Scheduler

KINDS: tuple[tuple[type, type[Tracked]], ...] = (
    (torch.nn.Module, Module),
    (torch.optim.Optimizer, Optimizer),
    (torch.optim.lr_scheduler.LRScheduler, Scheduler),
    (torch.Generator, Generator),
)
"""Class of a program's object -> what is known of such objects."""


def tracked(part: str, thing: Any) -> Tracked | None:
    """The kind of a torch object; None for anything else."""
    return next((kind(part, thing) for theirs, kind in KINDS if isinstance(thing, theirs)), None)
