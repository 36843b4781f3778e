"""One committed checkpoint as it lies in its folder: the manifest that makes it exist, and reading it while every byte is verified.

    step-00001200/model.safetensors  optimizer.safetensors  rng.safetensors  state.json  MANIFEST.json
    shared/HASH.safetensors  HASH.copy.safetensors

With several ranks, each has written what rank 0 does not hold beside it (model.rank-0001.safetensors, state.rank-0001.json). Arrays that
training does not change lie in `shared`, twice, and the manifests of several checkpoints refer to them.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outlast.checkpoint import checks, memory, tensors
from outlast.checkpoint.history import History, is_ancestor
from outlast.checkpoint.policy import Kept
from outlast.checkpoint.snapshot import Snapshot
from outlast.config.units import is_finite
from outlast.distributed.ranks import Ranks
from outlast.errors import CorruptCheckpoint
from outlast.folder import durable, hashing, layout, plain, reading, records
from outlast.folder.hashing import Written
from outlast.folder.layout import MANIFEST, TENSORS
from outlast.state.array import Array, Block, Blocks

SHARED = "shared"
CHECKPOINTS = "checkpoints"
_COPY = ".copy"


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint: its folder and what its manifest says."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.manifest["step"])

    @property
    def reason(self) -> str:
        """Why it was saved."""
        return str(self.manifest["reason"])

    @property
    def metrics(self) -> dict[str, float]:
        """Values logged at its step."""
        return {name: float(value) for name, value in self.manifest["metrics"].items()}

    @property
    def nbytes(self) -> int:
        """Size of its files in bytes."""
        return sum(int(entry["size"]) for entry in self.manifest["files"].values())

    @property
    def paths(self) -> dict[str, list[Path]]:
        """The places of each of its files: one, or two for a shared one."""
        return {name: places_of(self.path, name, entry) for name, entry in self.manifest["files"].items()}

    @property
    def kept(self) -> Kept:
        """What retention may know about it."""
        return Kept(self.step, self.metrics)

    @property
    def digest(self) -> str:
        """The hash of its manifest, which names it among all checkpoints."""
        return str(self.manifest["digest"])

    def is_ancestor_of(self, other: Checkpoint) -> bool | None:
        """Whether another one is this one or continues it; None when format 1, which says nothing of it, leaves it open."""
        return is_ancestor(self.manifest, other.manifest)


@dataclass(frozen=True)
class Opened:
    """A checkpoint whose files have been read and found to be what the manifest says.

    Attributes:
        checkpoint: which.
        state: the structure, as it was on this rank.
        parts: part name -> array name -> array, as they were on this rank; blocks that others wrote are read when they are asked for.
        borrowed: whether this rank was not there when it was written, and is given the state of another one.
        images: part name -> the memory that its files were read into, and what they have to be.
    """

    checkpoint: Checkpoint
    state: dict[str, Any]
    parts: dict[str, dict[str, Array]]
    borrowed: bool = False
    images: Mapping[str, Sequence[tuple[memoryview, Written]]] = field(default_factory=dict)

    def intact(self, part: str) -> bool:
        """Whether the memory of a part still holds what was read: a program may have been given it, and changed it."""
        return all(hashing.hash_pieces([memory]) == written for memory, written in self.images.get(part, ()))


def read_manifest(path: Path) -> Checkpoint:
    """Read and check the manifest of a checkpoint folder; the data files are not read.

    Raises:
        CorruptCheckpoint: there is no manifest, or it was damaged.
    """
    place = path / MANIFEST
    for folder in (path, path.parent) if path.parent.name == CHECKPOINTS else (path,):
        if (kind := plain.kind_of(folder)) not in ("folder", None):
            raise CorruptCheckpoint(f"{folder} is a {kind} and no folder; nothing is read through it.")
    try:
        data = plain.read_plain(place)
    except OSError as error:
        raise CorruptCheckpoint(
            f"{place} cannot be read ({error.strerror}); without it there is no checkpoint."
        ) from error
    return parse_manifest(data, path)


def parse_manifest(data: bytes, path: Path) -> Checkpoint:
    """The checkpoint of a folder, here or elsewhere, from the bytes of its manifest; raises CorruptCheckpoint as `read_manifest`."""
    place = path / MANIFEST
    manifest = records.parse(data, place)
    reading.check_format(manifest, place)
    if manifest.get("digest") != _manifest_digest(manifest):
        raise CorruptCheckpoint(f"{place} was changed after it was written: its own digest does not match.")
    checks.check_manifest(manifest, place)
    return Checkpoint(path, manifest)


def open_checkpoint(
    path: Path, parts: Collection[str] | None = None, *, mend: bool = False, ranks: Ranks | None = None
) -> Opened:
    """Read a checkpoint and verify every byte of it against the manifest.

    Args:
        path: its folder.
        parts: read the arrays of these parts only, and verify only them and the structure.
        mend: write a damaged copy of a shared file anew from the good one.
        ranks: as one of so many ranks. When that many wrote it, the arrays of other ranks are not read. None: read all, and return
            what rank 0 had.

    Raises:
        CorruptCheckpoint: names the file that is missing, of another length or of another hash.
    """
    checkpoint = read_manifest(path)
    count = int(checkpoint.manifest.get("ranks", 1))
    rank = ranks.rank % count if ranks else 0
    read_now = {0, rank} if ranks and ranks.count == count else set(range(count))

    images: dict[str, list[tuple[memoryview, Written]]] = {}

    @functools.cache
    def arrays_of(owner: int, part: str) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for name, entry in checkpoint.manifest["files"].items():
            if name.endswith(TENSORS) and (_part(name, entry), entry.get("rank", 0)) == (part, owner):
                written = Written.from_json(entry)
                place, data = _read(checkpoint.paths[name], written, mend=mend)
                images.setdefault(part, []).append((data, written))
                found |= tensors.decode(data, place)
        return found

    states: dict[int, dict[str, Any]] = {}
    held: dict[int, dict[str, dict[str, Array]]] = {0: {}, rank: {}}
    for name, entry in checkpoint.manifest["files"].items():
        owner, part = entry.get("rank", 0), _part(name, entry)
        if not name.endswith(TENSORS):
            place, data = _read(checkpoint.paths[name], Written.from_json(entry), mend=mend)
            states[owner] = checks.read_state(bytes(data), place, checkpoint.step, owner)
        elif owner in read_now and (parts is None or part in parts):
            held.setdefault(owner, {})[part] = arrays_of(owner, part)
    found = {part: held[0].get(part, {}) | held[rank].get(part, {}) for part in held[0] | held[rank]}
    for part, blocks in _blocks(states, arrays_of).items():
        if part in found:
            found[part] |= blocks
    state = states[0]
    if rank:
        state |= {"rng": states[rank]["rng"], "parts": state["parts"] | states[rank]["parts"]}
    return Opened(checkpoint, state, found, borrowed=bool(ranks and ranks.rank >= count), images=images)


def _part(name: str, entry: Mapping[str, Any]) -> str:
    return str(entry.get("part", name.removesuffix(TENSORS)))


def _blocks(
    states: Mapping[int, Mapping[str, Any]], arrays_of: Callable[[int, str], Mapping[str, Array]]
) -> dict[str, dict[str, Array]]:
    """The arrays that ranks hold together, from what each says of its block."""
    forms: dict[tuple[str, str], list[tuple[int, Mapping[str, Any]]]] = {}
    for owner, state in states.items():
        for part, table in state.get("shards", {}).items():
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
    """Re-read and re-hash every file of a checkpoint; raises CorruptCheckpoint as `open_checkpoint` does."""
    return open_checkpoint(path).checkpoint


def _read(places: Sequence[Path], expected: Written, *, mend: bool) -> tuple[Path, memoryview]:
    """Read a file from the first of its places that verifies."""
    for number, place in enumerate(places):
        try:
            data = hashing.read_verified(place, expected, memory.allocate)
        except CorruptCheckpoint:
            if place == places[-1]:
                raise
            continue
        for bad in places[:number] if mend else ():
            with contextlib.suppress(OSError):  # an input that is read-only
                durable.write_file(bad, [data])
        return place, data
    raise AssertionError  # there is always one place


def places_of(folder: Path, name: str, entry: Mapping[str, Any]) -> list[Path]:
    """Where a file of a checkpoint lies: one place, or two for a shared one."""
    shared = folder.parent / SHARED
    if "shared" in entry and plain.kind_of(shared) not in ("folder", None):
        raise CorruptCheckpoint(f"{shared} is a {plain.kind_of(shared)} and no folder; nothing is read through it.")
    return [folder.parent / each for each in names_of(folder.name, name, entry)]


def names_of(folder: str, name: str, entry: Mapping[str, Any]) -> list[str]:
    """The same as names relative to the folder of the checkpoints."""
    if "shared" not in entry:
        return [f"{folder}/{name}"]
    return [f"{SHARED}/{entry['shared']}{ending}{TENSORS}" for ending in ("", _COPY)]


def make_manifest(
    snapshot: Snapshot, written: Mapping[str, Any], seconds: float, ranks: int, history: History | None = None
) -> dict[str, Any]:
    """What MANIFEST.json says of a checkpoint whose files these are: of so many ranks, written in so many seconds."""
    manifest: dict[str, Any] = {
        "format": layout.FORMAT,
        "step": snapshot.step,
        "reason": snapshot.reason,
        **(history.as_json() if history else {}),
        "ranks": ranks,
        "files": dict(written),
        "chunk": hashing.CHUNK,
        "metrics": {name: value for name, value in snapshot.metrics.items() if is_finite(value)},
        "software": dict(snapshot.software),
        "written": {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "seconds": round(seconds, 4)},
    }
    manifest["digest"] = _manifest_digest(manifest)
    return manifest


def _manifest_digest(manifest: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashing.digest(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())
