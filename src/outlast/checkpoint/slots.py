"""The newest steps, where a killed process leaves them: files that are overwritten in turn and not fsynced.

    slots/0  slots/1    each like the folder of a checkpoint

The system's page cache keeps what a process wrote when the process is killed, and loses it when the machine stops. So a
slot is no checkpoint: it becomes one when the next attempt has verified every byte of it and made it durable. One slot
is whole while the other is overwritten.
"""

from __future__ import annotations

import time

from outlast.checkpoint import newest
from outlast.checkpoint.history import History, Identity
from outlast.checkpoint.manifest import Checkpoint, make_manifest, read_manifest
from outlast.checkpoint.reading import verify
from outlast.checkpoint.snapshot import Snapshot
from outlast.errors import CorruptCheckpoint, OutlastError, SaveFailed
from outlast.folder import durable, plain
from outlast.folder.layout import MANIFEST, STATE, TENSORS, RunFolder

_COUNT = 2


class Slots:
    """The slots of one run folder.

    Args:
        folder: the run folder.

    Attributes:
        step: the step of the newest state that was written; -1: none.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.step = -1
        self._folder = folder
        self._next = 0

    def write(self, snapshot: Snapshot, history: History | None) -> None:
        """Write a state over the older one. A power cut may leave it in pieces; a killed process does not.

        Args:
            snapshot: the state, of one rank and without shared files.
            history: the origin that its manifest records.

        Raises:
            OSError: it could not be written. The other slot is as it was.
        """
        begun, place = time.monotonic(), self._folder.slots / str(self._next)
        if plain.kind_of(place) != "folder":
            durable.remove_any(place)
            durable.make_folder(place)
        durable.remove_file(place / MANIFEST)  # from here on, what the slot held is gone
        contents = {f"{file.part}{TENSORS}": file.pieces() for file in snapshot.files}
        contents[STATE] = iter([durable.as_json(snapshot.state)])
        written = {name: durable.overwrite_file(place / name, each).as_json() for name, each in contents.items()}
        for path in plain.entries(place):
            if path.name not in written:  # of a part that is no more
                durable.remove_any(path)
        manifest = make_manifest(snapshot, written, time.monotonic() - begun, 1, history)
        durable.write_scratch(place / MANIFEST, durable.as_json(manifest))
        self.step, self._next = snapshot.step, (self._next + 1) % _COUNT

    def adopt(self, identity: Identity | None) -> str | None:
        """Make a checkpoint of the newest slot that continues the newest checkpoint, and delete the slots.

        Args:
            identity: the identity of the run; slots of other runs are not used.

        Returns:
            A sentence for the user; None if there is nothing to say.

        Raises:
            SaveFailed: it could not be made durable. The slots are as before.
        """
        if plain.kind_of(self._folder.slots) is None:
            return None
        committed = next(newest.newest_first(self._folder, identity), None)
        told = None
        for slot in self._found():
            if newest.complaint_of(slot, identity) or (committed and not _continues(slot, committed)):
                continue
            try:
                verify(slot.path)
            except CorruptCheckpoint as error:
                before = f"step {committed.step}" if committed else "nothing"
                told = (
                    f"The state of step {slot.step} was not on the disk yet when the machine stopped ({error}); "
                    f"the run goes on from {before}, which was saved."
                )
                continue
            try:
                self._keep(slot)
            except OSError as error:
                raise SaveFailed(
                    f"The attempt before was killed after step {slot.step}; its state was left whole in {slot.path} "
                    f"and could not be saved: {error.strerror or error}. Free disk space or check the folder's "
                    "permissions, and start again."
                ) from error
            told = f"The attempt before was killed after step {slot.step}; its state was left whole, and is saved now."
            break
        self.clear()
        return told

    def clear(self) -> None:
        """Delete the slots."""
        durable.remove_any(self._folder.slots)

    def _found(self) -> list[Checkpoint]:
        """The slots with a manifest that can be read, newest first."""
        found = []
        for path in plain.entries(self._folder.slots):
            try:
                found.append(read_manifest(path))
            except OutlastError:
                continue  # it was being overwritten
        return sorted(found, key=lambda slot: -slot.step)

    def _keep(self, slot: Checkpoint) -> None:
        target = self._folder.checkpoint(slot.step)
        durable.make_folder(self._folder.checkpoints)
        if plain.kind_of(target / MANIFEST):  # one that cannot be read; else the slot would be no newer than it
            newest.set_aside(self._folder, target)
        durable.remove_any(target)
        if plain.kind_of(self._folder.journal) == "file":
            durable.sync_file(self._folder.journal)
        durable.sync_file(slot.path)
        durable.sync_folder(slot.path)
        durable.move(slot.path, target)


def _continues(slot: Checkpoint, committed: Checkpoint) -> bool:
    return slot.step > committed.step and committed.is_ancestor_of(slot) is True
