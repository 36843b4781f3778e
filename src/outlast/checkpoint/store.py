"""The checkpoint store: commits checkpoints. Others: `manifest` (one of them), `newest` (lookup), `prune` (deletion).

It writes the data, then the manifest, then applies retention. A folder without a manifest is not a checkpoint. With
several ranks, rank 0 writes the one manifest after all ranks have written their files.

What reads and deletes checkpoints is imported when there may be one: a new run begins without.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outlast.config.units import is_finite
from outlast.distributed.ranks import Ranks
from outlast.errors import RankFailed, SaveFailed
from outlast.folder import durable, hashing, plain
from outlast.folder.layout import MANIFEST, SHARED, STATE, TENSORS, RunFolder
from outlast.folder.records import STATE_BYTES

if TYPE_CHECKING:
    from outlast.checkpoint.history import History, Identity
    from outlast.checkpoint.listing import Listing
    from outlast.checkpoint.manifest import Checkpoint
    from outlast.checkpoint.policy import CheckpointFacts, Retention
    from outlast.checkpoint.prune import Pruner
    from outlast.checkpoint.reading import OpenedCheckpoint
    from outlast.checkpoint.slots import Slots
    from outlast.checkpoint.snapshot import Snapshot
    from outlast.errors import CorruptCheckpoint


class CheckpointStore:
    """The checkpoints of one run folder.

    Args:
        folder: the run folder.
        retention: the retention policy, applied after each commit.
        allowance: bytes that this run folder and those beside it may use together. None: no limit but the disk.
        ranks: the ranks that write a checkpoint together. All of them call `commit` and `open_newest`.

    Attributes:
        identity: the identity of the run. Checkpoints of other runs are not used, counted or deleted. None: no check.
        history: the origin that manifests record; None: they record none.
        nbytes: bytes of the data of all checkpoints at the last commit or `look`.
        give_room: called before a save fails for lack of space; returns whether it released some.
        best: the best checkpoint by the retention policy's metric at the last commit or `look`; None if none logged it.
    """

    def __init__(
        self,
        folder: RunFolder,
        retention: Retention | None = None,
        allowance: int | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.folder, self.allowance, self._retention = folder, allowance, retention
        self.identity: Identity | None = None
        self.history: History | None = None
        self.nbytes = 0
        self.best: CheckpointFacts | None = None
        self.give_room: Callable[[], bool] = lambda: False
        self._ranks = ranks or Ranks()
        self._slots: Slots | None = None
        self._made: tuple[Listing, Pruner] | None = None
        self._making = threading.Lock()  # a commit may run in a thread of its own

    @property
    def retention(self) -> Retention:
        """The retention policy."""
        if self._retention is None:
            from outlast.checkpoint.policy import Retention

            self._retention = Retention()
        return self._retention

    @property
    def dropped(self) -> list[int]:
        """Steps of checkpoints that the retention policy keeps, deleted for lack of allowance.

        The caller empties this list.
        """
        return self._pruner.dropped

    @property
    def _listing(self) -> Listing:
        return self._tools()[0]

    @property
    def _pruner(self) -> Pruner:
        return self._tools()[1]

    def _tools(self) -> tuple[Listing, Pruner]:
        with self._making:
            if self._made is None:
                from outlast.checkpoint.listing import Listing
                from outlast.checkpoint.newest import complaint_of
                from outlast.checkpoint.prune import Pruner

                listing = Listing(
                    self.folder.checkpoints, self.retention, lambda found: complaint_of(found, self.identity) is None
                )
                self._made = listing, Pruner(self.folder, listing, self.retention, self.allowance)
            return self._made

    @property
    def slots(self) -> Slots:
        """What outlives a kill of this process besides checkpoints."""
        if self._slots is None:
            from outlast.checkpoint.slots import Slots

            self._slots = Slots(self.folder)
        return self._slots

    def adopt_slot(self) -> str | None:
        """Make a checkpoint of what a killed attempt left in its slots; returns a sentence about it for the user."""
        return None if plain.kind_of(self.folder.slots) is None else self.slots.adopt(self.identity)

    def _is_new(self) -> bool:
        """Whether nothing was ever saved in this folder."""
        return not self._ranks.several and plain.kind_of(self.folder.checkpoints) is None

    # writing ---------------------------------------------------------------------------------------------------

    def commit(
        self,
        snapshot: Snapshot,
        before: Callable[[], None] = lambda: None,
        durable: Callable[[], None] = lambda: None,
    ) -> Checkpoint:
        """Write a checkpoint durably, all or nothing. Then apply retention.

        Args:
            snapshot: the state to write. Each rank passes its own.
            before: makes the journal durable, because the checkpoint refers to it.
            durable: called when the checkpoint is durable. Older ones are deleted after it.

        Raises:
            SaveFailed: the checkpoint was not written. Nothing of it is visible and earlier checkpoints are intact.
        """
        from outlast.checkpoint import newest
        from outlast.checkpoint.manifest import Checkpoint, read_manifest

        step, ranks = snapshot.step, self._ranks
        target = self.folder.checkpoint(step)
        moment, existed = f"saving step {step}", ranks.is_main and newest.exists(self.folder, step)
        try:
            begun = time.monotonic()
            nbytes = sum(size for (size,) in ranks.all_gather_numbers(moment, snapshot.nbytes))
            here = ranks.together(moment, lambda: self._begin(step, nbytes, target, before))
            if ranks.all_gather_numbers(moment, here)[0] == (True,):
                durable()
                return read_manifest(target)
            entries = ranks.together(moment, lambda: self._write_data(snapshot, target))
            manifest = self._seal(moment, snapshot, target, entries, begun)
        except OSError as error:
            self._discard(target, existed=existed)
            raise SaveFailed(
                f"The checkpoint at step {step} ({snapshot.nbytes / 2**20:.1f} MiB) could not be written: "
                f"{error.strerror or error} ({target}). Earlier checkpoints are intact. Free disk space or check the "
                "folder's permissions."
            ) from error
        except RankFailed as error:
            self._discard(target, existed=existed)
            raise SaveFailed(
                f"The checkpoint at step {step} was not written, because another rank failed. Earlier checkpoints are "
                f"intact. {error}"
            ) from error
        except SaveFailed:
            self._discard(target, existed=existed)
            raise
        checkpoint = Checkpoint(target, manifest)
        self._listing.add(checkpoint)
        durable()
        with contextlib.suppress(OSError):  # the checkpoint is committed; the next commit deletes again
            if ranks.is_main:
                self._pruner.prune(nbytes)
                self._listing.settled()
            else:
                self._listing.refresh()
        self._reckon()
        return checkpoint

    def is_best(self, metrics: Mapping[str, Any], coming: Snapshot | None = None) -> bool:
        """Whether a step is better than every checkpoint, by the retention policy's metric.

        Args:
            metrics: what the step logged.
            coming: what is on its way to the disk, and counts as well.
        """
        keep = self.retention
        value = metrics.get(keep.metric or "")
        if not keep.best or not is_finite(value):
            return False
        from outlast.checkpoint.policy import CheckpointFacts

        known = [self.best] if self.best else []
        known += [CheckpointFacts(coming.step, dict(coming.metrics))] if coming else []
        return keep.is_new_best(value, known)

    def look(self) -> None:
        """Update the list of checkpoints. Only manifests that are new since the last look are read."""
        if self._made is None and self._is_new():
            return
        self._listing.refresh()
        self._reckon()

    def _reckon(self) -> None:
        self.best, self.nbytes = self._listing.best, self._listing.nbytes

    def _begin(self, step: int, nbytes: int, target: Path, before: Callable[[], None]) -> bool:
        """Prepare the folder for all ranks, and return whether the checkpoint exists already."""
        from outlast.checkpoint import newest

        before()
        if not self._ranks.is_main:
            return False
        self._listing.glance()
        try:
            self._pruner.check_space(step, nbytes)
        except SaveFailed:
            if not self.give_room():
                raise
            self._pruner.check_space(step, nbytes)
        durable.make_folder(self.folder.checkpoints)
        if newest.exists(self.folder, step):
            return True
        durable.remove_folder(target)  # left by a killed attempt; it has no manifest
        durable.make_folder(target)
        return False

    def _seal(
        self, moment: str, snapshot: Snapshot, target: Path, entries: Mapping[str, Any], begun: float
    ) -> Mapping[str, Any]:
        """Write the manifest after the files of all ranks are durable. Returns it on every rank."""
        from outlast.checkpoint.manifest import make_manifest

        written: dict[str, Any] = {}
        for each in self._ranks.all_gather(moment, json.dumps(entries).encode()):
            written |= json.loads(each)
        manifest = make_manifest(snapshot, written, time.monotonic() - begun, self._ranks.count, self.history)
        sealed = []

        def write() -> None:
            if self._ranks.is_main:
                durable.write_json(target / MANIFEST, manifest)
                sealed.append(True)

        try:
            self._ranks.together(moment, write)
        except RankFailed:
            if not sealed:
                raise
            # The checkpoint is committed, even if another rank died before it was notified.
        return manifest

    def forget(self) -> list[int]:
        """Apply retention, and return the deleted steps. Failures to delete are ignored."""
        self._listing.refresh()
        return self._pruner.prune(room=0)

    def sweep(self) -> None:
        """Delete temporary files and checkpoint folders without a manifest, which killed writers left."""
        if not self._is_new():
            self._pruner.sweep()

    # reading ---------------------------------------------------------------------------------------------------

    def committed(self) -> list[Checkpoint]:
        """Committed checkpoints with a readable manifest, ascending by step. Their data is not verified."""
        return list(self.newest_first())[::-1]

    def newest_step(self) -> int:
        """Step of the newest committed checkpoint; 0 if there is none."""
        return next((checkpoint.step for checkpoint in self.newest_first()), 0)

    def newest_first(self, passed: list[tuple[int, str]] | None = None) -> Iterator[Checkpoint]:
        """Committed checkpoints with a readable manifest, descending by step; see `newest.newest_first`."""
        from outlast.checkpoint import newest

        return newest.newest_first(self.folder, self.identity, passed)

    def exists(self, step: int) -> bool:
        """Whether this step has a checkpoint with a manifest."""
        from outlast.checkpoint import newest

        return newest.exists(self.folder, step)

    def open_newest(self) -> tuple[OpenedCheckpoint | None, list[CorruptCheckpoint]]:
        """Open the newest checkpoint that verifies, and set aside newer ones that do not; see `newest.open_newest`."""
        if self._is_new():
            return None, []
        from outlast.checkpoint import newest

        return newest.open_newest(self.folder, self.identity, self._ranks)

    def set_aside(self, path: Path) -> None:
        """Rename a folder of `checkpoints`, so that it is no longer used. Nothing is deleted."""
        from outlast.checkpoint import newest

        newest.set_aside(self.folder, path)

    # the files -------------------------------------------------------------------------------------------------

    def _write_data(self, snapshot: Snapshot, target: Path) -> dict[str, dict[str, Any]]:
        """Write all files of this rank durably, except the manifest. Returns their entries in the manifest."""
        entries: dict[str, dict[str, Any]] = {}
        own: list[tuple[str, Iterable[hashing.Buffer], bool]] = []
        mark = "" if self._ranks.is_main else f".rank-{self._ranks.rank:04d}"
        for file in snapshot.files:
            if file.shared:
                entries[f"{file.part}.{SHARED}{TENSORS}"] = self._write_shared(file.pieces, file.part)
            else:
                name = f"{file.part}{mark}{TENSORS}"
                own.append((name, file.pieces(), file.direct))
                entries[name] = {"part": file.part, "rank": self._ranks.rank} if mark else {}
        name = f"{Path(STATE).stem}{mark}{Path(STATE).suffix}"
        text = durable.as_json(snapshot.state)
        own.append((name, [text], False))
        if len(text) > STATE_BYTES:
            raise SaveFailed(
                f"The state of step {snapshot.step} without its arrays takes {len(text) / 2**20:.0f} MiB as JSON; the "
                f"limit is {STATE_BYTES / 2**20:.0f} MiB. Earlier checkpoints are intact. Keep large tables in arrays."
            )
        entries[name] = {"rank": self._ranks.rank} if mark else {}
        for name, written in durable.write_files(target, own).items():
            entries[name] |= written.as_json()
        durable.sync_folder(target)
        return entries

    def _write_shared(self, pieces: Callable[[], Iterator[hashing.Buffer]], part: str) -> dict[str, Any]:
        """Write a file and a second copy of it, named by its hash, unless they exist already.

        Two copies, because one damaged file would otherwise damage every checkpoint that refers to it.
        """
        from outlast.checkpoint.manifest import places_of

        expected = hashing.hash_pieces(pieces())
        place = self.folder.checkpoints / SHARED
        durable.make_folder(place)
        entry = {**expected.as_json(), "part": part, "shared": expected.name}
        for path in places_of(self.folder.checkpoints / "step", "", entry):
            if not (plain.kind_of(path) == "file" and path.stat().st_size == expected.size):
                durable.write_file(path, pieces(), durable_name=False, direct=True)
        durable.sync_folder(place)
        return entry

    @property
    def cut_off(self) -> bool:
        """Whether another rank has died, so that no further commit can succeed."""
        return self._ranks.broken

    def _discard(self, target: Path, *, existed: bool) -> None:
        if existed or not self._ranks.is_main:
            return
        try:
            durable.remove_folder(target)
        except OSError:
            return  # it has no manifest, so it is no checkpoint; the next attempt deletes it
