"""Reads a checkpoint and verifies every byte against its manifest."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from outlast.checkpoint import checks, memory, tensors
from outlast.checkpoint.manifest import Checkpoint, read_manifest
from outlast.checkpoint.record import StateRecord
from outlast.distributed.ranks import Ranks
from outlast.errors import CorruptCheckpoint
from outlast.folder import durable, hashing
from outlast.folder.hashing import WrittenFile
from outlast.folder.layout import TENSORS
from outlast.state.array import Array, Block, Blocks, references


class OpenedCheckpoint(NamedTuple):
    """A checkpoint whose files were read and verified.

    Attributes:
        checkpoint: the checkpoint.
        state: this rank's state besides the arrays.
        parts: part name -> array name -> array, of this rank. Blocks that other ranks wrote are read when they are
            needed.
        borrowed: whether this rank did not exist when the checkpoint was written, so that it gets another rank's state.
        images: part name -> the memory that its files were read into, and their expected sizes and hashes.
    """

    checkpoint: Checkpoint
    state: StateRecord
    parts: dict[str, dict[str, Array]]
    borrowed: bool = False
    images: Mapping[str, Sequence[tuple[memoryview, WrittenFile]]] = {}

    def arrays(self, part: str) -> Mapping[str, Array]:
        """The arrays of a part; empty if it has none."""
        return self.parts.get(part, {})

    def intact(self, part: str) -> bool:
        """Whether the memory of a part is unchanged since it was read. The program may have received and changed it."""
        return all(hashing.hash_pieces([memory]) == written for memory, written in self.images.get(part, ()))


def open_checkpoint(
    path: Path, parts: Collection[str] | None = None, *, mend: bool = False, ranks: Ranks | None = None
) -> OpenedCheckpoint:
    """Read a checkpoint and verify every byte of it against the manifest.

    Args:
        path: the checkpoint's folder.
        parts: read and verify only the structure and the arrays of these parts. None: all parts.
        mend: replace a damaged copy of a shared file by its good copy.
        ranks: the ranks that read. If as many ranks wrote the checkpoint, each rank reads only its own arrays.
            None: read all files, and return the state of rank 0.

    Raises:
        CorruptCheckpoint: a file is missing or has another size or hash; the message names it.
    """

    def read_file(places: Sequence[Path], written: WrittenFile) -> tuple[memoryview, dict[str, Array]]:
        place, data = _read(places, written, mend=mend)
        return data, tensors.decode(data, place)

    return _open(path, parts, ranks, read_file)


def _open(
    path: Path,
    parts: Collection[str] | None,
    ranks: Ranks | None,
    read_file: Callable[[Sequence[Path], WrittenFile], tuple[memoryview, dict[str, Array]]],
) -> OpenedCheckpoint:
    """As `open_checkpoint`; `read_file` gets the paths of a file of arrays, and returns its contents and its arrays."""
    checkpoint = read_manifest(path)
    count = int(checkpoint.manifest.get("ranks", 1))
    rank = ranks.rank % count if ranks else 0
    read_now = {0, rank} if ranks and ranks.count == count else set(range(count))

    images: dict[str, list[tuple[memoryview, WrittenFile]]] = {}

    @functools.cache
    def arrays_of(owner: int, part: str) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for name, entry in checkpoint.manifest["files"].items():
            if name.endswith(TENSORS) and (_part(name, entry), entry.get("rank", 0)) == (part, owner):
                written = WrittenFile.from_json(entry)
                data, arrays = read_file(checkpoint.paths[name], written)
                images.setdefault(part, []).append((data, written))
                found |= arrays
        return found

    states: dict[int, StateRecord] = {}
    held: dict[int, dict[str, dict[str, Array]]] = {0: {}, rank: {}}
    for name, entry in checkpoint.manifest["files"].items():
        owner, part = entry.get("rank", 0), _part(name, entry)
        if not name.endswith(TENSORS):
            place, data = _read(checkpoint.paths[name], WrittenFile.from_json(entry))
            states[owner] = StateRecord.read(bytes(data), place, checkpoint.step, owner)
        elif owner in read_now and (parts is None or part in parts):
            held.setdefault(owner, {})[part] = arrays_of(owner, part)
    found = {part: held[0].get(part, {}) | held[rank].get(part, {}) for part in held[0] | held[rank]}
    for part, blocks in _blocks(states, arrays_of).items():
        if part in found:
            found[part] |= blocks
    state = states[0].with_rank(states[rank]) if rank else states[0]
    _check_references(state, found, parts, path)
    return OpenedCheckpoint(checkpoint, state, found, borrowed=bool(ranks and ranks.rank >= count), images=images)


def _check_references(
    state: StateRecord, found: Mapping[str, Mapping[str, Array]], parts: Collection[str] | None, path: Path
) -> None:
    """Check that the state refers only to arrays that the files contain. Hashes cannot detect this."""
    nodes = {part: record["state"] for part, record in state.parts.items()} | {"rng": state.rng}
    for part, node in nodes.items():
        for name in references(node) if parts is None or part in parts else ():
            if name not in found.get(part, {}):
                raise CorruptCheckpoint(
                    f"{path}: the state of {part[:80]!r} refers to an array {name[:80]!r}, which no file holds."
                )


def _part(name: str, entry: Mapping[str, Any]) -> str:
    return str(entry.get("part", name.removesuffix(TENSORS)))


def _blocks(
    states: Mapping[int, StateRecord], arrays_of: Callable[[int, str], Mapping[str, Array]]
) -> dict[str, dict[str, Array]]:
    """The arrays of which each rank holds a block, assembled from the ranks' states."""
    forms: dict[tuple[str, str], list[tuple[int, Mapping[str, Any]]]] = {}
    for owner, state in states.items():
        for part, table in state.shards.items():
            for name, form in table.items():
                forms.setdefault((part, name), []).append((owner, form))
    found: dict[str, dict[str, Array]] = {}
    for (part, name), each in forms.items():

        def read(owner: int, form: Mapping[str, Any], part: str = part, name: str = name) -> Array:
            array = arrays_of(owner, part).get(name)
            if array is None or (array.dtype, array.shape) != (form["dtype"], tuple(form["shape"])):
                raise CorruptCheckpoint(f"Rank {owner} has not stored the block of {name[:80]!r} that its state names.")
            return array

        def block(owner: int, form: Mapping[str, Any], read: Callable[..., Array] = read) -> Block:
            return Block(tuple(form["at"]), tuple(form["shape"]), lambda: read(owner, form))

        checks.check_blocks(each, name)
        shape, dtype = tuple(each[0][1]["of"]), each[0][1]["dtype"]
        nbytes = math.prod(shape) * checks.ITEM_BITS[dtype] // 8
        found.setdefault(part, {})[name] = Blocks(dtype, shape, [block(*one) for one in each], nbytes)
    return found


