"""Samplers with a position: exact in the middle of an epoch, with any number of workers.

The position counts batches that the training loop received, not those that workers fetched ahead; the order and every
random number drawn while a batch is made are functions of (seed, epoch, batch). So nothing of a worker has to be saved.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from outlast.data.order import Order, PlainOrder, SamplerOrder, WeightedOrder, digest
from outlast.errors import ResumeRefused, UsageError
from outlast.folder.records import LARGEST
from outlast.terminal import number

_SAID = {
    "length": "{} samples",
    "batch_size": "{} samples a batch",
    "seed": "{} as its seed",
    "shuffle": "shuffle={}",
    "drop_last": "drop_last={}",
    "sampler": "{} as its sampler",
}
"""What defines an order besides its place, as a message says it."""


class BatchSampler:
    """Batches of indices, shuffled or weighted, endlessly.

    An iterator over the rest of one epoch at a time, or `next()` forever.

    Args:
        length: number of samples.
        batch_size: samples per batch; the last batch of an epoch is smaller unless drop_last. None: one index at a
            time, as a whole number and not as a batch.
        shuffle: another order every epoch; False: 0, 1, 2, ... True unless weights or a sampler decide the order.
        seed: decides the order.
        drop_last: leave out a last batch that is not full.
        weights: a number for each sample, in any scale: an epoch is `length` draws with replacement, in proportion to
            them.
        sampler: an iterable of indices with a length, such as torch's samplers. Each epoch is drawn from it at once,
            under generators seeded from seed and epoch, after `set_epoch(epoch)` if it has that.

    Attributes:
        epoch: epochs done.
        batch: batches of the running epoch done.
        changes: what a loaded position was one of and this sampler is not, in sentences; nothing is lost by them.

    Raises:
        UsageError: no samples, a batch size below 1, or no full batch with drop_last; weights, a sampler or options
            that cannot be, or cannot be together; or whose order could not be drawn again.
    """

    def __init__(
        self,
        length: int,
        batch_size: int | None,
        *,
        shuffle: bool | None = None,
        seed: int = 0,
        drop_last: bool = False,
        weights: Any = None,
        sampler: Any = None,
    ) -> None:
        self.length, self.seed = _whole("length", length), _whole("seed", seed)
        self.batch_size = None if batch_size is None else _whole("batch_size", batch_size)
        if self.length < 1 or (self.batch_size is not None and self.batch_size < 1):
            raise UsageError(
                f"A batch sampler needs samples and a batch size of at least 1; it got length={number(length)} and "
                f"batch_size={number(batch_size)}."
            )
        if self.length > LARGEST:
            raise UsageError(f"length is {number(length)}; no epoch has that many samples.")
        if self.batch_size is None and drop_last:
            raise UsageError(
                "batch_size=None gives one sample at a time, so drop_last has nothing to drop; leave one out."
            )
        decides = [name for name, given in (("weights", weights), ("sampler", sampler)) if given is not None]
        if len(decides) + bool(shuffle) > 1:
            raise UsageError(
                f"{' and '.join([*decides, *(['shuffle=True'] if shuffle else [])])} were given, and only one of them "
                "can decide the order; leave the others out."
            )
        self.shuffle = not decides if shuffle is None else bool(shuffle)
        self.drop_last = bool(drop_last)
        self._order: Order
        if weights is not None:
            self._order = WeightedOrder(weights, self.length, self.seed)
        elif sampler is not None:
            self._order = SamplerOrder(sampler, self.length, self.seed)
        else:
            self._order = PlainOrder(self.length, self.seed, shuffle=self.shuffle)
        if drop_last and self._order.count < (self.batch_size or 1):
            raise UsageError(
                f"drop_last leaves no batch at all: {self._order.count} samples are fewer than one batch of "
                f"{number(batch_size)}. Choose a smaller batch_size, or leave drop_last out."
            )
        self.epoch = 0
        self.batch = 0
        self.changes: list[str] = []
        self._data: str | None = None  # a digest of the samples, where there is one
        self._owner: str | None = None  # who goes through it now and wants nobody else to
        self._leave: Callable[[], bool] | None = None  # whether to give up waiting for a batch that workers make
        self._loaded = (0, 0)
        self._drawn: tuple[int, Any, str] = (-1, None, "")

    def __len__(self) -> int:
        """Batches per epoch."""
        count, size = self._order.count, self.batch_size or 1
        return count // size if self.drop_last else -(-count // size)

    def __iter__(self) -> Iterator[Any]:
        """The rest of the current epoch."""
        self._check_free()
        epoch = self.epoch
        while self.epoch == epoch:
            yield next(self)

    def __next__(self) -> Any:
        """The next batch: an int64 array of indices, shape (batch_size,) or shorter at the end of an epoch."""
        self._check_free()
        return self._take()

    def _take(self) -> Any:
        indices = self.at(self.epoch, self.batch)
        self.advance()
        return int(indices[0]) if self.batch_size is None else indices

    def advance(self) -> None:
        """Count one batch as received."""
        self.batch += 1
        if self.batch == len(self):
            self.epoch, self.batch = self.epoch + 1, 0

    def _check_free(self) -> None:
        """Refuse a batch to anybody else than the owner; raises UsageError."""
        if self._owner:
            raise UsageError(
                f"{self._owner} iterates this loader, and taking a batch from it elsewhere moves the position of the "
                "run. For an evaluation, make another loader of the same dataset."
            )

    def _stand_at(self, batch: int) -> bool:
        """Stand at this batch of the running epoch whatever was taken since a position was loaded.

        Returns whether that moves it.
        """
        if self.batch == batch:
            return False
        if self._loaded[1] == batch:
            self.epoch = self._loaded[0]
        self.batch = batch
        return True

    def at(self, epoch: int, batch: int) -> Any:
        """The indices of any batch of any epoch, as an array also where batch_size is None."""
        size = self.batch_size or 1
        return self._draw(epoch)[0][batch * size : (batch + 1) * size]

    def set_epoch(self, epoch: int) -> None:
        """Set the running epoch, as for samplers of other libraries; this sampler counts epochs itself.

        Frameworks (Hugging Face's Trainer, Lightning) count the epochs of a session from 0 again when they are
        continued: a number that is too small is warned of and changes nothing.

        Raises:
            UsageError: a later epoch than the one that it is in.
        """
        words = (
            f"set_epoch({epoch}) was called and epoch {self.epoch} runs (counted from 0): "
            "outlast counts epochs itself, because they are a part of the position."
        )
        if epoch > self.epoch:
            raise UsageError(f"{words} Leave the call out.")
        if epoch < self.epoch:
            warnings.warn(f"{words} The call changes nothing.", stacklevel=2)

    def state_dict(self) -> dict[str, Any]:
        """The position, and what it is a position in.

        `order` is a digest of the running epoch, None where none has begun; `data` one of the samples.
        """
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            **{name: self._defining(name) for name in _SAID},
            "order": self._draw(self.epoch)[1] if self.batch else None,
            **({"data": self._data} if self._data else {}),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at a position. Between two epochs another order is fine, but for its seed; it is said in `changes`.

        Raises:
            ResumeRefused: it is a position in other data or in another order.
        """
        if not {"epoch", "batch"} <= state.keys():
            raise ResumeRefused(
                "The data position in the checkpoint is not one of outlast.DataLoader or outlast.BatchSampler: it has "
                "no epoch and batch. Use the loader that the run began with, or begin a new run under another name."
            )
        epoch, batch = _whole("epoch", state["epoch"]), _whole("batch", state["batch"])
        changed = [name for name in _SAID if name in state and state[name] != self._defining(name)]
        if batch and "drop_last" in changed and not self._order.count % (self.batch_size or 1):
            changed.remove("drop_last")  # there is no last batch that would be dropped
        if changed and (batch or "seed" in changed):
            name = "seed" if "seed" in changed else changed[0]
            said, mine = _SAID[name].format(_short(state[name])), _short(self._defining(name))
            place = f"batch {batch} of epoch {epoch + 1}" if batch else "its place"
            raise ResumeRefused(
                f"The data order in the checkpoint has {said} and this program's has {mine}, so {place} cannot be "
                "kept: some samples would repeat and others would be skipped. Use the same data, order, batch size "
                "and seed until the epoch has ended, or "
                "begin a new run."
            )
        if batch and state.get("order") is not None and state["order"] != self._draw(epoch)[1]:
            raise ResumeRefused(
                f"The order of epoch {epoch + 1} differs from that of the first {batch} batches in the checkpoint, "
                f"though length, batch size and seed are the same: {self._order.name or 'the permutation'} gives other "
                "indices now. Use the earlier sampler and weights until the epoch has ended, or begin a new "
                "run."
            )
        if not 0 <= epoch <= LARGEST or not 0 <= batch < len(self):
            raise ResumeRefused(
                f"The data position in the checkpoint is batch {batch} of epoch {epoch}, and an epoch has the batches "
                f"0 to {len(self) - 1}: outlast writes no such position. Use an earlier checkpoint, or begin a new run."
            )
        self.changes = [
            f"The data order has {_SAID[name].format(_short(self._defining(name)))} from epoch {epoch + 1} on; before, "
            f"it was {_short(state[name])}."
            for name in changed
        ]
        if None not in (self._data, state.get("data")) and self._data != state["data"]:
            self.changes.append(
                "The samples differ from those in the checkpoint: arrays of the dataset have other values."
            )
        self.epoch, self.batch = self._loaded = epoch, batch

    def _defining(self, name: str) -> Any:
        return self._order.name if name == "sampler" else getattr(self, name)

    def _draw(self, epoch: int) -> tuple[Any, str]:
        if self._drawn[0] != epoch:
            order = self._order.draw(epoch)
            self._drawn = (epoch, order, digest(order))
        return self._drawn[1], self._drawn[2]


class ExactLoader:
    """A loader of outlast's own.

    Attributes:
        sampler: decides the order of its batches, and keeps its position.
    """

    sampler: BatchSampler


def _whole(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise UsageError(f"{name} is {value!r}; expected a whole number.") from None


def _short(value: Any) -> Any:
    return "none" if value is None else value
