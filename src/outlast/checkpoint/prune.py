"""Space on the disk: deletes checkpoints after a commit, and checks that the next one fits.

The retention policy is applied first, then the platform's allowance. An input of a later stage (`pins`) is never
deleted. Files that a killed writer left are deleted as well.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from outlast.checkpoint.listing import Listing
from outlast.checkpoint.newest import folders
from outlast.checkpoint.pins import unpinned
from outlast.checkpoint.policy import Retention
from outlast.errors import SaveFailed
from outlast.folder import durable, layout, plain
from outlast.folder.layout import MANIFEST, SHARED, RunFolder

SPARE = 16 * 2**20
"""Bytes that must stay free for the journal, the attempt record and the lock."""

_STALE = 60.0
"""Seconds after which the bytes of other runs are counted again."""


class Pruner:
    """Deletes checkpoints that are no longer needed.

    Args:
        folder: the run folder.
        listing: the list of checkpoints; it is updated.
        retention: the retention policy.
        allowance: bytes that this run folder and those beside it may use together. None: no limit but the disk.

    Attributes:
        dropped: steps of checkpoints that the retention policy keeps, deleted for lack of allowance. The
            caller empties this list.
    """

    def __init__(self, folder: RunFolder, listing: Listing, retention: Retention, allowance: int | None) -> None:
        self.dropped: list[int] = []
        self._folder, self._listing, self._retention, self._allowance = folder, listing, retention, allowance
        self._beside = 0  # bytes that are not data of checkpoints
        self._counted: float | None = None  # time of the last count

    def prune(self, room: int) -> list[int]:
        """Apply retention, and return the deleted steps. Failures to delete are ignored.

        Args:
            room: bytes that the next checkpoint will need. If the allowance has no room for it, older checkpoints are
                deleted although the policy keeps them. The newest is never deleted, and the best is deleted last.
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
                self._listing.refresh()  # the next commit tries again
                continue
            removed.append(step)
        self.dropped += [step for step in dropped if step in removed]
        if removed:
            self._forget_shared()
        return removed

    def _over_allowance(self, removable: Sequence[int], room: int) -> list[int]:
        assert self._allowance is not None  # noqa: S101 - the caller has checked it
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
        """Delete shared files that no manifest refers to; delete none if a manifest cannot be read."""
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
        """Delete temporary files and checkpoint folders without a manifest, which killed writers left."""
        durable.sweep_temporaries(self._folder.checkpoints)
        for path in folders(self._folder):
            names = os.listdir(path)  # noqa: PTH208 - faster for thousands of folders; only names are needed
            if MANIFEST not in names:
                durable.remove_folder(path)
            elif any(name.startswith(layout.TEMPORARY) for name in names):
                durable.sweep_temporaries(path)
        durable.sweep_temporaries(self._folder.checkpoints / SHARED)
        self._listing.refresh()
        self._forget_shared()

    def _taken(self, more: int) -> int:
        """Bytes that this run and those beside it use.

        They are counted again once a minute, and when the limit is near.
        """
        own, now = self._listing.nbytes, time.monotonic()
        stale = self._counted is None or now - self._counted > _STALE
        if stale or self._beside + own + more > (self._allowance or 0):
            self._counted, self._beside = now, _folder_bytes(self._folder.path.parent) - own
        return self._beside + own

    def check_space(self, step: int, nbytes: int) -> None:
        """Check that a checkpoint fits before any of it is written; raises SaveFailed."""
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
        with contextlib.suppress(FileNotFoundError):  # another run has just renamed this file
            total += path.lstat().st_size
    return total
