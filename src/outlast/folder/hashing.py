"""The hashes of a file, chunk by chunk, and reads that verify them while the data is in the cache."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from outlast.errors import CorruptCheckpoint, UnsafeFolder
from outlast.folder.plain import open_plain

CHUNK = 16 * 2**20
"""Bytes written at a time and hashed together: part of the format. Large enough that calls are free."""

_BLOCK = 2**20  # bytes that are read at a time where they are only checked, so that they stay in the processor's cache


Buffer = bytes | bytearray | memoryview


class WrittenFile(NamedTuple):
    """A file as it was meant to be: its size in bytes, and the xxh3-128 (hex) of every CHUNK of it."""

    size: int
    xxh3_128: tuple[str, ...]

    @property
    def name(self) -> str:
        """One hash for the whole, to call a file by."""
        return digest("".join(self.xxh3_128).encode())

    def as_json(self) -> dict[str, Any]:
        """The entry of a manifest."""
        return {"size": self.size, "xxh3_128": list(self.xxh3_128)}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> WrittenFile:
        """The size and hashes from an entry of a manifest."""
        return cls(int(entry["size"]), tuple(entry["xxh3_128"]))


def digest(data: Buffer) -> str:
    """xxh3-128 of data, in hex."""
    return xxhash.xxh3_128_hexdigest(data)


def hash_pieces(pieces: Iterable[Buffer], take: Callable[[memoryview], None] = lambda _: None) -> WrittenFile:
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
    return WrittenFile(size, (*hashes, hasher.hexdigest()) if size % CHUNK else tuple(hashes))


def read_verified(path: Path, expected: WrittenFile, allocate: Callable[[int], memoryview]) -> memoryview:
    """Read a file into memory and check every chunk while it is still warm.

    Read and not mapped: a bad sector is an error here then, and not a SIGBUS in the middle of training.

    Args:
        path: the file.
        expected: what its manifest says.
        allocate: returns writable memory of a number of bytes.

    Raises:
        CorruptCheckpoint: it cannot be read, or has another length or another hash.
    """
    with _expected(path, expected) as descriptor:
        memory = allocate(expected.size)
        for index, chunk in enumerate(_chunks(memory)):
            _read_all(descriptor, chunk, path)
            _compare(path, index, digest(chunk), expected)
    return memory


def check_file(path: Path, expected: WrittenFile, keep: Callable[[memoryview], int]) -> bytes:
    """Check a file of any size chunk by chunk, in little memory; returns its beginning.

    Args:
        path: the file.
        expected: what its manifest says.
        keep: gets the first bytes, at most 1 MiB; returns how many bytes of the file to keep.

    Raises:
        CorruptCheckpoint: as in `read_verified`.
    """
    kept, wanted, done = bytearray(), 0, 0
    hasher, block = xxhash.xxh3_128(), memoryview(bytearray(min(_BLOCK, max(1, expected.size))))
    with _expected(path, expected) as descriptor:
        while done < expected.size:
            piece = block[: min(len(block), expected.size - done, CHUNK - done % CHUNK)]
            _read_all(descriptor, piece, path)
            hasher.update(piece)
            wanted = wanted if done else min(keep(piece), expected.size)
            if len(kept) < wanted:
                kept += piece[: wanted - len(kept)]
            done += len(piece)
            if done % CHUNK == 0 or done == expected.size:
                _compare(path, (done - 1) // CHUNK, hasher.hexdigest(), expected)
                hasher.reset()
    return bytes(kept)


@contextlib.contextmanager
def _expected(path: Path, expected: WrittenFile) -> Iterator[int]:
    """Open a file that must have the expected size; raises CorruptCheckpoint for whatever goes wrong with it."""
    try:
        descriptor = open_plain(path)
        try:
            size = os.fstat(descriptor).st_size
            if size != expected.size:
                raise CorruptCheckpoint(f"{path} has {size} bytes; the manifest says {expected.size}.")
            yield descriptor
        finally:
            os.close(descriptor)
    except UnsafeFolder as error:
        raise CorruptCheckpoint(str(error)) from error
    except OSError as error:
        raise CorruptCheckpoint(f"{path} cannot be read: {error.strerror}.") from error


def _compare(path: Path, index: int, found: str, expected: WrittenFile) -> None:
    if index >= len(expected.xxh3_128) or found != expected.xxh3_128[index]:
        raise CorruptCheckpoint(
            f"{path} was changed after it was written: the hash of its bytes from {index * CHUNK} on does "
            "not match the manifest."
        )


def hash_beginning(path: Path, size: int) -> str:
    """xxh3-128 of the first bytes of a plain file, in hex; block by block, as it may be larger than memory."""
    hasher = xxhash.xxh3_128()
    with os.fdopen(open_plain(path), "rb") as file:
        while size > 0 and (block := file.read(min(size, 2**20))):
            hasher.update(block)
            size -= len(block)
    return hasher.hexdigest()


def _chunks(piece: Buffer, offset: int = 0) -> Iterator[memoryview]:
    """A buffer in pieces that end where the file's chunks end."""
    view = memoryview(piece).cast("B") if not isinstance(piece, bytes) else memoryview(piece)
    start = 0
    while start < len(view):
        end = min(len(view), start + CHUNK - (offset + start) % CHUNK)
        yield view[start:end]
        start = end


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
