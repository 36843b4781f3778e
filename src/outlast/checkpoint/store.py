"""The store: commits checkpoints, finds the newest good one, forgets the others. What one of them is: `committed`.

It knows files and hashes. It does not know what a step means, nor any framework. Data first, then the manifest, then retention.
Without a manifest the folder does not count. With several ranks, rank 0 writes the one manifest when all of them are done.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from outlast.checkpoint.manifest import (
    SHARED,
    Checkpoint,
    Opened,
    make_manifest,
    open_checkpoint,
    places_of,
    read_manifest,
)
from outlast.checkpoint.history import History, Identity
from outlast.checkpoint.listing import Listing, steps_in
from outlast.checkpoint.policy import Kept, Retention
from outlast.checkpoint.snapshot import Committable, Snapshot
from outlast.distributed.ranks import Ranks
from outlast.errors import (
    ANOTHER_NAME,
    CheckpointError,
    CorruptCheckpoint,
    NoGoodCheckpoint,
    OutlastError,
    RankFailed,
    SaveFailed,
)
from outlast.folder import durable, hashing, layout, plain
from outlast.folder.layout import MANIFEST, STATE, TENSORS, RunFolder
from outlast.folder.records import STATE_BYTES

SPARE = 16 * 2**20
"""Bytes that must stay free beside a checkpoint: journal, attempt record, lock."""

_STALE = 60.0
"""Seconds after which the bytes that other runs take are counted again."""


class Store:
    """The checkpoints of one run folder.

    Args:
        folder: the run folder.
        retention: what to keep after each commit.
        allowance: bytes that the run folders beside this one and itself may take in all; None when only the disk limits them.
        ranks: who writes a checkpoint together; `commit` and `open_newest` are called by all of them.

    Attributes:
        dropped: steps of the checkpoints that the retention policy wanted and the allowance had no room for, since somebody
            emptied this list.
        identity: which run this is; checkpoints of another one are not used, counted or deleted. None: whatever lies there.
        history: what manifests say of where they come from; None: nothing.
        nbytes: bytes that the data of all checkpoints takes, as of the last commit or `look`.
        best: the best checkpoint by the retention policy's metric, as of then; None when none logged it.
    """

    def __init__(
        self,
        folder: RunFolder,
        retention: Retention | None = None,
        allowance: int | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.folder = folder
        self.dropped: list[int] = []
        self.identity: Identity | None = None
        self.history: History | None = None
        self._ranks = ranks or Ranks()
        self.allowance = allowance
        self.retention = retention or Retention()
        self.nbytes = 0
        self.best: Kept | None = None
        self._beside = 0  # bytes besides the checkpoints' data
        self._counted: float | None = None  # when
        self._listing = Listing(folder.checkpoints, self.retention, lambda found: self._foreign(found) is None)

    # writing ---------------------------------------------------------------------------------------------------

    def commit(
        self,
        state: Committable,
        before: Callable[[], None] = lambda: None,
        durable: Callable[[], None] = lambda: None,
    ) -> Checkpoint:
        """Write a checkpoint, durably and all or nothing, then apply retention.

        Args:
            state: what to write; of several ranks, each gives its own.
            before: makes durable what the checkpoint refers to: the journal.
            durable: called when nothing can take the checkpoint away any more; older ones are deleted after it.

        Raises:
            SaveFailed: it did not reach the disk. Nothing of it is visible and no earlier checkpoint was touched.
        """
        step, ranks = state.snapshot.step, self._ranks
        target = self.folder.checkpoint(step)
        moment, existed = f"saving step {step}", ranks.main and self.exists(step)
        try:
            begun = time.monotonic()
            nbytes = sum(size for (size,) in ranks.exchange(moment, state.nbytes))
            here = ranks.together(moment, lambda: self._begin(step, nbytes, target, before))
            if ranks.exchange(moment, here)[0] == (True,):
                durable()
                return read_manifest(target)
            entries = ranks.together(moment, lambda: self._write_data(state, target))
            manifest = self._seal(moment, state.snapshot, target, entries, begun)
        except OSError as error:
            self._discard(target, existed=existed)
            raise SaveFailed(
                f"The checkpoint at step {step} ({state.nbytes / 2**20:.1f} MiB) could not be written: "
                f"{error.strerror or error} ({target}). Earlier checkpoints are intact. Free disk space or check the folder's permissions."
            ) from error
        except RankFailed as error:
            self._discard(target, existed=existed)
            raise SaveFailed(
                f"The checkpoint at step {step} was not written, because another rank failed. Earlier checkpoints are intact. {error}"
            ) from error
        except SaveFailed:
            self._discard(target, existed=existed)
            raise
        checkpoint = Checkpoint(target, manifest)
        self._listing.add(checkpoint)
        durable()
        with contextlib.suppress(OSError):  # it is committed; deleting is tried again with the next one
            if ranks.main:
                self._forget(nbytes)
                self._listing.settled()
            else:
                self._listing.refresh()
        self._reckon()
        return checkpoint

    def look(self) -> None:
        """See which checkpoints are there; only of those that came since the last look is anything read."""
        self._listing.refresh()
        self._reckon()

    def _reckon(self) -> None:
        self.best, self.nbytes = self._listing.best, self._listing.nbytes

    def _begin(self, step: int, nbytes: int, target: Path, before: Callable[[], None]) -> bool:
        """Make the folder ready for all ranks; returns whether the checkpoint is there already."""
        before()
        if not self._ranks.main:
            return False
        self._listing.glance()
        self._check_space(step, nbytes)
        durable.make_folder(self.folder.checkpoints)
        if self.exists(step):
            return True
        durable.remove_folder(target)  # what a killed attempt may have left; it has no manifest
        durable.make_folder(target)
        return False

    def _seal(
        self, moment: str, snapshot: Snapshot, target: Path, entries: Mapping[str, Any], begun: float
    ) -> Mapping[str, Any]:
        """Write the manifest when the files of all ranks are durable; returns it on every rank."""
        written: dict[str, Any] = {}
        for each in self._ranks.gather(moment, json.dumps(entries).encode()):
            written |= json.loads(each)
        manifest = make_manifest(snapshot, written, time.monotonic() - begun, self._ranks.count, self.history)
        sealed = []

        def write() -> None:
            if self._ranks.main:
                durable.write_json(target / MANIFEST, manifest)
                sealed.append(True)

        try:
            self._ranks.together(moment, write)
        except RankFailed:
            if not sealed:
                raise
            # It is committed, whoever has not lived to hear of it.
        return manifest

    def forget(self) -> list[int]:
        """Delete what the retention policy no longer wants; returns the steps deleted. A failure to delete is no harm."""
        self._listing.refresh()
        return self._forget(room=0)

    def _forget(self, room: int) -> list[int]:
        """Apply retention.

        Args:
            room: bytes that the next checkpoint will take. Where the platform's allowance has no place for it, older ones go
                that the policy would keep; the newest stays, and the best as long as it can.
        """
        removable = self._listing.removable()
        dropped = []
        if self.allowance is not None and room:
            dropped = self._over_allowance(removable, room)
        removed = []
        for step in [*removable, *dropped]:
            self._listing.drop(step)
            try:
                durable.remove_folder(self.folder.checkpoint(step))
            except OSError:
                self._listing.refresh()  # what is left lies there until the next commit tries again
                continue
            removed.append(step)
        self.dropped += [step for step in dropped if step in removed]
        if removed:
            self._forget_shared()
        return removed

    def _over_allowance(self, removable: Sequence[int], room: int) -> list[int]:
        assert self.allowance is not None  # noqa: S101 - asked by the caller
        gone = sum(_folder_bytes(self.folder.checkpoint(step)) for step in removable)
        excess = self._taken(room + SPARE - gone) - gone + room + SPARE - self.allowance
        if excess <= 0:
            return []
        kept = [each for each in self._listing.kept if each.step not in set(removable)]
        best = self.retention.best_step(kept)
        dropped = []
        for step in sorted((each.step for each in kept[:-1]), key=lambda step: (step == best, step)):
            if excess <= 0:
                break
            excess -= _folder_bytes(self.folder.checkpoint(step))
            dropped.append(step)
        return dropped

    def _forget_shared(self) -> None:
        """Delete shared files that no manifest refers to. One that cannot be read may refer to any of them."""
        place = self.folder.checkpoints / SHARED
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
        durable.sweep_temporaries(self.folder.checkpoints)
        for path in self._folders():
            names = os.listdir(path)  # noqa: PTH208 - thousands of folders, and a name is all that is asked
            if MANIFEST not in names:
                durable.remove_folder(path)
            elif any(name.startswith(layout.TEMPORARY) for name in names):
                durable.sweep_temporaries(path)
        durable.sweep_temporaries(self.folder.checkpoints / SHARED)
        self._listing.refresh()
        self._forget_shared()

    # reading ---------------------------------------------------------------------------------------------------

    def committed(self) -> list[Checkpoint]:
        """Committed checkpoints with a readable manifest, ascending by step. Their data is not verified here."""
        return list(self.newest_first())[::-1]

    def newest_step(self) -> int:
        """Step of the newest committed checkpoint, 0 when there is none."""
        return next((checkpoint.step for checkpoint in self.newest_first()), 0)

    def newest_first(self, passed: list[tuple[int, str]] | None = None) -> Iterator[Checkpoint]:
        """Committed checkpoints with a readable manifest, descending by step; each manifest is read when it is asked for.

        Args:
            passed: takes the step of each that was passed over so far, and why. One that has no manifest was never committed.

        Raises:
            OutlastError: a newer outlast wrote one, and there is no `passed`.
        """
        for path in reversed(self._folders()):
            try:
                checkpoint = read_manifest(path)
            except OutlastError as error:
                if passed is None and not isinstance(error, CheckpointError):
                    raise  # a newer outlast wrote it
                complaint: str | None = str(error) if plain.kind_of(path / MANIFEST) else None
            else:
                complaint = self._foreign(checkpoint)
                if complaint is None:
                    yield checkpoint
            if complaint and passed is not None:
                passed.append((layout.step_of(path) or 0, complaint))

    def exists(self, step: int) -> bool:
        """Whether a checkpoint with a manifest stands at this step."""
        place = self.folder.checkpoint(step)
        return plain.kind_of(place) == "folder" and plain.kind_of(place / MANIFEST) is not None

    def open_newest(self) -> tuple[Opened | None, list[CorruptCheckpoint]]:
        """Open the newest checkpoint that verifies and set aside the damaged ones above it.

        Of several ranks, each reads what it needs, and a checkpoint is good when it is on all of them.

        Returns:
            The checkpoint, or None when there is none at all; and what was wrong with each that was set aside.

        Raises:
            NoGoodCheckpoint: there are checkpoints and none verifies; nothing was moved.
        """
        names = [path.name for path in reversed(self._folders()) if plain.kind_of(path / MANIFEST)]
        names = json.loads(self._ranks.from_main("opening the run", json.dumps(names).encode()))
        damaged: list[CorruptCheckpoint] = []
        for index, name in enumerate(names):
            complaint, opened = "", None
            try:
                opened = open_checkpoint(self.folder.checkpoints / name, mend=self._ranks.main, ranks=self._ranks)
                complaint = self._foreign(opened.checkpoint) or ""
            except CorruptCheckpoint as error:
                complaint = str(error)
            complaints = [each.decode() for each in self._ranks.gather("opening the run", complaint.encode()) if each]
            if complaints:
                damaged.append(CorruptCheckpoint(complaints[0]))
                continue
            for bad in names[:index] if self._ranks.main else ():
                self.set_aside(self.folder.checkpoints / bad)
            return opened, damaged
        if damaged:
            raise NoGoodCheckpoint(
                f"None of the {len(damaged)} checkpoints in {self.folder.checkpoints} verifies, so training does not start: "
                "going on would mean beginning again in silence.\n"
                + "\n".join(f"  {error}" for error in damaged)
                + "\nBring back an intact copy, or begin a new run under "
                + ANOTHER_NAME
                + "."
            )
        return None, []

    def _foreign(self, checkpoint: Checkpoint) -> str | None:
        """A sentence when a checkpoint is one of another run, which somebody put here."""
        return self.identity.complaint(checkpoint.manifest, checkpoint.path) if self.identity else None

    def _folders(self) -> Sequence[Path]:
        """Folders that are named like checkpoints; a link is none."""
        return [self.folder.checkpoint(step) for step in sorted(steps_in(self.folder.checkpoints))]

    def set_aside(self, path: Path) -> None:
        """Move a folder of `checkpoints` out of the way; nothing of it is lost."""
        durable.make_folder(self.folder.set_aside)
        number = 1
        while plain.kind_of(target := self.folder.set_aside / f"{path.name}-{number}"):
            number += 1
        durable.move(path, target)

    def _taken(self, more: int) -> int:
        """Bytes that the runs beside this one and itself take. Counted anew once in a while, and when so many more would be too many."""
        own, now = self._listing.nbytes, time.monotonic()
        stale = self._counted is None or now - self._counted > _STALE
        if stale or self._beside + own + more > (self.allowance or 0):
            self._counted, self._beside = now, _folder_bytes(self.folder.path.parent) - own
        return self._beside + own

    def _check_space(self, step: int, nbytes: int) -> None:
        place = self.folder.path
        free, needed = shutil.disk_usage(place).free, nbytes + SPARE
        if self.allowance is not None:
            taken = self._taken(needed)
            if taken + needed > self.allowance:
                raise SaveFailed(
                    f"The checkpoint at step {step} needs {needed / 2**20:.0f} MiB, and of the {self.allowance / 2**20:.0f} MiB that "
                    f"this platform keeps, {place.parent} has taken {taken / 2**20:.0f}. Nothing was written and earlier checkpoints are "
                    "intact. Keep fewer (open_run's keep, or --keep-last), or delete other runs."
                )
        if free < needed:
            raise SaveFailed(
                f"The checkpoint at step {step} needs {needed / 2**20:.0f} MiB and {place} has {free / 2**20:.0f} MiB "
                "free. Nothing was written and earlier checkpoints are intact. Free space, or keep fewer (open_run's keep, or --keep-last)."
            )

    def _write_data(self, state: Committable, target: Path) -> dict[str, dict[str, Any]]:
        """Write all files of this rank but the manifest, durably; returns what the manifest says of them."""
        entries: dict[str, dict[str, Any]] = {}
        own: list[tuple[str, Iterable[hashing.Buffer], bool]] = []
        mark = "" if self._ranks.main else f".rank-{self._ranks.rank:04d}"
        for file in state.files():
            if file.shared:
                entries[f"{file.part}.{SHARED}{TENSORS}"] = self._write_shared(file.pieces, file.part)
            else:
                name = f"{file.part}{mark}{TENSORS}"
                own.append((name, file.pieces(), file.direct))
                entries[name] = {"part": file.part, "rank": self._ranks.rank} if mark else {}
        name = f"{Path(STATE).stem}{mark}{Path(STATE).suffix}"
        text = durable.as_json(state.snapshot.state)
        own.append((name, [text], False))
        if len(text) > STATE_BYTES:
            raise SaveFailed(
                f"The state of step {state.snapshot.step} without its arrays takes {len(text) / 2**20:.0f} MiB as JSON, and {STATE_BYTES / 2**20:.0f} "
                "is the most that is read again. Earlier checkpoints are intact. Keep large tables in arrays."
            )
        entries[name] = {"rank": self._ranks.rank} if mark else {}
        for name, written in durable.write_files(target, own).items():
            entries[name] |= written.as_json()
        durable.sync_folder(target)
        return entries

    def _write_shared(self, pieces: Callable[[], Iterator[hashing.Buffer]], part: str) -> dict[str, Any]:
        """Write a file under the name of its contents, and a second copy; nothing when they are there already.

        Two, because a single damaged file would otherwise take every checkpoint with it.
        """
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
        """Whether another rank is gone, so that no commit will succeed any more."""
        return self._ranks.broken

    def _discard(self, target: Path, *, existed: bool) -> None:
        if existed or not self._ranks.main:
            return
        try:
            durable.remove_folder(target)
        except OSError:
            return  # without a manifest it does not count; the next attempt sweeps it


def _folder_bytes(folder: Path) -> int:
    total = 0
    for path in plain.plain_files(folder):
        with contextlib.suppress(FileNotFoundError):  # another run's file that has just been renamed
            total += path.lstat().st_size
    return total
