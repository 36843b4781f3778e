"""Saves state that all ranks of an attempt share only once.

Every rank but the first leaves out what is the same on rank 0.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import xxhash

from outlast.state.array import Array

_SAMPLED = 2**16
"""What an optimizer changes is compared by a sample from this size on: hashing all of it would cost what writing it
does."""
_SAMPLES = 64

Arrays = Mapping[str, Mapping[str, Array]]
Prints = dict[str, dict[str, str]]
"""Part -> array name -> a hash of its form and contents; under "" a hash of the part's JSON."""


def fingerprints(arrays: Arrays, nodes: Mapping[str, Any], guarded: Collection[Any]) -> Prints:
    """The fingerprint that two ranks compare.

    Args:
        arrays: part -> name -> array.
        nodes: part -> its JSON.
        guarded: memory that an optimizer changes, and nobody else.
    """
    prints: Prints = {
        part: {name: _fingerprint(array, guarded) for name, array in found.items()} for part, found in arrays.items()
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
        guarded: memory that an optimizer changes. When ranks differ there they do not train together, whatever a sample
            says of the rest, and the whole part is kept. When only a BatchNorm's averages differ, those are.
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


def _fingerprint(array: Array, guarded: Collection[Any]) -> str:
    form = f"{array.dtype} {array.shape} {array.shard}".encode()
    live = array.live
    if array.shard:
        return _hash(form)  # nobody else's anyway
    if live and live.place in guarded and array.nbytes >= _SAMPLED:
        return _hash(form + live.sample(_SAMPLES))
    hasher = xxhash.xxh3_64(form)
    hasher.update(array.data)
    return str(hasher.hexdigest())


def _hash(data: bytes) -> str:
    return str(xxhash.xxh3_64_hexdigest(data))
