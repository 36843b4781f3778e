"""The batches of ultralytics' loop, which always begins with the first batch of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch

from outlast.errors import UsageError
from outlast.integrations.epochs import EpochLoader

_PASSED = {"img": torch.zeros(1, 1), "cls": torch.zeros(0)}  # in place of a batch that was done before
_NEVER = 2**40  # batches between two updates


class Batches:
    """In place of a trainer's loader: batches of `outlast.DataLoader`, also from the middle of an epoch.

    There, the batches that were done pass by: the loop counts them, and nothing else happens.

    Args:
        trainer: its loader, and what it does with a batch, are replaced.
        complete: called when all of the batch before is done.

    Attributes:
        source: the loader; its position is what checkpoints hold.
        at: number of the batch that the loop has, from 0 over all epochs.
        last: number of the batch of the last update; -1: none was made.
        means: of the losses of an epoch that is continued.
    """

    def __init__(self, trainer: Any, complete: Callable[[], None]) -> None:
        loader = trainer.train_loader
        object.__setattr__(loader, "batch_sampler", loader.batch_sampler.sampler)  # without its endless repetition
        self.source = EpochLoader.like(loader, trainer.args.seed).source
        self.dataset, self.num_workers, self.reset, self.close = (
            loader.dataset, loader.num_workers, self.source.close, self.source.close
        )  # fmt: skip
        if hasattr(self.dataset, "load_image"):
            self.dataset.load_image = _Copies(self.dataset.load_image)
        self._trainer, self._complete, self._nominal = trainer, complete, trainer.accumulate
        self.at, self.last, self.means, self._passing, self._behind = -1, -1, None, 0, 0
        self._preprocess, trainer.preprocess_batch = trainer.preprocess_batch, self._prepare
        self._step, trainer.optimizer_step = trainer.optimizer_step, self._update
        trainer.train_loader, trainer._build_train_pipeline = self, _refuse_smaller_ones

    def stand(self, step: int) -> None:
        """Say how many batches are done. `last` is known."""
        self.at, self._passing = step - 1, step % len(self.source)
        self._behind = self.last + 1  # the loop's own number of the last update is -1 until it makes one
        if self._passing:  # the loop sets the rate of the epoch once more
            schedule = self._trainer.scheduler
            schedule.last_epoch, schedule._step_count = schedule.last_epoch - 1, schedule._step_count - 1

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Any]:
        trainer, passing, self._passing = self._trainer, self._passing, 0
        first = trainer.epoch * len(self)
        if first + passing != self.at + 1:
            raise UsageError(
                "The loss is not finite, and ultralytics would train the epoch again from its last.pt; a run never "
                "goes back. Begin a new run with a smaller lr0=, or with amp=False."
            )
        for each in _mixes(self.dataset.transforms):
            each.buffer_enabled = False  # else it draws from the images that this process loaded last
        if passing:
            network, trainer.model = trainer.model, _Passing(self.means, trainer.device)
            for _ in range(passing):
                yield _PASSED
            trainer.model, trainer.tloss = network, self.means
        for batch in range(passing, len(self)):
            self._complete()
            self.at, trainer.accumulate = first + batch, self._nominal
            yield self.source._take()

    def _prepare(self, batch: Any) -> Any:
        self._trainer.accumulate += _NEVER if batch is _PASSED else self._behind
        return batch if batch is _PASSED else self._preprocess(batch)

    def _update(self) -> None:
        self._step()
        self.last, self._behind = self.at, 0


class _Passing:
    """In place of the network while batches pass by."""

    def __init__(self, means: Any, device: Any) -> None:
        self._means, self._device = means, device

    def __call__(self, _: Any) -> tuple[Any, Any]:
        return torch.zeros(1, device=self._device, requires_grad=True), self._means

    def loss(self, *_: Any) -> tuple[Any, Any]:
        return self(None)  # with compile=True


class _Copies:
    """Images of a dataset, each its own: some transforms write into what is kept decoded."""

    def __init__(self, load: Any) -> None:
        self._load = load

    def __call__(self, *given: Any, **options: Any) -> Any:
        image, *sizes = self._load(*given, **options)
        return image.copy(), *sizes


def _mixes(transform: Any) -> Iterator[Any]:
    """The transforms that mix images, also inside of others."""
    for each in (*getattr(transform, "transforms", ()), getattr(transform, "pre_transform", None)):
        if hasattr(each, "buffer_enabled"):
            yield each
        if each is not None:
            yield from _mixes(each)


def _refuse_smaller_ones() -> NoReturn:
    raise UsageError(
        "A batch does not fit into the memory, and ultralytics would go on with smaller ones, which are other steps. "
        "Begin a new run with a smaller batch=."
    )
