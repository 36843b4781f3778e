"""A torch DataLoader that can say where it is. Exported as `outlast.DataLoader`."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import Dataset, IterableDataset, default_collate, get_worker_info

from outlast import ranks, workers
from outlast.errors import StateError
from outlast.state.sampler import BatchSampler

_Ticket = tuple[int, int, list[int]]
"""Epoch, batch, and the indices of its samples: what the sampler sends to a worker."""


class DataLoader:
    """Batches of a map-style dataset, exact on resume in the middle of an epoch with any number of workers.

    Iterate it for the rest of the current epoch, or call `next()` for ever. While a batch is made, the generators of Python,
    NumPy and torch are seeded from (seed, epoch, batch), so random augmentation is the same with 0 workers or 8, before or
    after a resume; the training loop's own generators are not touched.

    With several ranks (torchrun), a batch is what all of them train on in one step, and each gets its share: the position is one for
    all, so a run may continue on another number of ranks in the middle of an epoch. In the last batch of an epoch a share may be
    one sample larger than another; when it has fewer samples than there are ranks, some are given twice.

    Args:
        dataset: anything with `__getitem__` and `__len__` (or `__getitems__`).
        batch_size: samples per batch, of all ranks together.
        shuffle: another order every epoch.
        seed: decides order and augmentation.
        drop_last: leave out a last batch that is not full.
        split: give each rank its share; False: every rank gets whole batches, for an evaluation that only one makes.
        **options: as of torch.utils.data.DataLoader: num_workers, collate_fn, pin_memory, persistent_workers, ...

    Raises:
        StateError: the dataset is an IterableDataset, whose position nobody but itself can know.
        UsageError: torchrun's processes have not met yet.
        ValueError: as of `BatchSampler`; or the ranks cannot share a batch equally.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        split: bool = True,
        **options: Any,
    ) -> None:
        if isinstance(dataset, IterableDataset):
            raise StateError(
                f"{type(dataset).__qualname__} is an IterableDataset, and outlast.DataLoader needs samples by index. Use torchdata's "
                "StatefulDataLoader with a dataset that has state_dict()."
            )
        self.dataset = dataset
        self.sampler = BatchSampler(len(dataset), batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last)
        rank, count = ranks.position() if split else (0, 1)
        if batch_size % count:
            raise ValueError(
                f"A batch of {batch_size} samples cannot be shared equally by {count} ranks, and training averages over ranks. Choose a "
                f"multiple of {count}; batch_size counts the samples of all ranks together."
            )
        # A generator of its own: torch draws the workers' base seed from it instead of from the training loop's generator.
        self._loader = TorchLoader(
            _Seeded(
                dataset,
                (seed % 2**63, rank) if rank else (seed % 2**63,),
                options.pop("collate_fn", None) or default_collate,
            ),
            collate_fn=_as_it_is,
            worker_init_fn=functools.partial(_begin_worker, options.pop("worker_init_fn", None)),
            batch_sampler=_Tickets(self.sampler, rank, count),
            generator=torch.Generator().manual_seed(seed),
            **options,
        )
        self._batches: Iterator[Any] | None = None

    @property
    def batch_size(self) -> int:
        """Samples per batch."""
        return self.sampler.batch_size

    def __len__(self) -> int:
        """Batches per epoch."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        """The rest of the current epoch."""
        epoch = self.sampler.epoch
        while self.sampler.epoch == epoch:
            yield next(self)

    def __next__(self) -> Any:
        """The next batch, across the ends of epochs."""
        if self._batches is None:
            self._batches = iter(self._loader)
        batch = next(self._batches)
        self.sampler.advance()
        if self.sampler.batch == 0:
            self._batches = None
        return batch

    def state_dict(self) -> dict[str, int]:
        """The position; see `BatchSampler.state_dict`."""
        return self.sampler.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at a position; raises ResumeRefused when it is one in other data."""
        self.sampler.load_state_dict(state)
        self._batches = None


def _as_it_is(batch: Any) -> Any:
    return batch  # collated already, under the ticket's generators


def _begin_worker(then: Callable[[int], None] | None, worker: int) -> None:
    workers.shield()
    if then:
        then(worker)


class _Tickets:
    """Runs ahead of the sampler's position by as much as the workers prefetch."""

    def __init__(self, sampler: BatchSampler, rank: int, ranks: int) -> None:
        self.sampler, self.rank, self.ranks = sampler, rank, ranks

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[_Ticket]:
        epoch, first = self.sampler.epoch, self.sampler.batch
        for batch in range(first, len(self.sampler)):
            indices = self.sampler.at(epoch, batch)
            if len(indices) < self.ranks:
                indices = np.resize(indices, self.ranks)
            yield epoch, batch, np.array_split(indices, self.ranks)[self.rank].tolist()


class _Seeded(Dataset[Any]):
    """Fetches and collates a ticket's samples under generators that depend on the ticket alone."""

    def __init__(self, dataset: Any, seed: tuple[int, ...], collate: Callable[[list[Any]], Any]) -> None:
        self.dataset, self.seed, self.collate = dataset, seed, collate

    def __getitems__(self, ticket: _Ticket) -> Any:
        epoch, batch, indices = ticket
        outside = None if get_worker_info() else (random.getstate(), np.random.get_state(), torch.get_rng_state())
        words = np.random.SeedSequence((self.seed[0], epoch, batch, *self.seed[1:])).generate_state(4, np.uint32)
        random.seed(int(words[0]))
        np.random.seed(words[1])
        torch.default_generator.manual_seed(int(words[2]) << 32 | int(words[3]))
        try:
            if hasattr(self.dataset, "__getitems__"):
                return self.collate(list(self.dataset.__getitems__(indices)))
            return self.collate([self.dataset[index] for index in indices])
        finally:
            if outside:
                random.setstate(outside[0])
                np.random.set_state(outside[1])
                torch.set_rng_state(outside[2])
