"""A torch DataLoader with a position. Exported as `outlast.DataLoader`."""

from __future__ import annotations

import contextlib
import functools
import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    ConcatDataset,
    Dataset,
    Subset,
    TensorDataset,
    default_collate,
    default_convert,
    get_worker_info,
)
from torch.utils.data import DataLoader as TorchLoader

from outlast.data import leaving, within
from outlast.data.options import check_dataset, check_options
from outlast.data.sampler import BatchSampler, ExactLoader
from outlast.distributed import ranks, workers
from outlast.errors import UsageError
from outlast.state import rng

_Ticket = tuple[int, int, list[int]]
"""Epoch, batch, and the indices of its samples: what the sampler sends to a worker."""

_AHEAD = 32
"""Batches whose seeds are made at once: one alone, between two steps of training, takes eight times as long."""

_TRIES = 3
"""How often a batch is made at most, until no new generator turns up in the dataset."""


class DataLoader(ExactLoader):
    """Batches of a map-style dataset, exact on resume in the middle of an epoch with any number of workers.

    Iterate over it for the rest of the current epoch, or call `next()` without end. While a batch is made, the
    generators of Python, NumPy and torch are seeded from (seed, epoch, batch). So are generators that dataset and
    collate_fn hold, if they are found within a few levels of attributes. Random augmentation is therefore the same with
    0 workers or 8, before and after a resume. The generators of the training loop are not touched.

    With several ranks (torchrun), a batch is the batch of all ranks in one step, and each rank gets its share. All
    ranks have one position, so a run may continue on another number of ranks in the middle of an epoch. In the last
    batch of an epoch, shares may differ by one sample; if it has fewer samples than ranks, some samples are used twice.

    Workers end within a second when the run closes, the loader is deleted, or the interpreter exits.

    Args:
        dataset: an object with `__getitem__` and `__len__` (or `__getitems__`).
        batch_size: samples per batch, of all ranks together. None: one sample at a time, not collated into a batch.
        shuffle: another order in every epoch; True unless `sampler` or `weights` define the order.
        seed: seed of order and augmentation.
        drop_last: drop the last batch if it is not full.
        sampler: a torch sampler, or another iterable of indices with a length; see `BatchSampler`.
        weights: one number per sample, as in torch's WeightedRandomSampler; see `BatchSampler`.
        split: give each rank its share; False: every rank gets whole batches, for an evaluation on one rank.
        **options: those of torch.utils.data.DataLoader: num_workers, collate_fn, pin_memory, persistent_workers, ...

    Attributes:
        waited: total seconds that the program waited for batches.

    Raises:
        StateError: the dataset is an IterableDataset, whose position is unknown.
        UsageError: the process group is not initialised under torchrun; an option does not exist, or makes an order
            that cannot be drawn again; as of `BatchSampler`; or the ranks cannot share a batch equally.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        *,
        shuffle: bool | None = None,
        seed: int = 0,
        drop_last: bool = False,
        sampler: Any = None,
        weights: Any = None,
        split: bool = True,
        **options: Any,
    ) -> None:
        check_dataset(dataset)
        check_options(options, _arguments(TorchLoader), _arguments(DataLoader))
        self.waited = 0.0
        self.dataset = dataset
        self.sampler = BatchSampler(
            len(dataset),
            batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            sampler=sampler,
            weights=weights,
        )
        self.sampler._data = within.digest(dataset)
        rank, count = ranks.position() if split else (0, 1)
        if (batch_size or 1) % count:
            raise UsageError(
                f"A batch of {batch_size or 'one'} samples cannot be shared equally by {count} ranks, and training "
                "averages over ranks. Choose a "
                f"multiple of {count}; batch_size counts the samples of all ranks together."
            )
        seed = self.sampler.seed
        self._samples = _SeededDataset(
            dataset,
            (seed % 2**63, rank) if rank else (seed % 2**63,),
            options.pop("collate_fn", None) or (default_convert if batch_size is None else default_collate),
            single=batch_size is None,
        )
        self._tickets = _Tickets(self.sampler, rank, count)
        # A generator of its own: torch draws the workers' base seed from it instead of from the training loop's
        # generator.
        self._loader = TorchLoader(
            self._samples,
            collate_fn=_as_it_is,
            worker_init_fn=functools.partial(workers.begin, options.pop("worker_init_fn", None)),
            batch_sampler=self._tickets,
            generator=torch.Generator().manual_seed(seed % 2**63),
            **options,
        )
        self._batches: Iterator[Any] | None = None

    @property
    def batch_size(self) -> int | None:
        """Samples per batch; None: single samples that are not collated."""
        return self.sampler.batch_size

    @property
    def num_workers(self) -> int:
        """Processes that make batches."""
        return self._loader.num_workers

    @property
    def changes(self) -> list[str]:
        """See `BatchSampler.changes`."""
        return self.sampler.changes

    def __len__(self) -> int:
        """Batches per epoch."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        """The rest of the current epoch."""
        self.sampler._check_free()
        epoch = self.sampler.epoch
        while self.sampler.epoch == epoch:
            yield next(self)

    def __next__(self) -> Any:
        """The next batch, across the ends of epochs."""
        self.sampler._check_free()
        begun = time.perf_counter()
        try:
            return self._take()
        finally:
            self.waited += time.perf_counter() - begun

    def _take(self) -> Any:
        if self._batches is None:
            self._batches = self._start()
        try:
            batch = next(self._batches)
        except RuntimeError:
            if not self._lost_to_a_signal():
                raise
            self.close()
            if self.sampler._leave and self.sampler._leave():
                raise leaving.Interrupted from None
            batch = self._samples.__getitems__(self._tickets.at(self.sampler.epoch, self.sampler.batch))
        self.sampler.advance()
        if self.sampler.batch == 0:
            batches, self._batches = self._batches, None
            if not self._loader.persistent_workers:
                leaving.end_workers(batches)
        return batch

    def set_epoch(self, epoch: int) -> None:
        """See `BatchSampler.set_epoch`: outlast counts epochs itself."""
        self.sampler.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """The position; see `BatchSampler.state_dict`."""
        return self.sampler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at a position; raises ResumeRefused when it is one in other data."""
        self.sampler.load_state_dict(state)
        self._batches = None

    def close(self) -> None:
        """End the workers now, also those that are in the middle of a sample.

        The next batch that is asked for starts new ones.
        """
        batches, self._batches = self._batches, None
        kept, self._loader._iterator = self._loader._iterator, None
        for iterator in (batches, kept):
            leaving.end_workers(iterator)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # half-made, or the interpreter is going
            self.close()

    def _start(self) -> Iterator[Any]:
        if not self._loader.num_workers:  # torch's iterator does no more than this, and takes a tenth of a millisecond
            return iter(self._loader) if self._loader.pin_memory else map(self._samples.__getitems__, self._tickets)
        with leaving.starting(self._loader.multiprocessing_context):
            batches = iter(self._loader)
        sampler = self.sampler
        leaving.look_after(batches, lambda: sampler._leave is not None and sampler._leave(), self)
        return batches

    def _lost_to_a_signal(self) -> bool:
        """Whether a signal to the whole group has ended the fork server, without which its workers end as well.

        Any batch can be made here instead: the session is about to end, and the running step needs it.
        """
        context = self._loader.multiprocessing_context
        return getattr(context, "_name", None) == "forkserver" and workers.signalled()


