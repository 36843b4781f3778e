"""The committed checkpoints of one run, kept in memory by their writer.

A save must not read the manifests of all checkpoints before it, nor even look at each: with thousands of them that
would hold training. Each manifest is read once, and the folder is listed again only when someone else changed it. Only
what a save needs is kept of each, and the sums and the best are kept as checkpoints come and go.
"""

from __future__ import annotations

import bisect
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from outlast.checkpoint.manifest import Checkpoint, read_manifest
from outlast.checkpoint.policy import CheckpointFacts, Retention
from outlast.errors import CheckpointError
from outlast.folder import layout, plain
from outlast.folder.layout import MANIFEST


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry for one checkpoint.

    Attributes:
        kept: its step, and its value of the one metric that retention compares.
        own: bytes of the files that are its own.
        shared: name -> bytes of the files that others may refer to, too.
        counts: whether it is one of this run.
    """

    kept: CheckpointFacts
    own: int
    shared: dict[str, int]
    counts: bool


class Listing:
    """The contents of a folder of checkpoints.

    Args:
        place: the folder.
        retention: the policy by which it is kept small.
        counts: whether a checkpoint is one of this run; one that is not is never deleted, and what it refers to stays.
    """

    def __init__(self, place: Path, retention: Retention, counts: Callable[[Checkpoint], bool]) -> None:
        self._place, self._policy, self._counts = place, retention, counts
        self._found: dict[int, Entry] = {}  # ascending, as are all below
        self._own: dict[int, CheckpointFacts] = {}  # those of this run
        self._passing: dict[int, None] = {}  # of them, those that are not kept forever
        self._best: list[tuple[float, int]] = []  # as many as are kept for being the best, and one at least
        self._unreadable: set[int] = set()
        self._references: dict[str, tuple[int, int]] = {}  # shared file -> how many refer to it, its size
        self._bytes = 0
        self._seen: int | None = None

    # coming and going ------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look which checkpoints are there; the manifests of those that are new are read."""
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
        """Look again if someone else changed the folder since `settled`."""
        if self._seen is None or self._seen != self._changed():
            self.refresh()

    def settled(self) -> None:
        """Mark the listing as up to date with the folder."""
        self._seen = self._changed()

    def add(self, checkpoint: Checkpoint) -> None:
        """Note one that is committed."""
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
        if not last:  # rare: one that was brought here from elsewhere
            self._found, self._own, self._passing = (
                dict(sorted(self._found.items())),
                dict(sorted(self._own.items())),
                dict.fromkeys(sorted(self._passing)),
            )

    def drop(self, step: int) -> None:
        """Remove an entry that was deleted, or perhaps deleted: `refresh` reads it again if it exists."""
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

    # what is known ---------------------------------------------------------------------------------------------

    @property
    def kept(self) -> list[CheckpointFacts]:
        """The facts of this run's checkpoints for retention, ascending."""
        return list(self._own.values())

    @property
    def best(self) -> CheckpointFacts | None:
        """The best of them, None when none logged the metric."""
        return self._own[self._best[0][1]] if self._best else None

    @property
    def nbytes(self) -> int:
        """Bytes of the data of all checkpoints; a shared file counts twice, independent of its references."""
        return self._bytes + 2 * sum(size for _, size in self._references.values())

    @property
    def shared(self) -> set[str] | None:
        """Names of the shared files that are referred to.

        None when a manifest cannot be read, which may refer to any.
        """
        return None if self._unreadable else set(self._references)

    def removable(self) -> list[int]:
        """The result of `Retention.removable`, without a pass over the kept checkpoints."""
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
    """The steps that the folders in a folder are named for, in any order; a link is none."""
    if plain.kind_of(place) != "folder":
        return []
    try:
        with os.scandir(place) as found:
            return [
                step
                for each in found
                if (step := layout.step_in(each.name)) is not None and each.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:  # gone meanwhile
        return []
