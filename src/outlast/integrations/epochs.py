"""A loader for loops that count epochs and skip batches themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import RandomSampler, SequentialSampler

from outlast.data.loader import DataLoader


class EpochLoader(TorchLoader):
    """The batches of `outlast.DataLoader`, from the first one of an epoch that `set_epoch` names.

    Args:
        source: defines order, samples and augmentation; its position is what checkpoints hold.
    """

    def __init__(self, source: DataLoader) -> None:
        self.source, inner = source, source._loader
        super().__init__(
            inner.dataset,
            batch_sampler=_Epoch(source),
            collate_fn=inner.collate_fn,
            worker_init_fn=inner.worker_init_fn,
            generator=inner.generator,
            num_workers=inner.num_workers,
            pin_memory=inner.pin_memory,
            persistent_workers=inner.persistent_workers,
            prefetch_factor=inner.prefetch_factor,
            multiprocessing_context=inner.multiprocessing_context,
        )

    @classmethod
    def like(cls, loader: Any, seed: int) -> EpochLoader:
        """A loader with the dataset, the order's kind, the collation and the workers of torch's loader.

        Args:
            loader: torch's, or one of accelerate that wraps it.
            seed: of order and augmentation.
        """
        batches = loader.batch_sampler
        order = batches.sampler
        kind = (
            {"shuffle": True}
            if isinstance(order, RandomSampler)
            else {"shuffle": False}
            if isinstance(order, SequentialSampler)
            else {"sampler": order}
        )
        workers = {}
        if loader.num_workers:
            workers = {
                name: getattr(loader, name)
                for name in ("num_workers", "persistent_workers", "prefetch_factor", "multiprocessing_context")
            }
        return cls(
            DataLoader(
                loader.dataset,
                batches.batch_size,
                seed=seed,
                drop_last=batches.drop_last,
                collate_fn=loader.collate_fn,
                worker_init_fn=loader.worker_init_fn,
                pin_memory=loader.pin_memory,
                **kind,
                **workers,
            )
        )

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration goes through, from 0."""
        self.batch_sampler.set_epoch(epoch)

    def stand(self, epoch: int, batch: int) -> None:
        """Say which batch the loop takes next."""
        self.source.sampler.epoch, self.source.sampler.batch = epoch, batch


class _Epoch:
    """The batches of an epoch, as tickets of the source."""

    def __init__(self, source: DataLoader) -> None:
        self._tickets, self.sampler = source._tickets, source.sampler
        self._epoch: int | None = None
        self.batch_size, self.drop_last = source.sampler.batch_size, source.sampler.drop_last

    @property
    def batch_sampler(self) -> _Epoch:
        return self  # where the Trainer looks for what has an epoch, also when it skips batches

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        epoch = self.sampler.epoch if self._epoch is None else self._epoch
        return (self._tickets.at(epoch, batch) for batch in range(len(self.sampler)))
