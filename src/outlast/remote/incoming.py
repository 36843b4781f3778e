"""Prepares incoming files in a temporary folder of the run folder, then renames them.

It is made ready and verified in a folder inside it, so that only renames are left to be done.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from outlast.checkpoint import Checkpoint, CheckpointStore, open_checkpoint, verify
from outlast.errors import CorruptCheckpoint, ObjectMissing, OutlastError, RemoteUnavailable, SaveFailed
from outlast.folder import durable, hashing, layout, plain
from outlast.folder.layout import MANIFEST, SHARED, RunFolder
from outlast.folder.schemas import CONFIG
from outlast.remote.merge import move_attempts
from outlast.remote.place import Place

TAIL_BYTES = 64 * 2**20  # bytes of a journal behind the checkpoint's that are copied with it
_INCOMING = f"{layout.TEMPORARY}coming"


class Incoming:
    """Files on their way into a run folder.

    Args:
        source: where they come from.
        target: the run folder.

    Attributes:
        ready: where they are made ready, in the form of a run folder.
    """

    def __init__(self, source: Place, target: RunFolder) -> None:
        self.source, self.target = source, target
        self.ready = RunFolder(target.path / _INCOMING)

    @contextlib.contextmanager
    def collect(self, what: str) -> Iterator[None]:
        """Let the body make files ready, then move them to their places.

        If it fails, nothing has changed and nothing is left.

        Args:
            what: comes, for the message, such as "Step 6".

        Raises:
            SaveFailed: there was no room, or another error of the system.
        """
        ready, target = self.ready, self.target
        try:
            durable.remove_any(ready.path)
            durable.make_folder(ready.checkpoints)
            durable.make_folder(ready.attempts)
            yield
            for folder in (target.checkpoints, target.attempts, target.set_aside):
                durable.make_folder(folder)
            if plain.entries(ready.checkpoints / SHARED):
                durable.make_folder(target.checkpoints / SHARED)
        except BaseException as error:
            with contextlib.suppress(OSError):
                durable.remove_any(ready.path)
            if isinstance(error, OSError):
                raise SaveFailed(
                    f"{what} could not be copied from {self.source.address()} to {target.path}: "
                    f"{error.strerror or error}. The run folder is unchanged. Free disk space or check the folder's "
                    "permissions, and start again."
                ) from error
            if isinstance(error, RemoteUnavailable):
                raise RemoteUnavailable(
                    f"{what} could not be copied: {error} {target.path} is unchanged. Start again.",
                    error.reason,
                ) from error
            raise
        self._move()

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Copy a checkpoint, or give its files second names, and read it; of one that does not verify nothing is left.

        Raises:
            CorruptCheckpoint: it does not verify.
        """
        ready = self.ready.checkpoint(checkpoint.step)
        with contextlib.suppress(CorruptCheckpoint):  # which the copy finds again, and names
            if self.source.link_checkpoint(checkpoint, self.ready.checkpoints):
                verify(ready)
                return
        durable.remove_folder(ready)
        try:
            self.source.copy_checkpoint(checkpoint, self.ready.checkpoints)
            verify(ready)
        except CorruptCheckpoint:
            durable.remove_folder(ready)
            raise

    def config(self) -> str | None:
        """Copy the config when there is one; returns what is wrong with it."""
        try:
            durable.write_json(self.ready.config, self.source.read_record("config.json", CONFIG))
        except ObjectMissing:
            return None
        except RemoteUnavailable:
            raise
        except OutlastError as error:
            return str(error)
        return None

    def journal(self, step: int) -> str | None:
        """Copy the journal; returns what is wrong when its beginning is not what the checkpoint at a step remembers."""
        folder = self.ready if plain.kind_of(self.ready.checkpoint(step)) else self.target
        mark: Mapping[str, Any] = open_checkpoint(folder.checkpoint(step), parts=()).state.journal
        size = int(mark["bytes"])
        try:
            self.source.copy("journal.jsonl", self.ready.journal, most=size + TAIL_BYTES)
        except CorruptCheckpoint as error:
            return str(error) if size else None
        journal = self.ready.journal
        if journal.stat().st_size >= size and hashing.hash_beginning(journal, size) == mark["xxh3_128"]:
            return None
        return (
            f"{self.source.address('journal.jsonl')} does not match its own checkpoint: it was damaged after it was "
            "written, or belongs to another run."
        )

    def _move(self) -> None:
        """Move what was verified to where it belongs; a checkpoint that is there is set aside and not deleted.

        The checkpoints come last, oldest first: what the one here remembers of the journal is the beginning of the new
            one, too.
        """
        ready, target = self.ready, self.target
        move_attempts(ready, target)
        for name in ("run", "config", "journal"):
            if plain.kind_of(getattr(ready, name)):
                durable.replace(getattr(ready, name), getattr(target, name))
        for path in plain.entries(ready.checkpoints / SHARED):
            durable.replace(path, target.checkpoints / SHARED / path.name)
        store = CheckpointStore(target)
        for path in plain.entries(ready.checkpoints):
            if layout.step_of(path) is None:
                continue
            place = target.checkpoints / path.name
            if plain.kind_of(place / MANIFEST) and plain.kind_of(place) == "folder":
                store.set_aside(place)
            durable.remove_folder(place)
            durable.move(path, place)
        durable.remove_any(ready.path)
