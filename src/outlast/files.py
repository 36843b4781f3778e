"""The names of a run folder's files, and the one atomic write.

docs/format.md is the specification; this file is its only implementation. Every byte that outlast writes into a run
folder goes through here or through `tracking.journal`, so that the crash-point tests see every operation.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from outlast import records
from outlast.errors import CorruptCheckpoint, OutlastError, UnsafeFolder, UsageError

FORMAT = 2
"""Version of the run folder that is written; docs/format.md says what may change without raising it."""

FORMATS = (1, 2)
"""Versions that are read."""

MANIFEST = "MANIFEST.json"
STATE = "state.json"
TENSORS = ".safetensors"
TEMPORARY = ".tmp-"

CHUNK = 16 * 2**20
"""Bytes written at a time and hashed together: part of the format. Large enough that calls are free."""

PAGE = 4096
"""What memory, offset and length must be multiples of to be written past the page cache (O_DIRECT)."""

_DIRECT = getattr(os, "O_DIRECT", 0)

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_STEP = re.compile(r"step-([0-9]{8,18})")
_ATTEMPT = re.compile(r"([0-9]{4,9})\.json")
_PLAIN = re.compile(r"[^./\\\x00-\x1f\x7f-\x9f][^/\\\x00-\x1f\x7f-\x9f]{0,199}")

# O_NOFOLLOW: a link where a file of ours should be is refused. O_NONBLOCK: so is a FIFO, and without waiting for its other end.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Written:
    """A file as it was meant to be: its size in bytes, and the xxh3-128 (hex) of every CHUNK of it."""

    size: int
    xxh3_128: tuple[str, ...]

    @property
    def name(self) -> str:
        """One hash for the whole, to call a file by."""
        return digest("".join(self.xxh3_128).encode())

    def as_json(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {"size": self.size, "xxh3_128": list(self.xxh3_128)}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Written:
        """What a manifest says of it, read again."""
        return cls(int(entry["size"]), tuple(entry["xxh3_128"]))


class RunFolder:
    """Paths inside one run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = path / "run.json"
        self.config = path / "config.json"
        self.lock = path / "lock"
        self.ranks = path / "ranks"
        self.journal = path / "journal.jsonl"
        self.attempts = path / "attempts"
        self.launches = path / "launches"
        self.checkpoints = path / "checkpoints"
        self.set_aside = path / "set-aside"
        self.artifacts = path / "artifacts"

    def attempt(self, number: int) -> Path:
        """Path of one attempt's record."""
        return self.attempts / f"{number:04d}.json"

    def attempt_numbers(self) -> list[int]:
        """Numbers of the attempts on disk, ascending."""
        return numbers_in(self.attempts)

    def free_attempt(self, number: int) -> int:
        """This number, or the next higher one at which nothing lies but a plain file."""
        return free_number(self.attempts, number)

    def checkpoint(self, step: int) -> Path:
        """Folder of the checkpoint at a step."""
        return self.checkpoints / step_name(step)

    def check(self) -> list[str]:
        """Refuse to write where a link or a special file stands in the place of a file or folder of ours.

        Returns:
            Sentences about links that are named like checkpoints or attempts: they are left alone.

        Raises:
            UnsafeFolder: names what stands there, and that nothing was touched.
        """
        folders = (
            self.attempts,
            self.launches,
            self.checkpoints,
            self.set_aside,
            self.artifacts,
            self.checkpoints / "shared",
        )
        for path in (self.run, self.config, self.lock, self.ranks, self.journal, *folders):
            kind, wanted = kind_of(path), "folder" if path in folders else "file"
            if kind not in (None, wanted):
                raise UnsafeFolder(
                    f"{path} is a {kind} where a {wanted} of outlast's own belongs; outlast follows nothing out of a run folder, so nothing was "
                    "changed. Remove it, or put the real thing in its place."
                )
        named = [*entries(self.checkpoints), *entries(self.attempts)]
        return [
            f"{path} is a {kind_of(path)} and is left alone: nothing outside the run folder belongs to it."
            for path in named
            if (step_of(path) is not None and kind_of(path) != "folder")
            or (_ATTEMPT.fullmatch(path.name) and kind_of(path) != "file")
        ]


def check_run_id(run_id: str) -> str:
    """Return run_id if it can name a folder everywhere; raises UsageError otherwise."""
    if not RUN_ID.fullmatch(run_id):
        raise UsageError(
            f"{run_id!r} cannot name a run: use up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit."
        )
    return run_id


def step_of(path: Path) -> int | None:
    """The step that a checkpoint folder's name states, or None for any other name."""
    return step_in(path.name)


def step_in(name: str) -> int | None:
    """The step that the name of a checkpoint's folder states, or None for any other name."""
    match = _STEP.fullmatch(name)
    step = int(match.group(1)) if match else 0
    return step if match and name == step_name(step) else None  # one name for each


