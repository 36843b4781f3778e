"""The one atomic write, and everything else that changes a run folder.

Every byte that outlast writes into a run folder goes through here (`copying` builds on it) or through
`tracking.journal`, so that the crash-point tests see every operation.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
from collections.abc import Iterable, Mapping
from json.encoder import encode_basestring as _escape
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from outlast.errors import UnsafeFolder
from outlast.folder import records
from outlast.folder.hashing import Buffer, WrittenFile, hash_pieces
from outlast.folder.layout import MANIFEST, TEMPORARY
from outlast.folder.plain import entries, kind_of, open_plain, plain_files

PAGE = 4096
"""What memory, offset and length must be multiples of to be written past the page cache (O_DIRECT)."""

_DIRECT = getattr(os, "O_DIRECT", 0)
_SCALARS = frozenset({str, int, float, bool, type(None)})
_FEW = 16  # items of a container for which the json module is not worth calling


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Windows cannot open folders; there the rename alone has to do."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network and FUSE file systems cannot
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, durably; nothing happens when it exists."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder)  # noqa: PTH102 - the crash harness counts os.* calls, and so does a reader
    sync_folder(folder.parent)


def write_file(path: Path, pieces: Iterable[Buffer], *, durable_name: bool = True, direct: bool = False) -> WrittenFile:
    """Write a file so that it exists under its name whole or not at all.

    Temporary name in the same folder, write, length check, fsync, rename, fsync of the folder.

    Args:
        path: the final name; an older file there is replaced.
        pieces: the contents, in order.
        durable_name: fsync the folder too; a caller that writes several files does it once itself.
        direct: write past the page cache where the file system can and pieces lie on page boundaries.

    Returns:
        Size and hashes of what was to be written (hashed from memory, so a disk that lies is found on reading).

    Raises:
        OSError: the file could not be written; nothing is left under `path` or under the temporary name.
    """
    (written,) = write_files(path.parent, [(path.name, pieces, direct)]).values()
    if durable_name:
        sync_folder(path.parent)
    return written


def write_files(folder: Path, contents: Iterable[tuple[str, Iterable[Buffer], bool]]) -> dict[str, WrittenFile]:
    """Write several files of one folder as `write_file` does, and fsync them together: that is cheaper than one by one.

    Args:
        folder: where; its fsync is left to the caller.
        contents: name, pieces, and whether to write past the page cache.

    Raises:
        OSError: one could not be written; none has got its name, and no temporary name is left. After the first rename,
            a later one that fails leaves the earlier ones.
    """
    begun: dict[str, int] = {}
    written: dict[str, WrittenFile] = {}
    try:
        try:
            for name, pieces, direct in contents:
                begun[name] = open_to_write(folder / f"{TEMPORARY}{name}", direct=direct)
                written[name] = _write_pieces(begun[name], pieces, folder / name)
            for descriptor in reversed(begun.values()):  # small ones, which come last, take the others' metadata along
                os.fsync(descriptor)
        finally:
            for descriptor in begun.values():
                os.close(descriptor)
        for name in begun:
            os.replace(folder / f"{TEMPORARY}{name}", folder / name)  # noqa: PTH105
    except BaseException:
        for name in begun:
            with contextlib.suppress(OSError):
                os.unlink(folder / f"{TEMPORARY}{name}")  # noqa: PTH108
        raise
    return written


def create_file(path: Path, pieces: Iterable[Buffer]) -> WrittenFile:
    """Write a file under a name that nothing has yet, whole or not at all.

    Of several writers of one name exactly one succeeds.

    As `write_file`, but a hard link gives the file its name, because a link is refused where the name is taken.

    Raises:
        FileExistsError: something has that name already; it was not changed.
        OSError: the file could not be written, or the file system has no hard links; nothing of it is left.
    """
    temporary = path.parent / f"{TEMPORARY}{os.urandom(16).hex()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        try:
            written = _write_pieces(descriptor, pieces, path)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.link(temporary, path)
    finally:
        remove_file(temporary)
    sync_folder(path.parent)
    return written


def link_file(source: Path, target: Path) -> bool:
    """Give a plain file of this user a second name; its contents are made durable, the name by the caller.

    For files that nobody changes in place. Returns False, and nothing has changed, if the file is of another user, who
    might; if the target's file system is another one; or if it has no hard links.
    """
    if not hasattr(os, "geteuid"):  # Windows
        return False
    try:
        descriptor = open_plain(source)
    except (UnsafeFolder, OSError):
        return False
    try:
        state = os.fstat(descriptor)
        if state.st_uid != os.geteuid() or state.st_dev != os.stat(target.parent).st_dev:  # noqa: PTH116
            return False
        os.fsync(descriptor)
        os.link(source, target)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    if os.path.samestat(state, os.lstat(target)):
        return True
    remove_file(target)  # something else has got the source's name meanwhile
    return False


def _write_pieces(descriptor: int, pieces: Iterable[Buffer], path: Path) -> WrittenFile:
    written = hash_pieces(pieces, lambda chunk: write_all(descriptor, chunk))
    found = os.fstat(descriptor).st_size
    if found != written.size:
        raise OSError(errno.EIO, f"wrote {written.size} bytes and the file system kept {found}", str(path))
    return written


def open_to_append(path: Path) -> int:
    """A new empty file, open for appending.

    What is there, a link or another name of a file elsewhere too, is deleted first.

    Raises:
        OSError: it cannot be made.
    """
    if kind_of(path):
        remove_any(path)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0), 0o644)


def write_scratch(path: Path, data: Buffer) -> None:
    """Write a file that nobody needs after a crash: under its name at once, and not fsynced."""
    descriptor = open_to_write(path)
    try:
        write_all(descriptor, memoryview(data))
    finally:
        os.close(descriptor)


def overwrite_file(path: Path, pieces: Iterable[Buffer]) -> WrittenFile:
    """Write over a file in place, without fsync: cheaper than a new file, whose pages the system has to find first.

    Only for files that are read with their hashes, because a power cut or a kill leaves a mixture of old and new.

    Raises:
        OSError: it could not be written whole.
    """
    if kind_of(path) and not (kind_of(path) == "file" and os.lstat(path).st_nlink == 1):
        remove_any(path)  # a link, or another name of a file elsewhere
    descriptor = open_plain(path, os.O_WRONLY | os.O_CREAT)
    try:
        written = hash_pieces(pieces, lambda chunk: write_all(descriptor, chunk))
        os.ftruncate(descriptor, written.size)
    finally:
        os.close(descriptor)
    return written


def write_json(path: Path, value: Mapping[str, Any], *, durable_name: bool = True) -> WrittenFile:
    """Write a JSON object with `write_file`. Keys keep their order; NaN is refused."""
    return write_file(path, [as_json(value)], durable_name=durable_name)


def as_json(value: Mapping[str, Any]) -> bytes:
    """The text of a JSON object as all our files have it; raises ValueError when nobody could read it again."""
    return (_lines(value) + "\n").encode()


def _lines(value: Any, depth: int = 0) -> str:
    """What json.dumps(value, indent=1) returns. The json module indents in Python, and takes several times as long.

    Args:
        value: the value.
        depth: number of containers around it.
    """
    if type(value) is int:
        return repr(value)
    if not isinstance(value, dict | list | tuple) or not value:
        return _encoder(0).encode(value)
    if depth > records.DEPTH:
        raise ValueError(records.TOO_DEEP)
    gap = "\n" + " " * (depth + 1)
    if len(value) > _FEW and _SCALARS.issuperset(map(type, value.values() if isinstance(value, dict) else value)):
        flat = _encoder(depth + 1).encode(value)  # its separator indents
        return flat[0] + gap + flat[1:-1] + gap[:-1] + flat[-1]
    if isinstance(value, dict):
        items = [
            f"{_escape(key) if type(key) is str else _key(key)}: "
            f"{_escape(each) if type(each) is str else _lines(each, depth + 1)}"
            for key, each in value.items()
        ]
        return "{" + gap + f",{gap}".join(items) + gap[:-1] + "}"
    items = [_escape(each) if type(each) is str else _lines(each, depth + 1) for each in value]
    return "[" + gap + f",{gap}".join(items) + gap[:-1] + "]"


@functools.cache
def _encoder(depth: int) -> json.JSONEncoder:
    return json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",\n" + " " * depth, ": "))


def _key(key: Any) -> str:
    """A key that is no text as text, as json.dumps writes it."""
    return _encoder(0).encode({key: 0})[1:].rpartition(":")[0]


def remove_file(path: Path) -> None:
    """Delete a file; one that is gone already is fine."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108


