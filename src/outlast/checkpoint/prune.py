"""Space on the disk: deletes checkpoints after a commit, and checks that the next one fits.

By the retention policy first, and then as the platform's allowance demands; never one that a later stage of the chain
was begun with (`pins`). What a killed writer left is swept away
here, too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from outlast.checkpoint.listing import Listing
from outlast.checkpoint.manifest import SHARED
from outlast.checkpoint.newest import folders
from outlast.checkpoint.pins import unpinned
from outlast.checkpoint.policy import Retention
from outlast.errors import SaveFailed
from outlast.folder import durable, layout, plain
from outlast.folder.layout import MANIFEST, RunFolder

SPARE = 16 * 2**20
"""Bytes that must stay free beside a checkpoint: journal, attempt record, lock."""

_STALE = 60.0
"""Seconds after which the bytes that other runs take are counted again."""


class Pruner:
    """Deletes checkpoints that are no longer wanted.

    Args:
        folder: the run folder.
        listing: which checkpoints are there; it learns what is deleted.
        retention: what to keep.
        allowance: bytes that the run folders beside this one and itself may take in all; None when only the disk limits
            them.

    Attributes:
        dropped: steps of the checkpoints that the retention policy wanted and the allowance had no room for, since
            someone emptied this list.
    """

    def __init__(self, folder: RunFolder, listing: Listing, retention: Retention, allowance: int | None) -> None:
        self.dropped: list[int] = []
        self._folder, self._listing, self._retention, self._allowance = folder, listing, retention, allowance
        self._beside = 0  # bytes besides the checkpoints' data
        self._counted: float | None = None  # when

    def prune(self, room: int) -> list[int]:
        """Apply retention; returns the steps deleted. A failure to delete is no harm.

        Args:
            room: bytes that the next checkpoint will take. Where the platform's allowance has no place for it, older
                ones go that the policy would keep; the newest stays, and the best as long as it can.
        """
        removable = unpinned(self._folder, self._listing.removable())
        dropped = []
        if self._allowance is not None and room:
            dropped = self._over_allowance(removable, room)
        removed = []
        for step in [*removable, *dropped]:
            self._listing.drop(step)
            try:
                durable.remove_folder(self._folder.checkpoint(step))
            except OSError:
                self._listing.refresh()  # what is left is there until the next commit tries again
                continue
            removed.append(step)
        self.dropped += [step for step in dropped if step in removed]
        if removed:
            self._forget_shared()
        return removed

    def _over_allowance(self, removable: Sequence[int], room: int) -> list[int]:
        assert self._allowance is not None  # noqa: S101 - asked by the caller
        gone = sum(_folder_bytes(self._folder.checkpoint(step)) for step in removable)
        excess = self._taken(room + SPARE - gone) - gone + room + SPARE - self._allowance
        if excess <= 0:
            return []
        kept = [each for each in self._listing.kept if each.step not in set(removable)]
        best = self._retention.best_step(kept)
        dropped = []
        older = unpinned(self._folder, [each.step for each in kept[:-1]])
        for step in sorted(older, key=lambda step: (step == best, step)):
            if excess <= 0:
                break
            excess -= _folder_bytes(self._folder.checkpoint(step))
            dropped.append(step)
        return dropped

    def _forget_shared(self) -> None:
        """Delete shared files that no manifest refers to. One that cannot be read may refer to any of them."""
        place = self._folder.checkpoints / SHARED
        if not plain.entries(place):
            return
        used = self._listing.shared
        if used is None:
            return
        for path in plain.entries(place):
            if path.name.split(".")[0] not in used and plain.kind_of(path) == "file":
                durable.remove_file(path)

    def sweep(self) -> None:
        """Delete what killed writers left: temporary files, and checkpoint folders without a manifest."""
        durable.sweep_temporaries(self._folder.checkpoints)
        for path in folders(self._folder):
            names = os.listdir(path)  # noqa: PTH208 - thousands of folders, and a name is all that is asked
            if MANIFEST not in names:
                durable.remove_folder(path)
            elif any(name.startswith(layout.TEMPORARY) for name in names):
                durable.sweep_temporaries(path)
        durable.sweep_temporaries(self._folder.checkpoints / SHARED)
        self._listing.refresh()
        self._forget_shared()

    def _taken(self, more: int) -> int:
        """Bytes that the runs beside this one and itself take.

        Counted again from time to time, and when the limit is near.
        """
        own, now = self._listing.nbytes, time.monotonic()
        stale = self._counted is None or now - self._counted > _STALE
        if stale or self._beside + own + more > (self._allowance or 0):
            self._counted, self._beside = now, _folder_bytes(self._folder.path.parent) - own
        return self._beside + own

    def check_space(self, step: int, nbytes: int) -> None:
        """Refuse to write a checkpoint that finds no place, before anything of it is written; raises SaveFailed."""
        place = self._folder.path
        free, needed = shutil.disk_usage(place).free, nbytes + SPARE
        if self._allowance is not None:
            taken = self._taken(needed)
            if taken + needed > self._allowance:
                raise SaveFailed(
                    f"The checkpoint at step {step} needs {needed / 2**20:.0f} MiB, and of the "
                    f"{self._allowance / 2**20:.0f} MiB that "
                    f"this platform keeps, {place.parent} uses {taken / 2**20:.0f} MiB. Nothing was written and "
                    "earlier checkpoints are "
                    "intact. Keep fewer (open_run's keep, or --keep-last), or delete other runs."
                )
        if free < needed:
            raise SaveFailed(
                f"The checkpoint at step {step} needs {needed / 2**20:.0f} MiB and {place} has {free / 2**20:.0f} MiB "
                "free. Nothing was written and earlier checkpoints are intact. Free space, or keep fewer (open_run's "
                "keep, or --keep-last)."
            )


def _folder_bytes(folder: Path) -> int:
    total = 0
    for path in plain.plain_files(folder):
        with contextlib.suppress(FileNotFoundError):  # another run's file that has just been renamed
            total += path.lstat().st_size
    return total