def step_name(step: int) -> str:
    """The name of the folder of the checkpoint at a step."""
    return f"step-{step:08d}"


def is_plain(name: str) -> bool:
    """Whether a name can be that of a file of a checkpoint: no folders, no control characters, not hidden."""
    return bool(_PLAIN.fullmatch(name)) and len(name.encode(errors="replace")) <= 255


def numbers_in(folder: Path) -> list[int]:
    """Numbers of the records 0001.json and so on in a folder, ascending; what is no plain file of such a name does not count."""
    found = []
    for path in entries(folder):
        match = _ATTEMPT.fullmatch(path.name)
        if match and path.name == f"{int(match[1]):04d}.json" and kind_of(path) == "file":
            found.append(int(match[1]))
    return sorted(found)


def free_number(folder: Path, number: int) -> int:
    """This number, or the next higher one at which no folder, link or special file stands in the way of a record."""
    while kind_of(folder / f"{number:04d}.json") not in (None, "file"):
        number += 1
    return number


def kind_of(path: Path) -> str | None:
    """In a word what lies there, itself and not what it may point to: "file", "folder", "link", "special file"; None: nothing."""
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
    """What lies in a folder, by name; nothing when it is a link, or no folder, or gone meanwhile."""
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


def digest(data: Buffer) -> str:
    """xxh3-128 of data, in hex."""
    return xxhash.xxh3_128_hexdigest(data)


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


def write_file(path: Path, pieces: Iterable[Buffer], *, durable_name: bool = True, direct: bool = False) -> Written:
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


def write_files(folder: Path, contents: Iterable[tuple[str, Iterable[Buffer], bool]]) -> dict[str, Written]:
    """Write several files of one folder as `write_file` does, and fsync them together: that is cheaper than one by one.

    Args:
        folder: where; its fsync is left to the caller.
        contents: name, pieces, and whether to write past the page cache.

    Raises:
        OSError: one could not be written; none has got its name, and no temporary name is left. After the first rename,
            a later one that fails leaves the earlier ones.
    """
    begun: dict[str, int] = {}
    written: dict[str, Written] = {}
    try:
        try:
            for name, pieces, direct in contents:
                begun[name] = _open_to_write(folder / f"{TEMPORARY}{name}", direct=direct)
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


def _write_pieces(descriptor: int, pieces: Iterable[Buffer], path: Path) -> Written:
    written = hash_pieces(pieces, lambda chunk: _write_all(descriptor, chunk))
    found = os.fstat(descriptor).st_size
    if found != written.size:
        raise OSError(errno.EIO, f"wrote {written.size} bytes and the file system kept {found}", str(path))
    return written


def hash_pieces(pieces: Iterable[Buffer], take: Callable[[memoryview], None] = lambda _: None) -> Written:
    """Size and hashes of a file with these contents; every chunk is handed over after it is hashed."""
    hashes, hasher, size = [], xxhash.xxh3_128(), 0
    for piece in pieces:
        for chunk in _chunks(piece, size):
            hasher.update(chunk)
            take(chunk)
            size += len(chunk)
            if size % CHUNK == 0:
                hashes.append(hasher.hexdigest())
                hasher.reset()
    return Written(size, (*hashes, hasher.hexdigest()) if size % CHUNK else tuple(hashes))


def read_verified(path: Path, expected: Written, allocate: Callable[[int], memoryview]) -> memoryview:
    """Read a file into memory and check every chunk while it is still warm.

    Read and not mapped: a bad sector is an error here then, and not a SIGBUS in the middle of training.

    Args:
        path: the file.
        expected: what its manifest says.
        allocate: gives writable memory for so many bytes.

    Raises:
        CorruptCheckpoint: it cannot be read, or has another length or another hash.
    """
    try:
        descriptor = open_plain(path)
        try:
            size = os.fstat(descriptor).st_size
            if size != expected.size:
                raise CorruptCheckpoint(f"{path} has {size} bytes; the manifest says {expected.size}.")
            memory = allocate(size)
            for index, chunk in enumerate(_chunks(memory)):
                _read_all(descriptor, chunk, path)
                if index >= len(expected.xxh3_128) or digest(chunk) != expected.xxh3_128[index]:
                    raise CorruptCheckpoint(
                        f"{path} was changed after it was written: the hash of its bytes from {index * CHUNK} on is not the one in "
                        "the manifest."
                    )
        finally:
            os.close(descriptor)
    except UnsafeFolder as error:
        raise CorruptCheckpoint(str(error)) from error
    except OSError as error:
        raise CorruptCheckpoint(f"{path} cannot be read: {error.strerror}.") from error
    return memory


