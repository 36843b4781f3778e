"""Sends the blobs and the revision of one push to a remote, and deletes what it does not need any more."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from outlast.config.units import format_bytes
from outlast.errors import ObjectConflict, ObjectMissing, RemoteUnavailable
from outlast.folder import durable
from outlast.remote.base import Entry, Pieces
from outlast.remote.folder import FolderRemote
from outlast.remote.outgoing import Piece
from outlast.remote.parallel import in_parallel
from outlast.remote.revision import BLOB, Blob, PushedRun

Sleep = Callable[[float], None]
"""Waits so many seconds; raises PushAbandoned to stop the present push."""

MOST = 2 * BLOB
"""Bytes of the blobs that are sent at a time: so much disk space do their copies take."""


class Sender:
    """Sends to one remote.

    Args:
        pushed: the run in the remote.
        scratch: a folder for copies of blobs; made and deleted here.
        rate: average rate limit in bytes per second; None: no limit.
        sleep: waits; called with 0 before each request.

    Attributes:
        put: hashes of blobs that are there for certain.
    """

    def __init__(self, pushed: PushedRun, scratch: Path, *, rate: float | None, sleep: Sleep) -> None:
        self.put: set[str] = set()
        self._pushed, self._remote, self._scratch = pushed, pushed.remote, scratch
        self._rate, self._sleep = rate, sleep
        self._batch: dict[str, Path] = {}  # names of blobs that are to become visible together, and their files

    @functools.cached_property
    def batches(self) -> bool:
        """Whether blobs become visible with the revision. Some remotes ask their service, so it is asked late."""
        return self._remote.capabilities.atomic_batch

    def begin(self) -> None:
        """Begin a push."""
        durable.remove_any(self._scratch)
        durable.make_folder(self._scratch)
        self._batch.clear()

    def close(self) -> None:
        """Delete the copies."""
        with contextlib.suppress(OSError):
            durable.remove_any(self._scratch)

    def show(self, name: str, data: bytes) -> bool:
        """Put a revision; returns False when something has its name already."""
        path, shown = self._scratch / "revision", True
        durable.write_scratch(path, data)
        try:
            if self.batches:
                self._remote.put_all_if_absent({**self._batch, name: path}, last=name)
            else:
                self._remote.put_if_absent(name, path)
        except ObjectConflict:
            shown = False
        self.put |= {found.removeprefix(self._pushed.blob_name()) for found in self._batch}
        return shown

    def send(self, pieces: Iterable[Piece]) -> None:
        """Put the blobs that the remote lacks, several at a time; with a rate limit, one at a time."""
        begun: set[str] = set()

        def lacking() -> Iterator[tuple[Piece, Path]]:
            for piece in pieces:
                if piece.blob.hash not in begun and piece.blob.hash not in self.put:
                    begun.add(piece.blob.hash)
                    yield piece, self._scratch / piece.blob.hash

        def size(each: tuple[Piece, Path]) -> int:
            return each[0].blob.size

        at_once = 1 if self._rate else None
        for _ in in_parallel(self._send_one, lacking(), at_once=at_once, size=size, most=MOST):
            pass

    def _send_one(self, each: tuple[Piece, Path]) -> None:
        (blob, write, read), path = each
        self._sleep(0)
        name = self._pushed.blob_name(blob.hash)
        if isinstance(self._remote, FolderRemote) and not self.batches:  # a copy takes as long as writing it
            put = functools.partial(self._remote.put_if_absent, name, Pieces(blob.size, read))
        else:
            self._copy(blob, write, path)
            self._sleep(0)
            put = functools.partial(self._remote.put_if_absent, name, path)
        if self.batches:  # it becomes visible with the revision
            self._batch[name] = path
            return
        begun = time.monotonic()
        try:
            put()
        except ObjectConflict:  # it was damaged in the remote: the same contents were made again
            for entry in self._remote.list(name):
                self.delete(entry)
            put()
        self.put.add(blob.hash)
        durable.remove_file(path)
        if self._rate:
            self._sleep(max(0.0, blob.size / self._rate - (time.monotonic() - begun)))

    def _copy(self, blob: Blob, write: Callable[[Path], None], path: Path) -> None:
        """Copy a blob to a file of its own, from which it is sent."""
        try:
            write(path)
        except OSError as error:  # of a write, which names no file
            reason = error.strerror or str(error)
            raise RemoteUnavailable(
                f"{format_bytes(blob.size)} of the run cannot be copied to {self._scratch}, from where they are sent: "
                f"{reason}. Free disk space there.",
                reason,
            ) from error

    def delete(self, entry: Entry, *, before: float = math.inf) -> bool:
        """Delete an object that is older than a time and has not changed since it was listed; return whether it was."""
        self._sleep(0)
        if entry.modified >= before:
            return False
        try:
            self._remote.delete_if_unchanged(entry.name, entry.generation)
        except (ObjectMissing, ObjectConflict):
            return False
        return True
