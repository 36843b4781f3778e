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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from outlast.errors import CorruptCheckpoint, OutlastError, UsageError

FORMAT = 1
"""Version of the run folder; docs/format.md says what may change without raising it."""

MANIFEST = "MANIFEST.json"
STATE = "state.json"
TENSORS = ".safetensors"
TEMPORARY = ".tmp-"

CHUNK = 16 * 2**20
"""Bytes written and hashed at a time; small enough that a signal is noticed, large enough that calls are free."""

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_STEP = re.compile(r"step-(\d{8,})")

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Written:
    """Size in bytes and xxh3-128 digest (hex) of a file as it was meant to be."""

    size: int
    xxh3_128: str


class RunFolder:
    """Paths inside one run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = path / "run.json"
        self.config = path / "config.json"
        self.lock = path / "lock"
        self.journal = path / "journal.jsonl"
        self.attempts = path / "attempts"
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


def write_file(path: Path, pieces: Iterable[Buffer], *, durable_name: bool = True) -> Written:
    """Write a file so that it exists under its name whole or not at all.

    Temporary name in the same folder, write, length check, fsync, rename, fsync of the folder.

    Args:
        path: the final name; an older file there is replaced.
        pieces: the contents, in order.
        durable_name: fsync the folder too; a caller that writes several files does it once itself.

    Returns:
        Size and hash of what was to be written (hashed from memory, so a disk that lies is found on reading).

    Raises:
        OSError: the file could not be written; nothing is left under `path` or under the temporary name.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    hasher, size = xxhash.xxh3_128(), 0
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        try:
            for piece in pieces:
                for chunk in _chunks(piece):
                    hasher.update(chunk)
                    _write_all(descriptor, chunk)
                    size += len(chunk)
            found = os.fstat(descriptor).st_size
            if found != size:
                raise OSError(errno.EIO, f"wrote {size} bytes and the file system kept {found}", str(path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108
        raise
    if durable_name:
        sync_folder(path.parent)
    return Written(size, hasher.hexdigest())


def write_json(path: Path, value: Mapping[str, Any], *, durable_name: bool = True) -> Written:
    """Write a JSON object with `write_file`. Keys keep their order; NaN is refused."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    return write_file(path, [text.encode()], durable_name=durable_name)


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


def _chunks(piece: Buffer) -> Iterator[memoryview]:
    view = memoryview(piece).cast("B") if not isinstance(piece, bytes) else memoryview(piece)
    for start in range(0, len(view), CHUNK):
        yield view[start : start + CHUNK]


def _write_all(descriptor: int, chunk: memoryview) -> None:
    while chunk:
        chunk = chunk[os.write(descriptor, chunk) :]
