"""PyTorch. Imported only if the program uses torch."""

from __future__ import annotations

from typing import Any

import torch
import torch.utils.data

from outlast.state.adapter import Adapter
from outlast.state.objects import TrackedObject
from outlast.state.torch import machine, modules, optimizers, tensors, values
from outlast.state.torch.schedulers import Scheduler

KINDS: tuple[tuple[type, type[TrackedObject]], ...] = (
    (torch.nn.Module, modules.Module),
    (torch.optim.Optimizer, optimizers.Optimizer),
    (torch.optim.lr_scheduler.LRScheduler, Scheduler),
)
"""Class of a program's object -> its `TrackedObject`."""


def _tracked(part: str, thing: Any) -> TrackedObject | None:
    return next((kind(part, thing) for theirs, kind in KINDS if isinstance(thing, theirs)), None)


def _advice(value: Any) -> str | None:
    if not isinstance(value, torch.utils.data.DataLoader):
        return None
    return "For a torch DataLoader use outlast.DataLoader or torchdata's StatefulDataLoader, which know their position."


ADAPTER = Adapter(
    "torch",
    matches=values.matches,
    pack=values.pack,
    from_array=tensors.from_array,
    put_together=values.put_together,
    tracked=_tracked,
    generators=values.GENERATORS,
    advice=_advice,
    rows=tensors.rows,
    software=machine.software,
    use_deterministic_kernels=machine.use_deterministic_kernels,
    bound_memory=machine.bound_memory,
    wait=machine.wait,
    device_peaks=machine.device_peaks,
    pin=machine.pin,
    optimizer_places=optimizers.optimizer_places,
    before_updates=optimizers.before_updates,
    regroups=modules.regroups,
    is_sharded=tensors.is_sharded,
    knows_shards=tensors.knows_shards,
)
