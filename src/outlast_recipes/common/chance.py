"""Random numbers of views: a function of (seed, view, clip).

So the same view comes again on any device, among any other clips, with any number of workers or ranks, and after any
resume.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


class Chance:
    """Rows of numbers in 0..1, one a clip, taken from the left.

    Args:
        rows: (N, width).
    """

    def __init__(self, rows: Tensor, taken: int = 0) -> None:
        self._rows, self._taken = rows, taken

    @classmethod
    def of(cls, names: Iterable[str], *, seed: int, view: int, width: int) -> Chance:
        """The numbers of these clips' views in one round.

        Args:
            names: of the clips.
            seed: of the training, or of a teacher's views.
            view: number of the view: the epoch, or a teacher's.
            width: numbers of a clip.
        """
        rows = [generator(seed, view, name).random(width, np.float32) for name in names]
        return cls(torch.from_numpy(np.stack(rows)))

    def take(self, count: int = 1) -> Tensor:
        """The next numbers of every row: (N, count)."""
        self._taken += count
        return self._rows[:, self._taken - count : self._taken]

    def to(self, device: torch.device) -> Chance:
        """The same rows on a device; what was taken stays taken."""
        return Chance(self._rows.to(device), self._taken)


def generator(seed: int, view: int, name: str) -> np.random.Generator:
    """A counter-based generator for one view of one clip."""
    key = hashlib.blake2b(f"{seed}/{view}/{name}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