def remove_folder(folder: Path) -> None:
    """Delete a folder of files so that a crash in between leaves something that does not count as a checkpoint.

    The manifest goes first and durably; what remains is swept away by the next attempt.
    """
    if kind_of(folder) != "folder":
        remove_file(folder)  # a link is deleted, and what it points to is left alone
        return
    if kind_of(folder / MANIFEST):
        remove_any(folder / MANIFEST)
        sync_folder(folder)
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(folder.iterdir()):
            remove_any(path)
        os.rmdir(folder)  # noqa: PTH106


def remove_any(path: Path) -> None:
    """Delete a file, a link, or a folder with all that is in it; one that is gone already is fine."""
    if kind_of(path) != "folder":
        remove_file(path)
        return
    waiting, found = [path], []
    while waiting:  # no recursion: folders may be in each other a thousand deep
        found.append(waiting.pop())
        waiting += [each for each in entries(found[-1]) if kind_of(each) == "folder"]
    for folder in reversed(found):
        for each in entries(folder):
            remove_file(each)
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(folder)  # noqa: PTH106


def sync_file(path: Path) -> None:
    """Make the contents of a file, or of all files below a folder, durable."""
    for each in plain_files(path):
        descriptor = open_plain(each)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def move(source: Path, target: Path) -> None:
    """Rename within one file system, durably."""
    os.rename(source, target)  # noqa: PTH104
    sync_folder(target.parent)
    if source.parent != target.parent:
        sync_folder(source.parent)


