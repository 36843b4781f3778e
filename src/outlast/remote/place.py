"""A run in a remote.

What is read of it is bounded and typed, and what is copied is compared with its manifest meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from outlast.checkpoint import Checkpoint, Identity
from outlast.checkpoint.manifest import CHECKPOINTS, names_of, parse_manifest
from outlast.errors import (
    CheckpointError,
    CorruptCheckpoint,
    ObjectMissing,
    OutlastError,
    RemoteRefused,
    RemoteUnavailable,
)
from outlast.folder import durable, layout, plain, reading, records, schemas
from outlast.folder.hashing import WrittenFile
from outlast.folder.layout import MANIFEST, SHARED
from outlast.remote.base import Entry, ListingIncomplete
from outlast.remote.folder import FolderRemote

ATTEMPTS = "attempts"


class Source(Protocol):
    """What a place reads: as much of a remote as that takes."""

    def address(self, name: str = "") -> str:
        """Where a file is, for a person to read."""

    def get(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of a file."""

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the files whose names begin with a text."""


class Place:
    """A run in a remote: a folder of this machine, one that the platform has attached, a bucket.

    Every method raises RemoteUnavailable when the remote does not answer now.

    Args:
        remote: what holds it: a remote, or what looks like one.
        prefix: what its names there begin with, such as "NAME/".
        link: gives a file there a second name and returns whether it did, where that is as good as a copy.
    """

    def __init__(self, remote: Source, prefix: str = "", link: Callable[[str, Path], bool] | None = None) -> None:
        self.remote, self.prefix, self._link = remote, prefix, link

    @classmethod
    def at(cls, folder: Path, *, left: bool = False) -> Place:
        """A run folder of this machine.

        Args:
            folder: the run folder.
            left: whether a session has left it, so that nothing in it changes any more.
        """
        remote = FolderRemote(folder, writes=False)
        return cls(remote, link=remote.link if left else None)

    def address(self, name: str = "") -> str:
        """The address of the run, or of one of its files, for messages."""
        return self.remote.address((self.prefix + name).rstrip("/"))

    def read_record(self, name: str, kind: records.Check) -> dict[str, Any]:
        """One of its JSON records.

        Raises:
            ObjectMissing: there is none.
            CorruptCheckpoint: it is no record of this kind.
            OutlastError: a newer outlast wrote it.
        """
        return reading.parse_record(self._read(name), self.address(name), kind)

    def attempt_numbers(self) -> list[int]:
        """Numbers of its attempts, ascending."""
        found = (layout.number_in(entry.name.removeprefix(self._of(ATTEMPTS))) for entry in self._list(ATTEMPTS))
        return sorted(number for number in found if number is not None)

    def attempt(self, number: int) -> dict[str, Any]:
        """The record of an attempt; of a damaged one only that it is damaged."""
        try:
            name = f"{ATTEMPTS}/{layout.record_name(number)}"
            return self.read_record(name, schemas.ATTEMPT) | {"number": number}
        except (CorruptCheckpoint, ObjectMissing):
            return {"format": layout.FORMAT, "number": number, "damaged": True}

    def newest_first(
        self, identity: Identity | None = None, passed: list[tuple[int, str]] | None = None
    ) -> Iterator[Checkpoint]:
        """Its checkpoints with a readable manifest, descending by step; each manifest is read when it is asked for.

        Args:
            identity: which run it is; checkpoints of another one are passed over. None: whatever is there.
            passed: takes the step of each that was passed over so far, and why.

        Raises:
            OutlastError: a newer outlast wrote one, and there is no `passed`.
        """
        for step in sorted(self._steps(passed), reverse=True):
            folder = f"{CHECKPOINTS}/{layout.step_name(step)}"
            try:
                checkpoint = parse_manifest(self._read(f"{folder}/{MANIFEST}"), Path(self.address(folder)))
            except RemoteUnavailable:
                raise
            except OutlastError as error:
                if passed is None and not isinstance(error, CheckpointError):
                    raise
                complaint: str | None = str(error)
            else:
                complaint = identity.complaint(checkpoint.manifest, checkpoint.path) if identity else None
                if complaint is None:
                    yield checkpoint
            if complaint and passed is not None:
                passed.append((step, complaint))

    def copy(
        self,
        name: str,
        target: Path,
        *,
        expected: WrittenFile | None = None,
        most: int | None = None,
        durable_name: bool = True,
    ) -> None:
        """Copy one of its files durably, and compare it with what a manifest says of it while it comes.

        Args:
            name: of the file.
            target: its copy; an older one is replaced.
            expected: what it has to be.
            most: maximum number of bytes to copy, from its beginning.
            durable_name: fsync the folder too.

        Raises:
            CorruptCheckpoint: it cannot be read, or is not the expected one; nothing is left under the target's name.
            OSError: the copy could not be written.
        """
        stop = most if expected is None else expected.size + 1
        try:
            written = durable.write_file(
                target, self.remote.get(self.prefix + name, 0, stop), durable_name=durable_name
            )
        except RemoteRefused as error:
            raise CorruptCheckpoint(f"{self.address(name)} cannot be copied: {error}") from error
        if expected and written != expected:
            durable.remove_file(target)
            found = "more" if written.size > expected.size else written.size
            words = "other contents" if written.size == expected.size else f"{found} bytes"
            raise CorruptCheckpoint(
                f"{self.address(name)} has {words}; the manifest says {expected.size} bytes of known hashes. It was "
                "not copied."
            )

    def link_checkpoint(self, checkpoint: Checkpoint, checkpoints: Path) -> bool:
        """Give the data of a checkpoint that a session has left here second names, and copy its manifest.

        Nothing is compared: the caller reads it. Returns False if that cannot be; what was made then is left.
        """
        files = checkpoint.manifest["files"]
        if self._link is None or any("shared" in entry for entry in files.values()):
            return False
        folder = checkpoint.path.name
        durable.make_folder(checkpoints / folder)
        if not all(self._link(f"{CHECKPOINTS}/{folder}/{name}", checkpoints / folder / name) for name in files):
            return False
        self.copy(f"{CHECKPOINTS}/{folder}/{MANIFEST}", checkpoints / folder / MANIFEST)
        return True

    def copy_checkpoint(self, checkpoint: Checkpoint, checkpoints: Path) -> None:
        """Copy exactly the files that a manifest names, of all ranks, each compared with it.

        Args:
            checkpoint: which.
            checkpoints: the folder that is to hold it, and the files that it shares with others.

        Raises:
            CorruptCheckpoint: one of them is not what the manifest says; those that were copied before it are left.
        """
        folder = checkpoint.path.name
        durable.make_folder(checkpoints / folder)
        for name, entry in checkpoint.manifest["files"].items():
            expected = WrittenFile.from_json(entry)
            places = [f"{CHECKPOINTS}/{each}" for each in names_of(folder, name, entry)]
            if "shared" not in entry:
                self.copy(places[0], checkpoints / folder / name, expected=expected, durable_name=False)
                continue
            durable.make_folder(checkpoints / SHARED)
            for place in places:
                self._copy_shared(place, places, checkpoints / SHARED / place.rpartition("/")[2], expected)
        self.copy(f"{CHECKPOINTS}/{folder}/{MANIFEST}", checkpoints / folder / MANIFEST)

    def _copy_shared(self, name: str, copies: list[str], target: Path, expected: WrittenFile) -> None:
        """Copy one of two equal files; from the other one when it is damaged."""
        if plain.kind_of(target) == "file":
            return
        complaint = ""
        for each in (name, *copies):
            try:
                self.copy(each, target, expected=expected)
            except CorruptCheckpoint as error:
                complaint = complaint or str(error)
            else:
                return
        raise CorruptCheckpoint(f"{complaint} Its copy has the same problem.")

    def _read(self, name: str) -> bytes:
        most = records.RECORD_BYTES
        try:
            data = b"".join(self.remote.get(self.prefix + name, 0, most + 1))
        except ObjectMissing:
            raise
        except RemoteRefused as error:
            raise CorruptCheckpoint(str(error)) from error
        if len(data) > most:
            raise CorruptCheckpoint(
                f"{self.address(name)} has more than {most} bytes, the most that a file of its kind has."
            )
        return data

    def _steps(self, passed: list[tuple[int, str]] | None) -> set[int]:
        """Steps of the folders that have a manifest; `passed` takes those whose folder cannot be read."""
        above, steps = self._of(CHECKPOINTS), set[int | None]()
        try:
            for entry in self.remote.list(above):
                folder, _, name = entry.name.removeprefix(above).partition("/")
                if name == MANIFEST:
                    steps.add(layout.step_in(folder))
        except ListingIncomplete as error:
            closed = [layout.step_in(folder.removeprefix(above)) for folder in error.folders]
            if None in closed and not steps:  # not a checkpoint's own folder: nothing is known
                raise CorruptCheckpoint(str(error)) from error
            if passed is not None:
                passed += [(step, str(error)) for step in closed if step is not None]
        except RemoteRefused as error:
            raise CorruptCheckpoint(str(error)) from error
        return {step for step in steps if step is not None}

    def _of(self, folder: str) -> str:
        return f"{self.prefix}{folder}/"

    def _list(self, folder: str) -> Iterator[Any]:
        try:
            yield from self.remote.list(self._of(folder))
        except RemoteRefused as error:
            raise CorruptCheckpoint(str(error)) from error
