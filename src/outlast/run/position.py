"""The position in a loop over epochs."""

from __future__ import annotations

from typing import NamedTuple


class Position(NamedTuple):
    """A place in the data. It does not change; a loop that continues has another one.

    Attributes:
        epoch: epochs done.
        batch: batches of the running epoch done.
    """

    epoch: int = 0
    batch: int = 0

    def after_batch(self) -> Position:
        """The place after one more batch."""
        return Position(self.epoch, self.batch + 1)

    def after_epoch(self) -> Position:
        """The place after the running epoch."""
        return Position(self.epoch + 1, 0)