def _draws_nothing(dataset: Any) -> bool:
    """Whether samples are made by code of torch that draws from no generator, so that none need be seeded for them.

    Seeding costs some hundred microseconds between two steps of training, when its code is in no cache.
    """
    kind = type(dataset)  # a class derived from one of these may draw
    if kind is TensorDataset:
        return all(type(one) is torch.Tensor for one in dataset.tensors)
    if kind is Subset:
        return type(dataset.indices) in (list, range) and _draws_nothing(dataset.dataset)
    return kind is ConcatDataset and all(map(_draws_nothing, dataset.datasets))


def _arguments(kind: type) -> set[str]:
    return set(inspect.signature(kind).parameters)


def _as_it_is(batch: Any) -> Any:
    return batch  # collated already, under the ticket's generators


class _Tickets:
    """Runs ahead of the sampler's position by as much as the workers prefetch."""

    def __init__(self, sampler: BatchSampler, rank: int, ranks: int) -> None:
        self.sampler, self.rank, self.ranks = sampler, rank, ranks

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[_Ticket]:
        epoch, first = self.sampler.epoch, self.sampler.batch
        for batch in range(first, len(self.sampler)):
            yield self.at(epoch, batch)

    def at(self, epoch: int, batch: int) -> _Ticket:
        indices = self.sampler.at(epoch, batch)
        if self.ranks == 1:
            return epoch, batch, indices.tolist()
        if len(indices) < self.ranks:
            indices = np.resize(indices, self.ranks)
        return epoch, batch, np.array_split(indices, self.ranks)[self.rank].tolist()


class _SeededDataset(Dataset[Any]):
    """Fetches and collates a ticket's samples under generators that depend on the ticket alone.

    These are the global generators and those inside the dataset.
    """

    def __init__(
        self, dataset: Any, seed: tuple[int, ...], collate: Callable[[Any], Any], *, single: bool = False
    ) -> None:
        self.dataset, self.seed, self.collate, self.single = dataset, seed, collate, single
        # What was found after a batch is expected before the next one, because a search takes a tenth of a millisecond.
        self._expected: dict[str, Any] | None = None
        self._varies = False  # other generators turned up between batches: search before each of them
        self._ahead: dict[tuple[int, int], list[int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_expected": None, "_ahead": {}}

    def __getitems__(self, ticket: _Ticket) -> Any:
        epoch, batch, indices = ticket
        if self.collate in (default_collate, default_convert) and _draws_nothing(self.dataset):
            return self._make(indices)
        keep = get_worker_info() is None
        words = self._words(epoch, batch, ahead=_AHEAD if keep else 1)
        expected, self._expected = self._expected, None
        found = self._generators() if expected is None else expected
        for _ in range(_TRIES):
            with rng.seeded_with(words, keep=keep), within.seeded(found, words, keep=keep):
                batch = self._make(indices)
            known, found = found, self._generators()
            if known is expected and any(known.get(path) is not one for path, one in found.items()):
                self._varies = True  # others were seeded than are there
            elif found.keys() <= known.keys():
                break
            # A generator was made while the first batch was: it was seeded otherwise than when this batch is not the
            # first, so once more.
        self._expected = None if self._varies else found
        return batch

    def _words(self, epoch: int, batch: int, *, ahead: int) -> list[int]:
        """Four whole numbers of 32 bits."""
        if (epoch, batch) not in self._ahead:
            first, *rest = self.seed
            self._ahead = {
                (epoch, one): np.random.SeedSequence((first, epoch, one, *rest)).generate_state(4, np.uint32).tolist()
                for one in range(batch, batch + ahead)
            }
        return self._ahead[epoch, batch]

    def _generators(self) -> dict[str, Any]:
        return within.generators(dataset=self.dataset, collate_fn=self.collate)

    def _make(self, indices: list[int]) -> Any:
        if hasattr(self.dataset, "__getitems__"):
            samples = list(self.dataset.__getitems__(indices))
        else:
            samples = [self.dataset[index] for index in indices]
        return self.collate(samples[0] if self.single else samples)