def hash_beginning(path: Path, size: int) -> str:
    """xxh3-128 of the first bytes of a plain file, in hex; block by block, as it may be larger than memory."""
    hasher = xxhash.xxh3_128()
    with os.fdopen(open_plain(path), "rb") as file:
        while size > 0 and (block := file.read(min(size, 2**20))):
            hasher.update(block)
            size -= len(block)
    return hasher.hexdigest()


def copy_file(
    source: Path,
    target: Path,
    *,
    expected: Written | None = None,
    durable_name: bool = True,
    most: int | None = None,
) -> None:
    """Copy a plain file as `write_file` writes one, and compare it with what a manifest says of it.

    Args:
        source: the file.
        target: its copy; an older one is replaced.
        expected: what it has to be.
        durable_name: fsync the folder too.
        most: copy so many bytes from its beginning at most.

    Raises:
        CorruptCheckpoint: the source is no plain file, or not the expected one; nothing is left under the target's name.
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
            )  # no more than that, even if somebody lets it grow meanwhile
            while left and (piece := file.read(min(CHUNK, left))):
                left -= len(piece)
                yield piece

        written = write_file(target, pieces(), durable_name=durable_name)
    if expected and written != expected:
        remove_file(target)
        raise CorruptCheckpoint(f"{source} is not what the manifest says of it; it was not copied.")


def write_json(path: Path, value: Mapping[str, Any], *, durable_name: bool = True) -> Written:
    """Write a JSON object with `write_file`. Keys keep their order; NaN is refused."""
    return write_file(path, [as_json(value)], durable_name=durable_name)


def as_json(value: Mapping[str, Any]) -> bytes:
    """The text of a JSON object as all our files have it; raises ValueError when nobody could read it again."""
    records.check_depth(value)
    return (json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptCheckpoint: it is not a JSON object.
    """
    return records.parse(read_plain(path), path)


def read_record(path: Path, kind: records.Check) -> dict[str, Any]:
    """Read a record of a kind that `outlast.records` names.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptCheckpoint: it is not a record of this kind.
        OutlastError: a newer outlast wrote it.
    """
    record = read_json(path)
    if "format" in record:
        check_format(record, path)
    records.check(record, kind, path)
    return record


def check_format(record: Mapping[str, Any], path: Path) -> None:
    """Refuse a record that a newer outlast wrote.

    Raises:
        OutlastError: its format is newer.
        CorruptCheckpoint: it names none.
    """
    found = record.get("format")
    if type(found) is not int or not 0 < found < 10**6:
        raise CorruptCheckpoint(
            f"{path} has no format number; it was damaged after it was written, or is not outlast's."
        )
    if found not in FORMATS:
        raise OutlastError(
            f"{path} has format {found} and this outlast reads formats {' and '.join(map(str, FORMATS))}: "
            "use the version of outlast that wrote it, or a newer one."
        )


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
    while waiting:  # no recursion: folders may lie in each other a thousand deep
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


def plain_files(path: Path) -> list[Path]:
    """The file itself, or all plain files below a folder, by name; links are not followed, and special files are not among them."""
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
        make_folder((target / inside).parent)
        copy_file(path, target / inside)
    return left


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


def _chunks(piece: Buffer, offset: int = 0) -> Iterator[memoryview]:
    """A buffer in pieces that end where the file's chunks end."""
    view = memoryview(piece).cast("B") if not isinstance(piece, bytes) else memoryview(piece)
    start = 0
    while start < len(view):
        end = min(len(view), start + CHUNK - (offset + start) % CHUNK)
        yield view[start:end]
        start = end


def _open_to_write(path: Path, *, direct: bool) -> int:
    if kind_of(path):
        remove_any(
            path
        )  # left by a killed writer; or a link, or a second name of a file elsewhere, that somebody put there
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    if direct and _DIRECT and fcntl:
        try:
            return os.open(path, flags | _DIRECT, 0o644)
        except OSError as error:
            if error.errno != errno.EINVAL:  # tmpfs and some others cannot
                raise
    return os.open(path, flags, 0o644)


def _write_all(descriptor: int, chunk: memoryview) -> None:
    while chunk:
        if _DIRECT and len(chunk) % PAGE and _is_direct(descriptor):
            whole = len(chunk) - len(chunk) % PAGE
            if whole:
                _write_all(descriptor, chunk[:whole])
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


def _read_all(descriptor: int, chunk: memoryview, path: Path) -> None:
    while chunk:
        count = os.readv(descriptor, [chunk]) if hasattr(os, "readv") else _read_copied(descriptor, chunk)
        if not count:
            raise CorruptCheckpoint(f"{path} ended early while it was read.")
        chunk = chunk[count:]


def _read_copied(descriptor: int, chunk: memoryview) -> int:
    """For Windows, which cannot read into memory that is there."""
    data = os.read(descriptor, len(chunk))
    chunk[: len(data)] = data
    return len(data)
