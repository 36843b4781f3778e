"""Data order that can say where it is: exact in the middle of an epoch, with any number of workers.

The position counts batches that the training loop received, not those that workers fetched ahead; the order and every
random number drawn while a batch is made are functions of (seed, epoch, batch). So nothing of a worker has to be saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from outlast.errors import ResumeRefused


class BatchSampler:
    """Shuffled batches of indices, endlessly: an iterator over the rest of one epoch at a time, or `next()` for ever.

    The permutation sorts raw 64-bit words of Philox(seed, epoch). NumPy guarantees that stream for all versions
    (numpy.org/doc/stable/reference/random/compatibility.html), so the order survives an upgrade in the middle of a run.

    Args:
        length: number of samples.
        batch_size: samples per batch; the last batch of an epoch is smaller unless drop_last.
        shuffle: another order every epoch; False: 0, 1, 2, ...
        seed: decides the order.
        drop_last: leave out a last batch that is not full.

    Raises:
        ValueError: no samples, or a batch size below 1, or no full batch with drop_last.
    """

    def __init__(
        self, length: int, batch_size: int, *, shuffle: bool = True, seed: int = 0, drop_last: bool = False
    ) -> None:
        if length < 1 or batch_size < 1:
            raise ValueError(
                f"A batch sampler needs samples and a batch size of at least 1; it got {length} and {batch_size}."
            )
        if drop_last and length < batch_size:
            raise ValueError(
                f"drop_last leaves no batch at all: {length} samples are fewer than one batch of {batch_size}."
            )
        self.length, self.batch_size, self.shuffle, self.seed, self.drop_last = (
            length,
            batch_size,
            shuffle,
            seed,
            drop_last,
        )
        self.epoch = 0
        self.batch = 0
        self._order: tuple[int, Any] = (-1, None)

    def __len__(self) -> int:
        """Batches per epoch."""
        return self.length // self.batch_size if self.drop_last else -(-self.length // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        """The rest of the current epoch."""
        epoch = self.epoch
        while self.epoch == epoch:
            yield next(self)

    def __next__(self) -> Any:
        """The next batch: an int64 array of indices, shape (batch_size,) or shorter at the end of an epoch."""
        indices = self.at(self.epoch, self.batch)
        self.advance()
        return indices

    def advance(self) -> None:
        """Count one batch as received."""
        self.batch += 1
        if self.batch == len(self):
            self.epoch, self.batch = self.epoch + 1, 0

    def at(self, epoch: int, batch: int) -> Any:
        """The indices of any batch of any epoch."""
        return self._epoch_order(epoch)[batch * self.batch_size : (batch + 1) * self.batch_size]

    def state_dict(self) -> dict[str, int]:
        """The position, and what it is a position in."""
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "length": self.length,
            "batch_size": self.batch_size,
            "seed": self.seed,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at a position.

        Raises:
            ResumeRefused: it is a position in other data or in another order.
        """
        for name, word in (("length", "samples"), ("batch_size", "samples a batch"), ("seed", "as its seed")):
            mine, theirs = getattr(self, name), state[name]
            if mine != theirs and not (state["batch"] == 0 and name != "seed"):
                raise ResumeRefused(
                    f"The data order in the checkpoint has {theirs} {word} and this program's has {mine}, so the position in the "
                    "middle of an epoch cannot be kept. Use the same data, batch size and seed, or begin a new run."
                )
        self.epoch, self.batch = int(state["epoch"]), int(state["batch"])

    def _epoch_order(self, epoch: int) -> Any:
        import numpy as np

        if self._order[0] != epoch:
            if self.shuffle:
                words = np.random.Philox(key=[self.seed % 2**64, epoch]).random_raw(self.length)
                self._order = (epoch, np.argsort(words, kind="stable"))
            else:
                self._order = (epoch, np.arange(self.length))
        return self._order[1]
