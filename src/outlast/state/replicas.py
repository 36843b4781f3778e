"""What the ranks of one attempt hold alike is stored once: every rank but the first leaves out what is the same on rank 0."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import xxhash

from outlast.state.array import Array

_SAMPLED = 2**16
"""What an optimizer changes is compared by a sample from this size on: hashing all of it would cost what writing it does."""
_SAMPLES = 64

Arrays = Mapping[str, Mapping[str, Array]]
Prints = dict[str, dict[str, str]]
"""Part -> array name -> a hash of its form and contents; under "" a hash of the part's JSON."""
Known = dict[tuple[str, str], tuple[Any, str]]
"""Part and array name -> the framework's count of changes, and the hash of the array at that count."""


def fingerprints(arrays: Arrays, nodes: Mapping[str, Any], guarded: Collection[Any], known: Known) -> Prints:
    """What two ranks compare.

    Args:
        arrays: part -> name -> array.
        nodes: part -> its JSON.
        guarded: memory that an optimizer changes, and nobody else.
        known: from an earlier call, to spare what has not changed since; it is brought up to date.
    """
    prints: Prints = {
        part: {name: _fingerprint(array, guarded, known, (part, name)) for name, array in found.items()}
        for part, found in arrays.items()
    }
    for part, node in nodes.items():
        prints.setdefault(part, {})[""] = _hash(json.dumps(node, sort_keys=True).encode())
    return prints


def without_copies(
    arrays: Arrays, nodes: Mapping[str, Any], own: Prints, mains: Prints, guarded: Collection[Any]
) -> tuple[dict[str, dict[str, Array]], dict[str, Any]]:
    """The arrays and nodes that rank 0 does not hold, or not like this.

    Args:
        arrays: this rank's.
        nodes: this rank's.
        own: its fingerprints.
        mains: those of rank 0.
        guarded: memory that an optimizer changes. When ranks differ there they do not train together, whatever a sample says of the
            rest, and the whole part is kept. When only a BatchNorm's averages differ, those are.
    """
    kept = {}
    for part, found in arrays.items():
        theirs = mains.get(part, {})
        different = {name for name in found if found[name].shard or own[part][name] != theirs.get(name)}
        untrained = any(
            array.shard is None and array.live is not None and array.live.place in guarded
            for array in (found[name] for name in different)
        )
        kept[part] = {name: found[name] for name in found if untrained or name in different}
    return kept, {part: node for part, node in nodes.items() if own[part][""] != mains.get(part, {}).get("")}


def shards(arrays: Arrays) -> dict[str, Any]:
    """Part -> name -> form of the blocks among these arrays, for state.json."""
    table: dict[str, Any] = {}
    for part, found in arrays.items():
        for name, array in found.items():
            if array.shard:
                whole = {"of": list(array.shard.shape), "at": list(array.shard.at)}
                table.setdefault(part, {})[name] = {"dtype": array.dtype, "shape": list(array.shape), **whole}
    return table


def _fingerprint(array: Array, guarded: Collection[Any], known: Known, key: tuple[str, str]) -> str:
    form = f"{array.dtype} {array.shape} {array.shard}".encode()
    live = array.live
    if array.shard:
        return _hash(form)  # nobody else's anyway
    if live and live.place in guarded and array.nbytes >= _SAMPLED:
        return _hash(form + live.sample(_SAMPLES))
    stamp = live.stamp if live else None
    before, found = known.get(key, (None, ""))
    if stamp is None or before != stamp:
        hasher = xxhash.xxh3_64(form)
        hasher.update(array.data)
        known[key] = (stamp, found := str(hasher.hexdigest()))
    return found


def _hash(data: bytes) -> str:
    return str(xxhash.xxh3_64_hexdigest(data))
