"""A remote in a folder: of a disk, a network share, or a data set that a platform has attached.

Objects are plain files below the folder. The folder itself may be a link, as mounts are; no link below it is followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import SplitResult, unquote

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from outlast.errors import ObjectConflict, ObjectMissing, OutlastError, RemoteRefused, RemoteUnavailable, UnsafeFolder
from outlast.folder import durable, layout, plain
from outlast.remote.base import (
    LONGEST_NAME,
    PIECE,
    Capabilities,
    Entry,
    ListingIncomplete,
    Pieces,
    Remote,
    Stat,
    check_name,
    digest_of,
)

LOCK = ".lock"
"""Held for a moment by whoever deletes an object or makes it young again."""

FORGOTTEN = 86400.0
"""Seconds after its last change after which an unfinished file is deleted."""

_TRANSIENT = {
    getattr(errno, name)
    for name in (
        "EAGAIN", "EBUSY", "ECONNRESET", "EHOSTDOWN", "EHOSTUNREACH", "EINTR", "ENETDOWN", "ENETUNREACH", "ESTALE",
        "ETIMEDOUT",
    )
    if hasattr(errno, name)
}  # fmt: skip


def open_at(location: SplitResult, options: dict[str, str], *, writes: bool) -> FolderRemote:  # noqa: ARG001
    """The folder of a `file://` URL."""
    if location.netloc not in ("", "localhost") or not location.path:
        raise RemoteRefused(f"{location.geturl()} is no folder of this machine; expected file:///FOLDER.")
    return FolderRemote(Path(unquote(location.path)), writes=writes)


class FolderRemote(Remote):
    """A folder as a remote.

    Its digest is SHA-256, for which an object is read back. Creating an object needs hard links, which FAT and some
    FUSE file systems have not; deleting one needs `flock`.

    Args:
        root: the folder; the first object makes it.
        writes: False for a place that is only read, such as a platform's input.
    """

    def __init__(self, root: Path, *, writes: bool = True) -> None:
        self.root, self._writes = root, writes
        self._swept: set[Path] = set()  # folders without forgotten files

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of this folder."""
        return Capabilities(
            writes=self._writes,
            exclusive_put=self._writes,
            conditional_delete=self._writes and fcntl is not None,
            digest="sha256",
        )

    def address(self, name: str = "") -> str:
        """The path of an object."""
        return str(self.root / name)

    def put_if_absent(self, name: str, file: Path | Pieces) -> bool:
        """Write a file, or pieces, under a name that nothing has yet, as `Remote.put_if_absent` says."""
        path = self._path(name)
        self._check_writes(name)
        while True:
            with self._explained(name), _makes(path):
                self._make(path.parent)
                self._sweep(path.parent)
                if plain.kind_of(path) is None:
                    with contextlib.suppress(FileExistsError):
                        durable.create_file(path, _pieces(file))
                        return True
            with contextlib.suppress(ObjectMissing):  # deleted a moment ago: write it after all
                self._freshen(name, path)
                if self._is_copy(name, path, file):
                    return False
                raise ObjectConflict(
                    f"{path} is another file than {file}: its contents differ. Nothing was written; choose another "
                    "name."
                )

    def link(self, name: str, target: Path) -> bool:
        """Give an object a second name in a folder, as `durable.link_file` does."""
        return durable.link_file(self._path(name), target)

    def get(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of an object, as `Remote.get` says."""
        if start < 0 or (stop is not None and stop < start):
            raise ValueError(f"bytes from {start} to {stop}; expected 0 <= start <= stop")
        with self._explained(name), os.fdopen(plain.open_plain(self._path(name)), "rb", buffering=0) as opened:
            size = os.fstat(opened.fileno()).st_size  # no more than that, even if someone lets it grow meanwhile
            left = (size if stop is None else min(stop, size)) - start
            opened.seek(start)
            while left > 0 and (piece := opened.read(min(PIECE, left))):
                left -= len(piece)
                yield piece

    def stat(self, name: str) -> Stat:
        """Read an object back, for its size and digest."""
        path = self._path(name)
        with self._explained(name):
            found = _entry(name, path)
            return Stat(**vars(found), digest=digest_of(path, self.capabilities.digest))

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the plain files below the folder whose names begin with a text."""
        with self._explained(prefix):
            unread: dict[str, str] = {}
            for name, path in self._names(prefix, unread):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    yield _entry(name, path)
            if unread:
                first = next(iter(unread))
                more = f", and {len(unread) - 1} more" if len(unread) > 1 else ""
                raise ListingIncomplete(
                    f"{self.address(first)}{more} cannot be read: {unread[first]}. Nothing was changed there.",
                    [*unread],
                )

    def delete_if_unchanged(self, name: str, generation: str) -> None:
        """Delete an object, if its file is still the one that was listed."""
        path = self._path(name)
        self._check_writes(name)
        if not self.capabilities.conditional_delete:
            raise RemoteRefused(
                f"{path} was not deleted: this system has no file locks, without which nothing is deleted safely."
            )
        with self._explained(name), self._locked():
            if _entry(name, path).generation != generation:
                raise ObjectConflict(f"{path} has changed since it was listed, and was not deleted. List it again.")
            durable.remove_file(path)
            durable.sync_folder(path.parent)

    def _path(self, name: str) -> Path:
        """The path of an object; no component above it is a link."""
        *folders, last = check_name(name).split("/")
        place = self.root
        for each in folders:
            place /= each
            if (kind := plain.kind_of(place)) not in ("folder", None):
                raise RemoteRefused(
                    f"{place} is a {kind} where a folder was expected; nothing was read or written through it."
                )
        return place / last

    def _names(self, prefix: str, unread: dict[str, str]) -> Iterator[tuple[str, Path]]:
        """Names that begin with a text and the paths of their plain files.

        Folders that cannot hold any are not looked into, nor those so deep that no name reaches into them. Those that
        cannot be read are added to `unread`, with the reason.
        """
        above, slash, _ = prefix.rpartition("/")
        waiting = [(above + slash, self._path(f"{above}/any").parent if above else self.root)]
        while waiting:
            above, folder = waiting.pop()
            try:
                with os.scandir(folder) as found:
                    each = [entry for entry in found if layout.is_plain(entry.name)]
            except FileNotFoundError:
                continue
            except PermissionError as error:
                if not above:
                    raise
                unread[above.rstrip("/")] = error.strerror or str(error)
                continue
            for entry in each:
                name = above + entry.name
                if not _is_name(name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    inside = f"{name}/"
                    if inside.startswith(prefix) or prefix.startswith(inside):
                        waiting.append((inside, folder / entry.name))
                elif entry.is_file(follow_symlinks=False) and name.startswith(prefix):
                    yield name, folder / entry.name

    def _sweep(self, folder: Path) -> None:
        """Delete the unfinished files of writers that were killed, once for each folder."""
        if folder in self._swept:
            return
        self._swept.add(folder)
        for path in plain.entries(folder):
            if path.name.startswith(layout.TEMPORARY) and plain.kind_of(path) == "file":
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - path.lstat().st_mtime > FORGOTTEN:
                        durable.remove_file(path)

    def _freshen(self, name: str, path: Path) -> None:
        """Let the age of an object start over; who had listed it for deletion does not delete it then."""
        with self._explained(name), self._locked():
            _entry(name, path)
            now = max(time.time_ns(), os.lstat(path).st_mtime_ns + 1)
            try:
                os.utime(path, ns=(now, now), follow_symlinks=False)
            except PermissionError:  # another user's file, whose time only that user may set
                durable.write_file(path, _pieces(path))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            descriptor = plain.open_plain(self.root / LOCK, os.O_RDWR | os.O_CREAT)
        except PermissionError:  # another user's, which is enough for a lock
            descriptor = plain.open_plain(self.root / LOCK)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _check_writes(self, name: str) -> None:
        if not self._writes:
            raise RemoteRefused(f"{self.address(name)} was not changed: {self.root} was attached to be read only.")

    def _make(self, folder: Path) -> None:
        """Make a folder of the remote, and those above it."""
        if self.root.is_symlink() and not self.root.exists():
            raise RemoteRefused(f"{self.root} is a link to what does not exist. Nothing was written.")
        durable.make_folder(folder)

    def _is_copy(self, name: str, path: Path, file: Path | Pieces) -> bool:
        """Whether an object has the contents of a file; both are read only if their sizes are the same."""
        try:
            size = file.size if isinstance(file, Pieces) else file.stat().st_size
        except OSError as error:
            raise _unreadable(file, error) from error
        if size != _entry(name, path).size:
            return False
        import hashlib

        hashed = hashlib.new(self.capabilities.digest)
        for piece in _pieces(file):
            hashed.update(piece)
        return self.stat(name).digest == hashed.hexdigest()

    @contextlib.contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """Errors of the system as those of a remote."""
        try:
            yield
        except FileNotFoundError as error:
            raise ObjectMissing(f"There is no {self.address(name)}.", str(error.strerror)) from error
        except UnsafeFolder as error:
            raise RemoteRefused(str(error)) from error
        except OSError as error:
            reason = error.strerror or str(error)
            kind = RemoteUnavailable if error.errno in _TRANSIENT else RemoteRefused
            raise kind(f"{self.address(name)}: {reason}. Nothing was changed there.", reason) from error


@contextlib.contextmanager
def _makes(path: Path) -> Iterator[None]:
    """What is missing while an object is made is not the object: its folder cannot be made, or was deleted."""
    try:
        yield
    except FileNotFoundError as error:
        raise RemoteRefused(
            f"{path} cannot be written: its folder cannot be made, or was deleted meanwhile ({error.strerror}). Is it "
            "the right place?",
            str(error.strerror),
        ) from error


def _is_name(name: str) -> bool:
    """Whether a path below the root is one that an object may have."""
    try:
        return len(name.encode()) <= LONGEST_NAME
    except UnicodeEncodeError:
        return False


def _entry(name: str, path: Path) -> Entry:
    if (kind := plain.kind_of(path)) not in ("file", None):
        raise RemoteRefused(f"{path} is a {kind} where a file was expected; nothing was read or written.")
    found = os.stat(path, follow_symlinks=False)  # noqa: PTH116
    return Entry(name, found.st_size, f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}", found.st_mtime)


def _pieces(file: Path | Pieces) -> Iterator[bytes]:
    if isinstance(file, Pieces):
        left = file.size
        for piece in file.read():
            left -= len(piece)
            yield piece
        if left:
            raise OutlastError(f"{-left if left < 0 else left} bytes {'too many' if left < 0 else 'are missing'}.")
        return
    try:
        with os.fdopen(plain.open_plain(file), "rb", buffering=0) as opened:
            while piece := opened.read(PIECE):
                yield piece
    except (OSError, UnsafeFolder) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: object, error: Exception) -> OutlastError:
    return OutlastError(
        f"{file} cannot be read: {getattr(error, 'strerror', None) or error}. Nothing was written to the remote."
    )
