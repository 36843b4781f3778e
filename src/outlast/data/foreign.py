"""Loaders of other libraries: the position that they save, and the state that they omit.

Looked at: torchdata 0.11, accelerate 1.15, datasets 5.2, litdata 0.2.76.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Sequence
from typing import Any

from outlast.data import leaving, litdata, within
from outlast.distributed import workers
from outlast.errors import StateError
from outlast.state import adapters, rng

_TRIED = 256  # indices that are drawn twice to see whether a sampler gives them again
_STREAM = "_InfiniteConstantSampler"  # torch's own, where the dataset decides the order
_INSTEAD = (
    "Use outlast.DataLoader(dataset, batch_size, ...), which takes sampler= and draws it again, or "
    "StatefulDataLoader(dataset, batch_size, "
    "shuffle=True), whose own sampler has a state."
)


def is_torchdata(loader: Any) -> bool:
    """Whether this is torchdata's StatefulDataLoader, or accelerate's wrapper around one."""
    adapter = adapters.owner(loader)
    return adapter is not None and adapter.name == "torchdata"


def check_exact(loader: Any) -> None:
    """Refuse a loader whose state cannot bring its position back.

    Raises:
        StateError: it would continue with other samples than those that were left, and say nothing.
    """
    check_buffer(getattr(loader, "dataset", loader))
    if litdata.is_mix(loader) and loader.num_workers > 1:
        raise StateError(
            f"The dataset (CombinedStreamingDataset) is read by {loader.num_workers} workers, and litdata keeps the "
            "sum of what they took of each part: after a resume some samples would repeat and others would be "
            "skipped. Use num_workers=1 or 0."
        )
    if not is_torchdata(loader):
        return
    if loader.num_workers and not getattr(loader, "in_order", True):
        raise StateError(
            "StatefulDataLoader was given in_order=False: batches come as workers finish them, and its state counts "
            "them in order, so that after a resume some would repeat and others would be skipped. Leave it out."
        )
    sampler = loader._index_sampler
    if type(loader.sampler).__name__ == _STREAM or has_state(sampler):
        return
    iterator: Any = getattr(loader._iterator, "_sampler_iter", None)
    inside = getattr(sampler, "sampler", sampler)
    if has_state(iterator) and (
        not hasattr(iterator, "sampler_iter") or has_state(iterator.sampler_iter) or has_state(inside)
    ):
        return
    if not gives_again(sampler):
        raise StateError(
            f"The loader's position is a count of samples and no order: {type(sampler).__qualname__} over "
            f"{type(inside).__qualname__} has no state, and "
            "gives another order when it is asked again. After a resume some samples would repeat and others would be "
            "skipped. "
            f"{_INSTEAD}"
        )


def check_buffer(dataset: Any) -> None:
    """Refuse a dataset of Hugging Face that shuffles through a buffer.

    Raises:
        StateError: it does.
    """
    if buffer := _shuffle_buffer(dataset):
        raise StateError(
            f"The dataset ({type(dataset).__qualname__}) shuffles through a buffer ({buffer}), and its state does not "
            "hold the samples in the buffer: after a resume they would be skipped. Leave out .shuffle() and shuffle "
            "when the data are "
            "written, or use a map-style dataset "
            "with outlast.DataLoader."
        )


def shield(loader: Any) -> None:
    """Have the workers of a StatefulDataLoader outlive a signal to the whole group.

    The first question for the loader's state starts these workers.
    """
    if is_torchdata(loader) and loader.num_workers:
        bare = getattr(loader, "base_dataloader", loader)
        init = bare.worker_init_fn
        if not (isinstance(init, functools.partial) and init.func is workers.begin):
            bare.worker_init_fn = functools.partial(workers.begin, init)


def describe(loader: Any) -> dict[str, Any]:
    """The data and the order to which a position of this loader refers, as JSON."""
    found: dict[str, Any] = {}
    if is_torchdata(loader):
        found["batch_size"] = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
        found["drop_last"] = bool(loader.drop_last or getattr(loader.batch_sampler, "drop_last", False))
        inside = getattr(loader.batch_sampler, "sampler", loader.sampler)
        found["sampler"] = type(inside).__qualname__
        with contextlib.suppress(TypeError, NotImplementedError):  # a stream has no length
            found["samples"] = len(loader.dataset)
    return found


def inexact(loader: Any, *, in_epoch: bool, tracked: Sequence[Any] = ()) -> list[str]:
    """The aspects of this loader that differ after a resume, as text for the list of differences.

    Args:
        loader: the loader.
        in_epoch: whether the resume is in the middle of an epoch.
        tracked: what the run saves; generators among it continue.
    """
    if not is_torchdata(loader):
        return []
    found = []
    if loader.num_workers and (in_epoch or loader.persistent_workers):
        found.append(
            f"random numbers that StatefulDataLoader's {loader.num_workers} workers draw (augmentation) start over; "
            "outlast.DataLoader draws the same again"
        )
    if not loader.num_workers and not has_state(loader.dataset):
        inside = within.generators(dataset=loader.dataset, collate_fn=loader.collate_fn)
        found += [
            f"the random generator {path} starts over; outlast.DataLoader seeds it for every batch"
            for path, one in inside.items()
            if not any(one is thing for thing in tracked)
        ]
    if loader.generator is not None and not loader.num_workers:
        found.append("StatefulDataLoader with a generator of its own and no workers gives later epochs another order")
    return found


def why_more(loader: Any) -> str:
    """The probable reason why a loader yields more batches than its length, as a sentence; empty if unknown."""
    if not is_torchdata(loader) or not loader.num_workers or type(loader.sampler).__name__ != _STREAM:
        return ""
    return (
        f"Each of its {loader.num_workers} workers iterates the whole dataset: unless the dataset splits its samples "
        "between them (torch.utils.data.get_worker_info), each of them loads every sample. "
    )


def set_epoch(loader: Any, epoch: int) -> bool:
    """Call set_epoch, from 0, on every component of a loader that has it.

    Returns whether there was anything. litdata's loader tells its dataset itself, and counts from 1.
    """
    if litdata.is_litdatas(loader):
        return False
    if callable(tell := getattr(loader, "set_epoch", None)):
        tell(epoch)
        return True
    batches = getattr(loader, "batch_sampler", None)
    inside: list[Any] = [getattr(loader, name, None) for name in ("dataset", "sampler")] + [
        batches,
        getattr(batches, "sampler", None),
    ]
    told: dict[int, Any] = {id(thing): thing for thing in inside if callable(getattr(thing, "set_epoch", None))}
    for thing in told.values():
        thing.set_epoch(epoch)
    return bool(told)


def close(loader: Any) -> None:
    """End the workers of a torch loader; it makes new ones when it is iterated again."""
    loader = getattr(loader, "base_dataloader", loader)
    iterator = getattr(loader, "_iterator", None)
    if getattr(iterator, "_workers", None):
        leaving.end_workers(iterator)
        loader._iterator = None


def _shuffle_buffer(dataset: Any) -> str | None:
    """The name of a Hugging Face dataset's shuffle buffer, None when it has none."""
    found = getattr(dataset, "_ex_iterable", None)
    for _ in range(100):
        if found is None:
            return None
        if "BufferShuffled" in type(found).__name__:
            return type(found).__name__
        found = getattr(found, "ex_iterable", None)
    return None


def has_state(thing: Any) -> bool:
    """Whether an object has a state that can be saved and loaded."""
    return callable(getattr(thing, "state_dict", None)) and callable(getattr(thing, "load_state_dict", None))


def _draws_at_random(sampler: Any) -> bool:
    from torch.utils import data

    kinds = (data.RandomSampler, data.SubsetRandomSampler, data.WeightedRandomSampler)
    return isinstance(sampler, kinds) and not callable(getattr(sampler, "set_epoch", None))


def gives_again(sampler: Any) -> bool:
    """Whether the indices of a sampler depend on the epoch only, and not on generators."""
    draws = []
    inside = getattr(sampler, "sampler", sampler)
    if _draws_at_random(inside):
        return False
    for word in (1, 2, 3):
        if callable(getattr(inside, "set_epoch", None)):
            inside.set_epoch(0)
        with rng.seeded_with([word] * 4):
            draws.append([_plain(value) for value in itertools.islice(sampler, _TRIED)])
    return draws[0] == draws[1] == draws[2]


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
