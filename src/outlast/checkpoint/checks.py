"""Checks of the names, sizes and numbers in manifests, so that no reader leaves the run folder.

Hashes detect accidental damage. These checks detect a manifest that someone forged together with its hashes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outlast.errors import CorruptCheckpoint
from outlast.folder import hashing, layout, records, schemas
from outlast.folder.layout import STATE, TENSORS
from outlast.folder.records import STATE_BYTES

ITEM_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
"""Bits per element of each supported dtype code of safetensors."""


def check_manifest(manifest: Mapping[str, Any], place: Path) -> None:
    """Check the types of a manifest, and that its entries do not contradict each other.

    Raises:
        CorruptCheckpoint: they do, or it is no manifest.
    """
    records.check(manifest, schemas.MANIFEST, place)
    step = layout.step_of(place.parent)
    if step is not None and step != manifest["step"]:
        raise CorruptCheckpoint(f"{place} says step {manifest['step']} and lies in the folder of step {step}.")
    if manifest.get("chunk", hashing.CHUNK) != hashing.CHUNK:
        raise CorruptCheckpoint(f"{place} counts chunks of {manifest['chunk']} bytes; expected {hashing.CHUNK}.")
    ranks, entries = manifest.get("ranks", 1), manifest["files"]
    for name, entry in entries.items():
        if complaint := _wrong_with(name, entry, ranks):
            raise CorruptCheckpoint(f"{place} names a file {name[:80]!r} {complaint}; the checkpoint was not read.")
    if ranks > len(entries):
        raise CorruptCheckpoint(f"{place} says that {ranks} ranks wrote it, and names {len(entries)} files.")
    for name in (_state_of(rank) for rank in range(ranks)):
        if name not in entries:
            raise CorruptCheckpoint(f"{place} names no {name}, without which there is no state.")


def _wrong_with(name: str, entry: Mapping[str, Any], ranks: int) -> str | None:
    """What is wrong with an entry, as text, or None. Only names that outlast itself writes are valid."""
    size, rank = entry["size"], entry.get("rank", 0)
    if not layout.is_plain(name):
        return "that is not a plain file name"
    if len(entry["xxh3_128"]) != -(-size // hashing.CHUNK):
        return f"of {size} bytes with {len(entry['xxh3_128'])} hashes"
    if rank >= ranks:
        return f"of rank {rank}, and {ranks} wrote it"
    mark = f".rank-{rank:04d}" if rank else ""
    if not name.endswith(TENSORS):
        if name != _state_of(rank) or "shared" in entry:
            return "that is neither arrays nor state"
        return f"of {size} bytes; the limit of a state is {STATE_BYTES}" if size > STATE_BYTES else None
    part = entry.get("part", None if mark or "shared" in entry else name.removesuffix(TENSORS))
    if part is None or name != f"{part}{'.shared' if 'shared' in entry else mark}{TENSORS}":
        return "that does not fit its part and rank"
    return "that is shared and of one rank" if "shared" in entry and mark else None


def _state_of(rank: int) -> str:
    return f"state.rank-{rank:04d}.json" if rank else STATE


def _overlap(one: tuple[tuple[int, ...], tuple[int, ...]], other: tuple[tuple[int, ...], tuple[int, ...]]) -> bool:
    """Whether two blocks have an element in common. Each is given by its first index and its end, per dimension."""
    return all(max(low, lower) < min(high, higher) for low, high, lower, higher in zip(*one, *other, strict=True))


def check_blocks(forms: list[tuple[int, Mapping[str, Any]]], name: str) -> None:
    """Check that these blocks make up one array; raises CorruptCheckpoint."""
    first = forms[0][1]
    blocks: dict[tuple[int, ...], tuple[int, ...]] = {}  # first index -> end; equal blocks count once
    for _, form in forms:
        at, shape, of = form["at"], form["shape"], form["of"]
        ends = [start + length for start, length in zip(at, shape, strict=False)]
        fits = len(at) == len(shape) == len(of) and all(end <= whole for end, whole in zip(ends, of, strict=False))
        if not fits or of != first["of"] or form["dtype"] != first["dtype"] or form["dtype"] not in ITEM_BITS:
            raise CorruptCheckpoint(f"The ranks' blocks of {name[:80]!r} do not fit each other.")
        if blocks.setdefault(tuple(at), tuple(ends)) != tuple(ends):
            raise CorruptCheckpoint(f"The ranks' blocks of {name[:80]!r} do not fit each other.")
    if any(_overlap(one, other) for one, other in itertools.combinations(blocks.items(), 2)):
        raise CorruptCheckpoint(f"The ranks' blocks of {name[:80]!r} overlap.")
    sizes = (math.prod(end - start for start, end in zip(at, ends, strict=True)) for at, ends in blocks.items())
    if sum(sizes) != math.prod(first["of"]):
        raise CorruptCheckpoint(f"The ranks' blocks of {name[:80]!r} do not cover it.")
