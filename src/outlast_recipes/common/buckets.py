"""Batches of clips of similar length: less padding, in an order that is a function of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

WINDOW = 16  # batches whose clips are sorted together
BLUR = 0.1  # share of a length by which clips may change places, so that a batch is another one in each epoch


class LengthBuckets:
    """A sampler: the indices of an epoch, where each `batch_size` of them have similar lengths.

    Clips are shuffled, those of some batches are sorted by length, and these batches are shuffled. What is left over
    for no full batch comes last.

    Args:
        lengths: of the clips.
        batch_size: of a batch.
        seed: decides the order, with the epoch.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths = np.asarray(lengths, np.float64)
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of this epoch from here on."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        count, size = len(self), self.batch_size
        words = np.random.Philox(key=[self.seed % 2**64, self.epoch]).random_raw(3 * count)
        order = np.argsort(words[:count], kind="stable")
        blurred = self.lengths * (1 + BLUR * (2 * (words[count : 2 * count] / 2**64) - 1))
        full = count // size * size
        batches: list[NDArray[np.int64]] = []
        for start in range(0, full, WINDOW * size):
            window = order[start : min(start + WINDOW * size, full)]
            window = window[np.argsort(blurred[window], kind="stable")]
            batches += [window[at : at + size] for at in range(0, len(window), size)]
        for number in np.argsort(words[2 * count : 2 * count + len(batches)], kind="stable"):
            yield from batches[number].tolist()
        yield from order[full:].tolist()


def padding(lengths: Sequence[int], order: Iterable[int], batch_size: int) -> float:
    """Share of the frames of all batches that are padding.

    Args:
        lengths: of the clips.
        order: of an epoch.
        batch_size: clips of a batch.
    """
    taken = np.asarray(lengths)[list(order)]
    batches = [taken[start : start + batch_size] for start in range(0, len(taken), batch_size)]
    frames = sum(len(batch) * int(batch.max()) for batch in batches)
    return 1 - float(taken.sum()) / frames if frames else 0.0