def replace(source: Path, target: Path) -> None:
    """Rename a file over another one, or to where there is none, durably."""
    os.replace(source, target)  # noqa: PTH105
    sync_folder(target.parent)


def sweep_temporaries(folder: Path) -> None:
    """Delete what a killed writer left under temporary names, in this folder only."""
    for path in entries(folder):
        if path.name.startswith(TEMPORARY):
            remove_any(path)


def open_to_write(path: Path, *, direct: bool = False) -> int:
    """A new file, open for writing; what is there is deleted first.

    Args:
        path: the file.
        direct: write past the page cache where the file system can.
    """
    if kind_of(path):
        remove_any(
            path
        )  # left by a killed writer; or a link, or a second name of a file elsewhere, that someone put there
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    if direct and _DIRECT and fcntl:
        try:
            return os.open(path, flags | _DIRECT, 0o644)
        except OSError as error:
            if error.errno != errno.EINVAL:  # tmpfs and some others cannot
                raise
    return os.open(path, flags, 0o644)


def write_all(descriptor: int, chunk: memoryview) -> None:
    """Write all of a piece; the end of a direct write that is no whole page goes through the page cache."""
    while chunk:
        if _DIRECT and len(chunk) % PAGE and _is_direct(descriptor):
            whole = len(chunk) - len(chunk) % PAGE
            if whole:
                write_all(descriptor, chunk[:whole])
                chunk = chunk[whole:]
            _end_direct(descriptor)
        try:
            chunk = chunk[os.write(descriptor, chunk) :]
        except OSError as error:
            if error.errno != errno.EINVAL or not _is_direct(descriptor):
                raise
            _end_direct(descriptor)  # memory or offset are not on the boundaries that this file system wants


def _is_direct(descriptor: int) -> bool:
    return fcntl is not None and bool(_DIRECT and fcntl.fcntl(descriptor, fcntl.F_GETFL) & _DIRECT)


def _end_direct(descriptor: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) & ~_DIRECT)
