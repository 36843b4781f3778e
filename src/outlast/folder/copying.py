"""Copies plain files, durably or as scratch; no link is followed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from outlast.errors import CorruptCheckpoint, UnsafeFolder
from outlast.folder import durable
from outlast.folder.hashing import CHUNK, WrittenFile
from outlast.folder.plain import kind_of, open_plain, plain_files


def copy_file(
    source: Path,
    target: Path,
    *,
    expected: WrittenFile | None = None,
    durable_name: bool = True,
    most: int | None = None,
) -> None:
    """Copy a plain file as `write_file` writes one, and compare it with what a manifest says of it.

    Args:
        source: the file.
        target: its copy; an older one is replaced.
        expected: what it has to be.
        durable_name: fsync the folder too.
        most: maximum number of bytes to copy, from its beginning.

    Raises:
        CorruptCheckpoint: the source is no plain file, or not the expected one; nothing is left under the target's
            name.
        OSError: the copy could not be written.
    """
    try:
        descriptor = open_plain(source)
    except (UnsafeFolder, OSError) as error:
        raise CorruptCheckpoint(f"{source} cannot be copied: {error}") from error
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        if expected and size != expected.size:
            raise CorruptCheckpoint(f"{source} has {size} bytes; the manifest says {expected.size}.")

        def pieces() -> Iterator[bytes]:
            left = (
                size if most is None else min(size, most)
            )  # no more than that, even if someone lets it grow meanwhile
            while left and (piece := file.read(min(CHUNK, left))):
                left -= len(piece)
                yield piece

        written = durable.write_file(target, pieces(), durable_name=durable_name)
    if expected and written != expected:
        durable.remove_file(target)
        raise CorruptCheckpoint(f"{source} does not match the manifest; it was not copied.")


def copy_tree(source: Path, target: Path) -> list[str]:
    """Copy the plain files below a folder, over those of the same names; no link is followed or written through.

    Returns:
        A sentence for each file that was not copied because a link or a file stands where its folder should be.
    """
    left = []
    for path in plain_files(source) if kind_of(source) == "folder" else []:
        inside = path.relative_to(source)
        above = [target, *(target.joinpath(*inside.parts[:depth]) for depth in range(1, len(inside.parts)))]
        blocked = next((each for each in above if kind_of(each) not in ("folder", None)), None)
        if blocked or kind_of(target / inside) == "folder":
            left.append(
                f"{inside} was not copied: {blocked or target / inside} is a {kind_of(blocked or target / inside)}."
            )
            continue
        durable.make_folder((target / inside).parent)
        copy_file(path, target / inside)
    return left


def copy_scratch(source: int, start: int, size: int, path: Path) -> None:
    """Copy a part of an open file to one that nobody needs after a crash; not fsynced.

    Args:
        source: descriptor of the file.
        start: first byte of the part.
        size: its length.
        path: the copy; an older one is replaced.

    Raises:
        OSError: it could not be read or written, or the file ends before the part does.
    """
    descriptor = durable.open_to_write(path)
    try:
        end = start + size
        while start < end:
            count = _copy_some(source, start, min(CHUNK, end - start), descriptor)
            if not count:
                raise OSError(errno.EIO, "the file ended early while it was read", str(path))
            start += count
    finally:
        os.close(descriptor)


def _copy_some(source: int, start: int, size: int, target: int) -> int:
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(source, target, size, start)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EXDEV, errno.EPERM):
                raise
    os.lseek(source, start, os.SEEK_SET)
    data = os.read(source, size)
    durable.write_all(target, memoryview(data))
    return len(data)
