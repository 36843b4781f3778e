"""The arguments of outlast.DataLoader.

Datasets with samples by index, and the options of torch's DataLoader that leave the order alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Any

from torch.utils.data import IterableDataset

from outlast.errors import StateError, UsageError
from outlast.terminal import type_of

_OPTIONS = {
    "collate_fn",
    "in_order",
    "multiprocessing_context",
    "num_workers",
    "persistent_workers",
    "pin_memory",
    "pin_memory_device",
    "prefetch_factor",
    "timeout",
    "worker_init_fn",
}
"""Options of torch's DataLoader that leave the order alone."""

_REFUSED = {
    "batch_sampler": (
        "what it would give after a resume is not known. Give batch_size with sampler= (any torch sampler) or "
        "weights=, and outlast draws the "
        "same batches again"
    ),
    "generator": "the order is a function of seed= and the epoch, so that it can be drawn again. Give seed= instead",
}

_NEED_WORKERS = ("timeout", "prefetch_factor", "persistent_workers", "multiprocessing_context")


def check_dataset(dataset: Any) -> None:
    """Refuse what has no samples by index; raises StateError for an IterableDataset, UsageError for the rest."""
    kind = type(dataset).__qualname__
    if isinstance(dataset, IterableDataset):
        raise StateError(
            f"{kind} is an IterableDataset, and outlast.DataLoader needs samples by index. Use torchdata's "
            "StatefulDataLoader with a dataset that has state_dict()."
        )
    if not hasattr(dataset, "__len__") or not (hasattr(dataset, "__getitem__") or hasattr(dataset, "__getitems__")):
        raise UsageError(
            f"The dataset is {type_of(dataset)} without a length or without samples by index; expected an object "
            "with __len__ and __getitem__."
        )


def check_options(options: dict[str, Any], theirs: Collection[str], own: Collection[str]) -> None:
    """Refuse options that do not exist, or with which the order could not be drawn again.

    Options that say so by None are removed.

    Args:
        options: what was given besides DataLoader's own arguments.
        theirs: the arguments of this torch's DataLoader.
        own: those of outlast's.

    Raises:
        UsageError: an option is refused.
    """
    for name, value in options.items():
        if name in _REFUSED:
            if value is not None:
                raise UsageError(f"outlast.DataLoader takes no {name}: {_REFUSED[name]}.")
        elif name not in _OPTIONS or name not in theirs:
            known = sorted({*_OPTIONS, *own} - {"options"})
            near = difflib.get_close_matches(name, known, 1)
            hint = f"Did you mean '{near[0]}'?" if near else f"It takes {', '.join(known)}."
            what = (
                "is an option of torch's DataLoader whose effect on the order is not known"
                if name in theirs
                else "is no option"
            )
            raise UsageError(f"outlast.DataLoader was given {name}={value!r}, and '{name}' {what}. {hint}")
    for name in _REFUSED:
        options.pop(name, None)
    if not options.get("in_order", True):
        raise UsageError(
            "outlast.DataLoader takes no in_order=False: batches would come as workers finish them, and the position "
            "counts them in order, so that after a resume some would repeat and others would be skipped. Leave it out."
        )
    count = options.get("num_workers", 0)
    if not isinstance(count, int) or count < 0:
        raise UsageError(f"num_workers is {count!r}; expected a whole number of at least 0.")
    for name in _NEED_WORKERS:
        if not count and options.get(name):
            raise UsageError(
                f"outlast.DataLoader was given {name}={options[name]!r} and no workers; give num_workers=1 or more, or "
                "leave it out."
            )
