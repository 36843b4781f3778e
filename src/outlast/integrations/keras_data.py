"""Data for Keras' `fit` with a position."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from outlast.data.sampler import BatchSampler
from outlast.errors import UsageError


class Batches(keras.utils.PyDataset):
    """Batches of arrays, in another order in each epoch, which are the same before and after a resume.

    Args:
        arrays: x, or x and y, or x, y and sample weights; their first axis counts the samples.
        batch_size: samples per batch.
        seed: decides the order.
        shuffle: False: in the order of the samples.

    Attributes:
        reads: number of batches that were asked for.

    Raises:
        UsageError: the arrays have different numbers of samples, or none.
    """

    def __init__(self, *arrays: Any, batch_size: int = 32, seed: int = 0, shuffle: bool = True) -> None:
        super().__init__()
        self._arrays, self._epoch, self._first, self._taken = tuple(map(np.asarray, arrays)), 0, 0, 0
        if len({len(array) for array in self._arrays}) != 1:
            raise UsageError(
                f"Batches were given {' and '.join(str(len(each)) for each in self._arrays) or 'no'} samples; expected "
                "arrays with one row for each sample, such as Batches(x, y)."
            )
        self.reads = 0
        self.sampler = BatchSampler(len(self._arrays[0]), batch_size, shuffle=shuffle, seed=seed)

    @property
    def num_batches(self) -> int:
        """Batches that are left of the epoch when it begins."""
        return len(self.sampler) - self._first

    def stand(self, epoch: int, batch: int) -> None:
        """Say where the next epoch of `fit` begins."""
        self._epoch, self._first, self._taken = epoch, batch, 0

    def __getitem__(self, _: int) -> tuple[Any, ...]:
        indices = self.sampler.at(self._epoch, self._first + self._taken)
        self._taken += 1
        self.reads += 1
        return tuple(array[indices] for array in self._arrays)

    def on_epoch_end(self) -> None:
        """Keras looks at a batch before it trains; that moves nothing."""
        self._taken = 0
