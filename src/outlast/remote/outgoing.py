"""The files of a run folder, opened to be pushed and cut into blobs."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from outlast.checkpoint import Checkpoint, read_manifest
from outlast.checkpoint.manifest import names_of
from outlast.errors import CorruptCheckpoint, UnsafeFolder
from outlast.folder import copying, durable, hashing, layout, plain
from outlast.folder.hashing import WrittenFile
from outlast.folder.layout import MANIFEST, RunFolder
from outlast.remote.base import PIECE
from outlast.remote.revision import BLOB, Blob, Files, PushedCheckpoint, blobs_of

SOON = 5.0
"""Seconds that a full disk waits at most for the readers of a deleted checkpoint."""


class PushAbandoned(Exception):
    """A push was given up: its checkpoint was deleted, or something else is more urgent."""


class Piece(NamedTuple):
    """A blob, a function that writes it to a file, and one that yields its bytes."""

    blob: Blob
    write: Callable[[Path], None]
    read: Callable[[], Iterator[bytes]]


class CheckpointFiles:
    """The open files of one checkpoint. They stay readable when retention deletes the checkpoint.

    Args:
        folder: the run folder.
        step: of the checkpoint.

    Attributes:
        pushed: its entry in a revision.

    Raises:
        CheckpointError: it was deleted, or is damaged.
    """

    def __init__(self, folder: RunFolder, step: int) -> None:
        self._lock = threading.Condition()  # held while a file is copied or closed
        self._open: dict[str, int] = {}
        self._read = 0  # files that are being read
        self._over = False
        self._checkpoint = checkpoint = read_manifest(folder.checkpoint(step))
        try:
            for name, written in _files_of(checkpoint).items():
                self._open[name] = _open(folder.checkpoints / name, written.size)
            self._manifest = plain.read_plain(checkpoint.path / MANIFEST)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError | UnsafeFolder):
                words = (error.strerror or error) if isinstance(error, OSError) else error
                raise CorruptCheckpoint(f"{checkpoint.path} cannot be read: {str(words).rstrip('.')}.") from error
            raise
        files: dict[str, list[Blob]] = {name: blobs_of(written) for name, written in _files_of(checkpoint).items()}
        self._manifest_name = f"{checkpoint.path.name}/{MANIFEST}"
        files[self._manifest_name] = blobs_of(hashing.hash_pieces([self._manifest]))
        self.pushed = PushedCheckpoint(checkpoint.digest, checkpoint.kept, files)

    def pieces(self) -> Iterator[Piece]:
        """Its blobs; those of the manifest are last."""
        for name, blobs in self.pushed.files.items():
            for number, blob in enumerate(blobs):
                yield self._piece(name, number * BLOB, blob)

    def _piece(self, name: str, start: int, blob: Blob) -> Piece:
        if name == self._manifest_name:
            return _piece_of(blob, self._manifest[start : start + blob.size])
        return Piece(
            blob,
            lambda path: self._copy(name, start, blob.size, path),
            lambda: self._pieces(name, start, blob.size),
        )

    def _copy(self, name: str, start: int, size: int, path: Path) -> None:
        with self._lock:
            copying.copy_scratch(self._descriptor(name), start, size, path)

    def _pieces(self, name: str, start: int, size: int) -> Iterator[bytes]:
        """Yield a part of a file. Between two pieces it may be given up."""
        with self._lock:
            descriptor = os.dup(self._descriptor(name))
            self._read += 1
        try:
            for at in range(start, start + size, PIECE):
                if self._over:
                    raise self._given_up()
                yield self._piece_at(descriptor, at, min(PIECE, start + size - at))
        finally:
            os.close(descriptor)
            with self._lock:
                self._read -= 1
                self._lock.notify_all()

    def _piece_at(self, descriptor: int, start: int, size: int) -> bytes:
        try:
            piece = os.pread(descriptor, size, start)
        except OSError as error:
            raise CorruptCheckpoint(f"{self._checkpoint.path} cannot be read: {error.strerror}.") from error
        if len(piece) != size:
            raise CorruptCheckpoint(f"{self._checkpoint.path} became shorter while it was read.")
        return piece

    def _descriptor(self, name: str) -> int:
        if name not in self._open:
            raise self._given_up()
        return self._open[name]

    def _given_up(self) -> PushAbandoned:
        return PushAbandoned(f"step {self._checkpoint.step} was given up, because its disk space was needed")

    def let_go(self) -> bool:
        """Close the files if they were deleted, so that their disk space is free; return whether they were."""
        with self._lock:
            deleted = any(not os.fstat(descriptor).st_nlink for descriptor in self._open.values())
        if deleted:
            self.close()
            with self._lock:  # those that read close their own descriptors before the next piece
                self._lock.wait_for(lambda: not self._read, SOON)
        return deleted

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            self._over = True
            while self._open:
                os.close(self._open.popitem()[1])


class RecordFiles:
    """The files of a run folder outside of `checkpoints/`: records, and files that grow (the journal, events).

    Args:
        folder: the run folder.
        known: their blobs in the newest revision.

    Attributes:
        files: their blobs as of the last complete `pieces`.
    """

    def __init__(self, folder: RunFolder, known: Files) -> None:
        self.files: dict[str, list[Blob]] = {}
        self._folder, self._known = folder, known
        self._kept: dict[str, list[Blob]] = {}
        self._states: dict[str, tuple[int, ...]] = {}
        self._read: dict[str, tuple[int, ...]] = {}

    def pieces(self) -> Iterator[Piece]:
        """Their new blobs. When the iterator is exhausted, `files` has the blobs of each file."""
        folder, numbers = self._folder, self._folder.attempt_numbers()
        self.files, self._read = {}, {}
        for name in ("run.json", "config.json", *(f"attempts/{layout.record_name(number)}" for number in numbers)):
            yield from self._whole(name)
        for name in (*(f"attempts/{folder.events(number).name}" for number in numbers), folder.journal.name):
            yield from self._growing(name)

    def keep(self) -> None:
        """Note that a revision has `files`: these blobs are in the remote."""
        self._kept, self._states = self.files, self._read

    def _whole(self, name: str) -> Iterator[Piece]:
        """The blobs of a record, which is replaced as a whole; read only after a change."""
        path = self._folder.path / name
        with contextlib.suppress(FileNotFoundError):
            self._read[name] = state = _state_of(path)
            if self._states.get(name) == state:
                self.files[name] = self._kept[name]
                return
            yield from _cut(plain.read_plain(path), self.files.setdefault(name, []))

    def _growing(self, name: str) -> Iterator[Piece]:
        """The new blobs of a file that is appended to. Blobs at its end are merged as it grows.

        Each blob is larger than all later ones together, or has the full size. So a file of n bytes has about log n
        blobs, and each byte is sent about log n times.
        """
        path = self._folder.path / name
        if plain.kind_of(path) != "file":
            return
        with os.fdopen(plain.open_plain(path), "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            blobs = self._still(name, file, size)
            start = sum(blob.size for blob in blobs)
            while blobs and blobs[-1].size <= size - start and size - start + blobs[-1].size <= BLOB:
                start -= blobs.pop().size
            self.files[name] = blobs
            file.seek(start)
            while start < size and (data := file.read(min(BLOB, size - start))):
                start += len(data)
                yield from _cut(data, blobs)

    def _still(self, name: str, file: io.FileIO, size: int) -> list[Blob]:
        """The known blobs that the beginning of the file still has."""
        if name in self._kept:
            return list(self._kept[name])
        still: list[Blob] = []
        for blob in self._known.get(name, ()):  # of an earlier attempt; the file may have been truncated since
            data = file.read(blob.size) if blob.size <= size else b""
            size -= blob.size
            if hashing.hash_pieces([data]).name != blob.hash:
                break
            still.append(blob)
        return still


def _files_of(checkpoint: Checkpoint) -> dict[str, WrittenFile]:
    """The files of a checkpoint but its manifest, by names relative to the folder of the checkpoints.

    The two copies of a shared file have the same blobs.
    """
    entries = checkpoint.manifest["files"].items()
    return {
        place: WrittenFile.from_json(entry)
        for name, entry in entries
        for place in names_of(checkpoint.path.name, name, entry)
    }


def _open(path: Path, size: int) -> int:
    descriptor = plain.open_plain(path)
    if (found := os.fstat(descriptor).st_size) != size:
        os.close(descriptor)
        raise CorruptCheckpoint(f"{path} has {found} bytes; the manifest says {size}.")
    return descriptor


def _cut(data: bytes, blobs: list[Blob]) -> Iterator[Piece]:
    """Cut data into blobs, and append them to a list."""
    for start in range(0, len(data), BLOB):
        part = data[start : start + BLOB]
        blobs.append(Blob(hashing.hash_pieces([part]).name, len(part)))
        yield _piece_of(blobs[-1], part)


def _piece_of(blob: Blob, data: bytes) -> Piece:
    """A blob whose bytes are in memory."""
    return Piece(blob, lambda path: durable.write_scratch(path, data), lambda: iter([data]))


def _state_of(path: Path) -> tuple[int, ...]:
    found = os.lstat(path)
    return (found.st_ino, found.st_size, found.st_mtime_ns)
