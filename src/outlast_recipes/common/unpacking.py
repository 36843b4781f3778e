"""Unpacks an archive that came from elsewhere. Nothing in it is believed: neither paths, nor sizes, nor kinds.

Only folders and regular files are made, below a new folder that appears whole or not at all. Links, devices, paths that
leave the folder, names that collide, and more bytes or files than are allowed refuse the whole archive.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import outlast

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MOST_FILES = 1_000_000

_PIECE = 2**20
_HEADER = 2**24  # bytes that are read at once at most
_LONGEST = 240  # bytes of a name, which every file system takes
_DEEPEST = 100  # folders in each other
_BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError,
    ValueError, OverflowError,
)  # fmt: skip
_RESERVED = {"con", "prn", "aux", "nul", *(f"{name}{number}" for name in ("com", "lpt") for number in range(1, 10))}


@dataclass(frozen=True)
class Member:
    """One file of an archive.

    Attributes:
        name: as the archive states it.
        size: bytes, as the archive states them.
        kind: "file", "folder", or what else it is.
        open: opens it for reading.
    """

    name: str
    size: int
    kind: str
    open: Callable[[], IO[bytes] | None]


def is_archive(name: str) -> bool:
    """Whether a file of this name is unpacked."""
    return name.lower().endswith(SUFFIXES)


def unpack(archive: Path, folder: Path, *, most: int, progress: Callable[[int, int], None] = lambda *_: None) -> int:
    """Unpack an archive into a new folder; returns the number of its files.

    Args:
        archive: a file with one of `SUFFIXES`.
        folder: it must not exist, or be empty.
        most: bytes of all files together.
        progress: hears how many bytes were written, of how many the archive states.

    Raises:
        outlast.DataError: the archive is damaged, or states or holds what is not unpacked; the folder is not empty or
            cannot be written. Nothing was made then.
    """
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise outlast.DataError(f"{folder} exists already and is not empty. Nothing was unpacked. Name a new folder.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as place:
            whole = Path(place) / "data"
            whole.mkdir()
            count = _unpack(archive, whole, most, progress)
            if not count:
                raise outlast.DataError(f"{archive} holds no file. Nothing was unpacked.")
            if folder.exists():
                folder.rmdir()
            whole.replace(folder)
    except (*_BROKEN, OSError) as error:
        if not isinstance(error, OSError) or error.errno is None:  # gzip and bz2 raise OSError for bad data
            words = str(error) or type(error).__name__
            raise outlast.DataError(
                f"{archive} cannot be unpacked: {words}. It is damaged, or no such archive."
            ) from error
        raise outlast.DataError(
            f"{folder} cannot be written: {error.strerror or error}. Free space, or name another folder."
        ) from error
    return count


def _unpack(archive: Path, whole: Path, most: int, progress: Callable[[int, int], None]) -> int:
    files: set[str] = set()
    folders: set[str] = set()
    done = 0
    with _opened(archive) as (members, stated):
        if stated > most:
            raise _refused(archive, archive.name, f"states {stated:,} bytes, more than the {most:,} of --most")
        for member in members:
            if member.kind not in ("file", "folder"):
                raise _refused(archive, member.name, f"is {member.kind}; expected files and folders alone")
            path = _below(archive, member.name)
            if path is None:
                continue  # the folder itself
            key = path.as_posix().casefold()
            parents = {parent.as_posix().casefold() for parent in path.parents if parent.parts}
            if key in files or parents & files or (member.kind == "file" and key in folders):
                raise _refused(archive, member.name, "collides with another of its names")
            folders |= parents
            if member.kind == "folder":
                folders.add(key)
                (whole / path).mkdir(parents=True, exist_ok=True)
                continue
            files.add(key)
            if len(files) > MOST_FILES:
                raise _refused(archive, member.name, f"is one of more than {MOST_FILES:,} files")
            (whole / path).parent.mkdir(parents=True, exist_ok=True)
            for size in _copied(archive, member, whole / path, most - done):
                done += size
                if stated:
                    progress(done, max(done, stated))
    return len(files)


def _copied(archive: Path, member: Member, target: Path, left: int) -> Iterator[int]:
    """Write one file, and yield the bytes of each piece; it ends when there are more than stated or allowed."""
    source, written = member.open(), 0
    if source is None:
        raise _refused(archive, member.name, "has no content")
    with source, target.open("xb") as file:
        while piece := source.read(_PIECE):
            written += len(piece)
            if written > left:
                raise _refused(archive, member.name, "makes it larger than --most allows")
            file.write(piece)
            yield len(piece)
    if written != member.size:
        raise _refused(archive, member.name, f"has {written:,} bytes, and {member.size:,} are stated for it")


def _below(archive: Path, name: str) -> Path | None:
    """The path of a member below the folder; None for the folder itself."""
    parts = PurePosixPath(name)
    wrong = (
        len(parts.parts) > _DEEPEST
        or not name
        or name.startswith("/")
        or "\\" in name
        or any(ord(letter) < 32 for letter in name)
    )
    for part in parts.parts:
        stem = part.partition(".")[0].strip().casefold()
        wrong = wrong or part == ".." or ":" in part or stem in _RESERVED or part[-1] in " ."
        wrong = wrong or len(part.encode("utf-8", "surrogateescape")) > _LONGEST
    if wrong:
        raise _refused(archive, name, "is no path below a folder that every system can have")
    return Path(*parts.parts) if parts.parts else None


def _refused(archive: Path, name: str, words: str) -> outlast.DataError:
    return outlast.DataError(f"{archive}: {name[:200]!r} {words}. Nothing was unpacked.")


class _opened:  # noqa: N801 - used as a function
    """The members of an archive, and the bytes that it states for all of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._archive: zipfile.ZipFile | tarfile.TarFile
        self._stream: _Stream | None = None

    def __enter__(self) -> tuple[Iterator[Member], int]:
        if self._path.name.lower().endswith(".zip"):
            packed = self._archive = zipfile.ZipFile(self._path)
            infos = packed.infolist()
            return (_of_zip(packed, info) for info in infos), sum(info.file_size for info in infos)
        self._stream = _Stream(_OPENERS.get(self._path.suffix.lower(), _plain)(self._path))
        archive = self._archive = tarfile.open(fileobj=self._stream, mode="r:")  # type: ignore[call-overload]
        return (_of_tar(archive, info) for info in archive), 0

    def __exit__(self, *_: object) -> None:
        self._archive.close()
        if self._stream is not None:
            self._stream.close()


class _Stream:
    """The bytes of a tar archive, for tarfile, which reads headers of any stated size into memory."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _HEADER:
            raise tarfile.ReadError(f"it has a header of {size:,} bytes; {_HEADER:,} are the most")
        found: bytes = self._file.read(size)
        return found


def _plain(path: Path) -> Any:
    return path.open("rb")


_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".tgz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}


def _of_zip(packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    mode = info.external_attr >> 16
    kind = "folder" if info.is_dir() else "file"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        kind = "a link" if stat.S_ISLNK(mode) else "a special file"
    return Member(info.filename, info.file_size, kind, lambda: packed.open(info))


def _of_tar(packed: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    kind = "file" if info.isreg() else "folder" if info.isdir() else "a special file"
    if info.issym() or info.islnk():
        kind = "a link"
    return Member(info.name, info.size, kind, lambda: packed.extractfile(info))


def remove(folder: Path) -> None:
    """Remove a folder of ours with all that is in it."""
    shutil.rmtree(folder, ignore_errors=True)
