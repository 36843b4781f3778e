"""Compares two packed states, the loaded and the saved one, value by value and byte by byte."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from outlast.state.array import Array

_CHUNK = 2**18  # elements compared at a time, few enough for the cache
_MAPPINGS = ("$dict", "$ordereddict", "$defaultdict")
_SHOWN = 60  # characters of a value in a message


@dataclass
class Comparison:
    """The result of a comparison.

    Attributes:
        found: a sentence for each difference.
        paths: the path of each difference.
        aliased: whether an array has the same memory as the array that it is compared with.
    """

    found: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    aliased: bool = False

    def add(self, place: str, words: str) -> None:
        """Add a difference."""
        self.paths.append(place)
        self.found.append(f"{place} {words}")


Packed = tuple[Any, Mapping[str, Array]]


def differences(part: str, stored: Packed, live: Packed, *, lenient: bool = False) -> Comparison:
    """Compare two packed states.

    Args:
        part: the name of the part, for messages.
        stored: the state in the checkpoint.
        live: the state of the program.
        lenient: ignore what format 1 did not store: layout in memory, `requires_grad`, kinds of dicts.
    """
    comparison = Comparison()
    walk = _Walk(comparison, stored[1], live[1], lenient=lenient)
    walk.nodes(part, (), stored[0], live[0])
    return comparison


class _Walk:
    def __init__(
        self, comparison: Comparison, stored: Mapping[str, Array], live: Mapping[str, Array], *, lenient: bool
    ) -> None:
        self.comparison, self.stored, self.live, self.lenient = comparison, stored, live, lenient
        self.pairs: dict[str, str] = {}  # stored array -> live array
        self.compared: set[tuple[str, str]] = set()

    def nodes(self, part: str, path: tuple[str, ...], then: Any, now: Any) -> None:
        place = f"{part}[{'.'.join(path)}]" if path else part
        if self.lenient:
            then, now = _plain(then), _plain(now)
        if isinstance(then, dict) and isinstance(now, dict):
            if "$array" in then and "$array" in now:
                self.arrays(place, then, now)
                return
            for key in sorted(then.keys() ^ now.keys()):
                where = "the checkpoint" if key in then else "this program"
                self.comparison.add(f"{part}[{'.'.join((*path, key))}]", f"is only in {where}")
            for key in then.keys() & now.keys():
                self.nodes(part, (*path, key), then[key], now[key])
        elif isinstance(then, list) and isinstance(now, list):
            if len(then) != len(now):
                self.comparison.add(place, f"has {len(now)} items and had {len(then)} in the checkpoint")
                return
            for index, (one, other) in enumerate(zip(then, now, strict=True)):
                self.nodes(part, (*path, str(index)), one, other)
        elif type(then) is not type(now) or then != now:
            self.comparison.add(place, f"is {_show(now)} and was {_show(then)} in the checkpoint")

    def arrays(self, place: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        names = (then["$array"], now["$array"])
        known = self.pairs.setdefault(*names)
        if known != names[1]:
            self.comparison.add(place, "shared its memory with another array in the checkpoint, and no longer does")
        facts = (dict(then), dict(now))
        for each in facts:
            each.pop("$array")
            for key in ("stride", "layout", "order", "grad", "parameter") if self.lenient else ():
                each.pop(key, None)
        stored, live = self.stored.get(names[0]), self.live.get(names[1])
        if stored is None or live is None:
            self.comparison.add(place, "is an array that is not there")
            return
        forms = (_form(stored, facts[0]), _form(live, facts[1]))
        if forms[0] != forms[1]:
            self.comparison.add(place, f"is {forms[1]} and was {forms[0]} in the checkpoint")
        elif names not in self.compared:
            self.compared.add(names)
            if not self.same_bytes(stored, live):
                self.comparison.add(place, "has other contents than in the checkpoint")

    def same_bytes(self, stored: Array, live: Array) -> bool:
        import numpy as np

        if live.shard is not None and stored.shard is None:
            stored = stored.region(live.shard.at, live.shape)
        if not live.nbytes:
            return stored.nbytes == 0
        one = np.frombuffer(stored.data, np.uint8)
        address = live.live.address if live.live else None
        if address is not None and address == one.ctypes.data:
            self.comparison.aliased = True
            return True
        other = np.frombuffer(live.data, np.uint8)
        if other.ctypes.data == one.ctypes.data:
            self.comparison.aliased = True
            return True
        if not (len(one) % 8 or one.ctypes.data % 8 or other.ctypes.data % 8):
            one, other = one.view(np.uint64), other.view(np.uint64)  # eight bytes at a time
        return all(
            np.array_equal(one[start : start + _CHUNK], other[start : start + _CHUNK])
            for start in range(0, len(one), _CHUNK)
        )


def _form(array: Array, facts: Mapping[str, Any]) -> str:
    whole = array.shard.shape if array.shard is not None else array.shape
    dtype = facts.get("dtype", array.dtype)
    more = ", ".join(f"{key} {value}" for key, value in sorted(facts.items()) if key not in ("as", "dtype"))
    return f"an array {tuple(whole)} of {dtype} ({facts.get('as')}{', ' + more if more else ''})"


def _plain(node: Any) -> Any:
    key = next(iter(node), "") if isinstance(node, dict) else ""
    if key in _MAPPINGS:
        content = node[key][0] if key == "$defaultdict" else node[key]
        if all(isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in content):
            return {name: item for name, item in content}  # noqa: C416 - the pairs may be any JSON
    return node


def _show(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
