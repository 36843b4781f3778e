"""A list of the committed checkpoints of one run. The process that writes them keeps it in memory.

With thousands of checkpoints, a save that read all manifests, or even listed all folders, would delay training.
Therefore each manifest is read once, and the folder is listed again only if another process changed it. The list keeps
what a save needs of each checkpoint, and updates the sums and the best ones when a checkpoint is added or deleted.
"""

from __future__ import annotations

import bisect
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from outlast.checkpoint.manifest import Checkpoint, read_manifest
from outlast.checkpoint.policy import CheckpointFacts, Retention
from outlast.errors import CheckpointError
from outlast.folder import layout, plain
from outlast.folder.layout import MANIFEST


class Entry(NamedTuple):
    """One checkpoint in the list.

    Attributes:
        kept: its step, and its value of the metric that the retention policy compares.
        own: bytes of the files that only this checkpoint refers to.
        shared: name -> bytes of each file that other checkpoints may also refer to.
        counts: whether the checkpoint belongs to this run.
    """

    kept: CheckpointFacts
    own: int
    shared: dict[str, int]
    counts: bool


class Listing:
    """The list of the checkpoints in a folder.

    Args:
        place: the folder.
        retention: the retention policy.
        counts: whether a checkpoint belongs to this run. Other checkpoints, and the files that they refer to, are never
            deleted.
    """

    def __init__(self, place: Path, retention: Retention, counts: Callable[[Checkpoint], bool]) -> None:
        self._place, self._policy, self._counts = place, retention, counts
        self._found: dict[int, Entry] = {}  # ascending by step, as all below
        self._own: dict[int, CheckpointFacts] = {}  # checkpoints of this run
        self._passing: dict[int, None] = {}  # of those, the ones that retention may delete
        self._best: list[tuple[float, int]] = []  # the best ones: as many as retention keeps, and at least one
        self._unreadable: set[int] = set()
        self._references: dict[str, tuple[int, int]] = {}  # shared file -> number of references, size
        self._bytes = 0
        self._seen: int | None = None

    # changes ---------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """List the folder, and read the manifests of new checkpoints."""
        self._seen = self._changed()
        existing = set(steps_in(self._place))
        for step in self._found.keys() - existing:
            self.drop(step)
        self._unreadable &= existing
        for step in sorted(existing - self._found.keys() - self._unreadable):
            path = self._place / layout.step_name(step)
            try:
                self.add(read_manifest(path))
            except CheckpointError:
                if os.path.lexists(path / MANIFEST):
                    self._unreadable.add(step)

    def glance(self) -> None:
        """Call `refresh` if another process changed the folder since `settled`."""
        if self._seen is None or self._seen != self._changed():
            self.refresh()

    def settled(self) -> None:
        """Mark the listing as up to date with the folder."""
        self._seen = self._changed()

    def add(self, checkpoint: Checkpoint) -> None:
        """Add a checkpoint that was committed."""
        self.drop(checkpoint.step)
        entry, step = self._entry(checkpoint), checkpoint.step
        last = step > next(reversed(self._found), -1)
        self._found[step] = entry
        self._bytes += entry.own
        for name, size in entry.shared.items():
            self._references[name] = (self._references.get(name, (0, 0))[0] + 1, size)
        if entry.counts:
            self._own[step] = entry.kept
            if not (self._policy.every and step % self._policy.every == 0):
                self._passing[step] = None
            self._rank(entry.kept)
        if not last:  # rare: a checkpoint that was copied in from elsewhere
            self._found, self._own, self._passing = (
                dict(sorted(self._found.items())),
                dict(sorted(self._own.items())),
                dict.fromkeys(sorted(self._passing)),
            )

    def drop(self, step: int) -> None:
        """Remove the entry of a checkpoint that was deleted. If it still exists, `refresh` adds it again."""
        entry = self._found.pop(step, None)
        if entry is None:
            return
        self._bytes -= entry.own
        for name in entry.shared:
            count, size = self._references.pop(name)
            if count > 1:
                self._references[name] = (count - 1, size)
        self._own.pop(step, None)
        self._passing.pop(step, None)
        if any(step == each for _, each in self._best):
            self._best = []
            for kept in self._own.values():
                self._rank(kept)

    # queries ---------------------------------------------------------------------------------------------------

    @property
    def kept(self) -> list[CheckpointFacts]:
        """This run's checkpoints, as retention needs them, ascending by step."""
        return list(self._own.values())

    @property
    def best(self) -> CheckpointFacts | None:
        """The best checkpoint of this run, None if none logged the metric."""
        return self._own[self._best[0][1]] if self._best else None

    @property
    def nbytes(self) -> int:
        """Bytes of the data of all checkpoints. A shared file counts twice, because it has a copy."""
        return self._bytes + 2 * sum(size for _, size in self._references.values())

    @property
    def shared(self) -> set[str] | None:
        """Names of the shared files that checkpoints refer to.

        None if a manifest cannot be read, because it may refer to any of them.
        """
        return None if self._unreadable else set(self._references)

    def removable(self) -> list[int]:
        """As `Retention.removable`, without a loop over all checkpoints."""
        if len(self._own) <= self._policy.last:
            return []
        oldest_of_last = list(self._own)[-self._policy.last]
        best = {step for _, step in self._best[: self._policy.best]}
        found = []
        for step in self._passing:
            if step >= oldest_of_last:
                break
            if step not in best:
                found.append(step)
        return found

    def _rank(self, kept: CheckpointFacts) -> None:
        value = self._policy.value_of(kept.metrics)
        if math.isnan(value):
            return
        bisect.insort(self._best, (-value if self._policy.mode == "max" else value, kept.step))
        del self._best[max(1, self._policy.best) :]

    def _entry(self, checkpoint: Checkpoint) -> Entry:
        entries = checkpoint.manifest["files"].values()
        shared = {str(entry["shared"]): int(entry["size"]) for entry in entries if "shared" in entry}
        own = sum(int(entry["size"]) for entry in entries if "shared" not in entry)
        names = {self._policy.metric, *self._policy.former}
        kept = CheckpointFacts(
            checkpoint.step, {name: value for name, value in checkpoint.metrics.items() if name in names}
        )
        return Entry(kept, own, shared, self._counts(checkpoint))

    def _changed(self) -> int | None:
        try:
            return self._place.stat().st_mtime_ns
        except FileNotFoundError:
            return None


def steps_in(place: Path) -> list[int]:
    """The steps that the names of the checkpoint folders give, in any order. Links are ignored."""
    if plain.kind_of(place) != "folder":
        return []
    try:
        with os.scandir(place) as found:
            return [
                step
                for each in found
                if (step := layout.step_in(each.name)) is not None and each.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:  # deleted meanwhile
        return []
