"""Lists a folder without following links, and without blocking on special files."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from outlast.errors import CorruptCheckpoint, UnsafeFolder
from outlast.folder import records

# O_NOFOLLOW: a link where a file of ours should be is refused. O_NONBLOCK: so is a FIFO, and without waiting for its
# other end.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def kind_of(path: Path) -> str | None:
    """In a word what is at a path.

    The word is of the path itself and not of what it may point to: "file", "folder", "link", "special file". None:
    nothing.
    """
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "special file"


def entries(folder: Path) -> list[Path]:
    """The entries of a folder, by name; none if it is a link, not a folder, or deleted."""
    if kind_of(folder) != "folder":
        return []
    with contextlib.suppress(FileNotFoundError):
        return sorted(folder.iterdir())
    return []


def open_plain(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a file that must be a plain one of our own; never waits, and follows no link.

    Raises:
        UnsafeFolder: it is a link, a folder or a special file.
        OSError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | _NO_LINK, 0o644)
    except OSError as error:
        kind = kind_of(path)
        if kind in (None, "file"):
            raise
        raise UnsafeFolder(f"{path} is a {kind} where a file was expected; it was not opened.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnsafeFolder(f"{path} is a {kind_of(path)} where a file was expected; nothing was read or written.")
    return descriptor


def read_plain(path: Path, most: int = records.RECORD_BYTES) -> bytes:
    """All of a plain file of bounded size.

    Raises:
        FileNotFoundError: there is none.
        CorruptCheckpoint: it is a link or special file, too large, or cannot be read.
    """
    try:
        descriptor = open_plain(path)
    except FileNotFoundError:
        raise
    except UnsafeFolder as error:
        raise CorruptCheckpoint(str(error)) from error
    except OSError as error:
        raise CorruptCheckpoint(f"{path} cannot be read: {error.strerror}.") from error
    with os.fdopen(descriptor, "rb") as file:
        try:
            size = os.fstat(descriptor).st_size
            data = file.read(most + 1) if size <= most else b""
        except OSError as error:
            raise CorruptCheckpoint(f"{path} cannot be read: {error.strerror}.") from error
    if size > most or len(data) > most:
        raise CorruptCheckpoint(f"{path} has {size} bytes; a file of its kind has at most {most}.")
    return data


def plain_files(path: Path) -> list[Path]:
    """The file itself, or all plain files below a folder, by name.

    Links are not followed, and special files are not among them.
    """
    return [each for each, kind in _below(path) if kind == "file"]


def strange_files(path: Path) -> list[Path]:
    """Links and special files below a folder, or the folder itself when it is one; what `plain_files` leaves out."""
    return [each for each, kind in _below(path) if kind not in ("file", None)]


def _below(path: Path) -> list[tuple[Path, str | None]]:
    if kind_of(path) != "folder":
        return [(path, kind_of(path))]
    waiting, found = [path], []
    while waiting:
        for each in entries(waiting.pop()):
            kind = kind_of(each)
            if kind == "folder":
                waiting.append(each)
            else:
                found.append((each, kind))
    return sorted(found)
