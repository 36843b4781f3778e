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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from outlast.errors import CorruptCheckpoint, OutlastError, UsageError

FORMAT = 1
"""Version of the run folder; docs/format.md says what may change without raising it."""

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
_STEP = re.compile(r"step-(\d{8,})")

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
        if not self.attempts.is_dir():
            return []
        return sorted(int(p.stem) for p in self.attempts.iterdir() if p.suffix == ".json" and p.stem.isdigit())

    def checkpoint(self, step: int) -> Path:
        """Folder of the checkpoint at a step."""
        return self.checkpoints / f"step-{step:08d}"


def check_run_id(run_id: str) -> str:
    """Return run_id if it can name a folder everywhere; raises UsageError otherwise."""
    if not RUN_ID.fullmatch(run_id):
        raise UsageError(
            f"{run_id!r} cannot name a run: use up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit."
        )
    return run_id


def step_of(path: Path) -> int | None:
    """The step that a checkpoint folder's name states, or None for any other name."""
    match = _STEP.fullmatch(path.name)
    return int(match.group(1)) if match else None


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
        descriptor = os.open(path, os.O_RDONLY)
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
    except OSError as error:
        raise CorruptCheckpoint(f"{path} cannot be read: {error.strerror}.") from error
    return memory


def write_json(path: Path, value: Mapping[str, Any], *, durable_name: bool = True) -> Written:
    """Write a JSON object with `write_file`. Keys keep their order; NaN is refused."""
    return write_file(path, [as_json(value)], durable_name=durable_name)


def as_json(value: Mapping[str, Any]) -> bytes:
    """The text of a JSON object as all our files have it."""
    return (json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptCheckpoint: it is not a JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise CorruptCheckpoint(f"{path} is not valid JSON ({error}); it was damaged after it was written.") from error
    if not isinstance(value, dict):
        raise CorruptCheckpoint(f"{path} holds {type(value).__name__} where a JSON object was expected.")
    return value


def check_format(record: Mapping[str, Any], path: Path) -> None:
    """Refuse a record that a newer outlast wrote."""
    found = record.get("format")
    if found != FORMAT:
        raise OutlastError(
            f"{path} has format {found!r} and this outlast reads format {FORMAT}: "
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
    if (folder / MANIFEST).exists():
        remove_file(folder / MANIFEST)
        sync_folder(folder)
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(folder.iterdir()):
            remove_any(path)
        os.rmdir(folder)  # noqa: PTH106


def remove_any(path: Path) -> None:
    """Delete a file or a folder; one that is gone already is fine."""
    if path.is_dir() and not path.is_symlink():
        remove_folder(path)
    else:
        remove_file(path)


def sync_file(path: Path) -> None:
    """Make the contents of a file, or of all files below a folder, durable."""
    for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if each.is_file():
            descriptor = os.open(each, os.O_RDONLY)
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


def sweep_temporaries(folder: Path) -> None:
    """Delete what a killed writer left under temporary names, in this folder only."""
    if folder.is_dir():
        for path in sorted(folder.glob(f"{TEMPORARY}*")):
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
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
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