def verify(path: Path) -> Checkpoint:
    """Read and hash every file of a checkpoint; raises CorruptCheckpoint as `open_checkpoint` does.

    It takes little memory, however large the arrays are.
    """
    return _open(path, None, None, _check).checkpoint


def _check(places: Sequence[Path], expected: WrittenFile) -> tuple[memoryview, dict[str, Array]]:
    """Check a file of arrays, from the first of its paths that verifies. The arrays have no data."""
    for place in places:
        try:
            header = hashing.check_file(place, expected, tensors.header_size)
        except CorruptCheckpoint:
            if place == places[-1]:
                raise
            continue
        return memoryview(b""), tensors.decode(header, place, size=expected.size)
    raise AssertionError  # a file has at least one path


def _read(places: Sequence[Path], expected: WrittenFile, *, mend: bool = False) -> tuple[Path, memoryview]:
    """Read a file from the first of its paths that verifies."""
    for number, place in enumerate(places):
        try:
            data = hashing.read_verified(place, expected, memory.allocate)
        except CorruptCheckpoint:
            if place == places[-1]:
                raise
            continue
        for bad in places[:number] if mend else ():
            with contextlib.suppress(OSError):  # the folder may be read-only
                durable.write_file(bad, [data])
        return place, data
    raise AssertionError  # a file has at least one path
